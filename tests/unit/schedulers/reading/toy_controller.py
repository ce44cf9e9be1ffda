"""A scheduler in virtual time that answers each user, and an account of the gateway's that asks about several."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError
from flamecrest.server.schedulers.counters import SchedulerCounters
from flamecrest.server.schedulers.dialect import JobQuery
from flamecrest.server.schedulers.job_lookup import JobLookup
from flamecrest.server.schedulers.merging import Snapshot
from flamecrest.server.schedulers.reading.joint_queues import JointQueues
from flamecrest.server.schedulers.reading.live_queues import LiveQueues
from flamecrest.server.schedulers.reading.port import ReadLimits
from flamecrest.server.schedulers.reading.shared_answers import Answer
from flamecrest.server.schedulers.reading.sharing import Kind, Privacy
from flamecrest.server.schedulers.values import Job, Stage

from .toy_queue import Reader as JobsReader
from .toy_queue import record
from .virtual_time import now


@dataclass
class Controller:
    """It takes `seconds` for an answer, which is as of the question. The account of a job is when that was.

    `asked` has who has asked, when, and about whom. `several` changes the answer about several users.
    """

    seconds: Callable[[], float] = lambda: 0.05
    own_seconds: Callable[[], float] | None = None
    jobs: dict[str, int] = field(default_factory=dict)  # of each user; 1 for those who are not named
    private: frozenset[Kind] = frozenset()
    faults: dict[str, GatewayError] = field(default_factory=dict)  # by who asks
    several: Callable[[Snapshot], Snapshot] = lambda found: found
    asked: list[tuple[str, float, tuple[str, ...]]] = field(default_factory=list)

    async def answer(self, asker: str, users: Sequence[str]) -> Snapshot:
        began = now()
        self.asked.append((asker, began, tuple(users)))
        took = self.seconds if asker == "service" or self.own_seconds is None else self.own_seconds
        numbers = {user: self.jobs.get(user, 1) for user in users}
        await asyncio.sleep(took())
        if asker in self.faults:
            raise self.faults[asker]
        return Snapshot(
            [
                record(f"{number}", "RUNNING", user, account=str(began))
                for user in users
                for number in range(numbers[user])
            ]
        )

    def joint(self) -> list[tuple[str, ...]]:
        """The users of each joint question."""
        return [users for asker, _, users in self.asked if asker == "service"]

    def own(self, user: str) -> int:
        """How many questions a user has asked."""
        return sum(asker == user for asker, _, _ in self.asked)


class Service:
    """The account of the gateway's."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.asked_privacy = 0

    async def live(self, users: Sequence[str], deadline: Deadline) -> Snapshot:
        async with deadline.enforce("The list"):
            return self.controller.several(await self.controller.answer("service", users))

    async def private(self, deadline: Deadline) -> frozenset[Kind]:
        self.asked_privacy += 1
        async with deadline.enforce("The configuration"):
            await asyncio.sleep(self.controller.seconds())
        return self.controller.private


class Reader(JobsReader):
    """One user's own questions."""

    def __init__(self, controller: Controller, user: str) -> None:
        self.controller = controller
        self.user = user

    async def live(self, query: JobQuery, deadline: Deadline) -> Snapshot:
        assert query == JobQuery(user=self.user)
        async with deadline.enforce("The queue"):
            return await self.controller.answer(self.user, (self.user,))


class Site:
    """The live queues of a cluster. `answers` counts those that were kept."""

    def __init__(self, controller: Controller, *, life: float = 1.0, joint: bool = True) -> None:
        self.controller = controller
        self.counters = SchedulerCounters()
        self.service = Service(controller)
        self.lookup = JobLookup("toy", self.counters)
        self.queues = LiveQueues(
            self.lookup,
            self.counters,
            ReadLimits(life=life),
            self._on_answer,
            joint=self._joint() if joint else None,
        )
        self.answers = 0

    def _joint(self) -> JointQueues:
        privacy = Privacy(self.service.private, self.counters, self.lookup.note_failure, ticks=now)
        return JointQueues(self.service, self.lookup, self.counters, privacy, ticks=now)

    def _on_answer(self, _user: Hashable, _answer: Answer[Snapshot]) -> None:
        self.answers += 1

    async def ask(self, user: str) -> list[Job]:
        """The user's jobs, as a request gets them."""
        reader = Reader(self.controller, user)
        found = self.queues.peek(reader) or await self.queues.ask(reader, Deadline.after(60))
        jobs = [one.job for one in found.value.records]
        assert {job.user for job in jobs} <= {user}
        assert all(job.stage is Stage.RUNNING for job in jobs)
        return jobs

    def written(self, user: str) -> None:
        """The user has changed jobs."""
        self.queues.answers.drop(user)
        self.queues.changed[user] = None

    async def as_of(self, user: str) -> float:
        """When the scheduler was asked for what the user gets."""
        return float((await self.ask(user))[0].account or "")

    async def let_in(self, *users: str) -> None:
        """Each user asks once, so that all are known, and so is what is private; their answers have ended then."""
        await asyncio.gather(*(self.ask(user) for user in users))
        await asyncio.gather(*(self.ask(user) for user in users))
        await asyncio.sleep(5)
        self.controller.asked.clear()
