"""The live queues of several users by one question of an account that sees them all; knows no scheduler.

A user gets the jobs of that user, and the same answer as to the user's own question. Where that is not certain, the
user's own question is asked: for users of whom nothing is known yet, with long queues or odd names, after a failure,
and when a queue is empty that was not. The question is never asked by another user: users may change what the programs
print for themselves, and must not be able to change it for others.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError, Timeout, Upstream
from flamecrest.server.schedulers.merging import JobRecord, Snapshot

from .behind import Background
from .sharing import MAX_USERS as MAX_KNOWN
from .sharing import PATIENCE, PAUSE, Admissions, Kind, Privacy

if TYPE_CHECKING:
    from flamecrest.server.schedulers.counters import SchedulerCounters
    from flamecrest.server.schedulers.job_lookup import JobLookup

    from .shared_answers import Question

GATHERING: Final = 0.05  # seconds that a question waits, at most, for one under way, to be asked with others
LONG_QUEUE: Final = 500  # jobs of a user whose queue is asked for alone
MAX_JOBS: Final = 2000  # jobs of all users of one question, as of their last queues
MAX_USERS: Final = 200  # users of one question
LEAST_PATIENCE: Final = 1.0  # seconds that a joint question may take before each user asks alone; PATIENCE at most
# Neither an option, nor a number (which programs take as a user id), nor several names
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.@-]{0,63}", re.ASCII)


class ManyQueues(Protocol):
    """An account that users cannot influence asks a scheduler about the jobs of several of them."""

    def live(self, users: Sequence[str], deadline: Deadline) -> Coroutine[Any, Any, Snapshot]:
        """Their current jobs, each with its user."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A user's question; its answer is None if the user has to ask alone."""

    user: str
    answer: asyncio.Future[Snapshot | None]


class JointQueues:
    """Joint questions about one cluster.

    A question that begins while another one is under way waits for its end, at most `GATHERING` seconds, and all that
    wait are asked together. A question that waits alone is the user's own, and waits for nothing.
    """

    def __init__(
        self,
        source: ManyQueues,
        lookup: JobLookup,
        counters: SchedulerCounters,
        privacy: Privacy,
        *,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._lookup = lookup
        self._counters = counters
        self._sizes: OrderedDict[str, int] = OrderedDict()  # of the users' last queues
        self._ticks = ticks
        self._admissions = Admissions(ticks)
        self._privacy = privacy
        self._background = Background()
        self._patience = LEAST_PATIENCE
        self._paused_until = float("-inf")
        self._waiting: list[_Waiting] = []
        self._timer: asyncio.TimerHandle | None = None  # of the next question, while some wait for it
        self._gather_until = float("-inf")  # by the clock of the event loop

    def takes(self, user: str) -> bool:
        """Whether the user's queue may be read together with those of others now."""
        known = (
            user in self._admissions and _NAME.fullmatch(user) is not None and self._sizes.get(user, 0) <= LONG_QUEUE
        )
        return known and not self._is_paused() and self._privacy.shows(Kind.JOBS)

    async def read(self, user: str, own: Question[Snapshot], deadline: Deadline) -> Snapshot:
        """The user's live queue; `own` is the user's own question. Raises what that raises."""
        if self.takes(user):
            try:
                if (found := await self._together(user, deadline)) is not None:
                    self._note(user, found)
                    return found
                return await self.alone(user, own, deadline)
            finally:
                self._flush_soon()
        return await self.alone(user, own, deadline)

    async def alone(self, user: str, own: Question[Snapshot], deadline: Deadline) -> Snapshot:
        """Ask the user's own question. Raises what it raises."""
        self._counters.asked["queue"] += 1
        found = await own(deadline)
        self._admissions.admit(user)
        self._note(user, found)
        return found

    def _note(self, user: str, found: Snapshot) -> None:
        self._sizes[user] = len(found.records)
        self._sizes.move_to_end(user)
        if len(self._sizes) > MAX_KNOWN:
            self._sizes.popitem(last=False)

    def _is_paused(self) -> bool:
        return self._ticks() < self._paused_until

    def _failed(self, error: GatewayError) -> None:
        self._lookup.note_failure("queues", error)
        self._paused_until = self._ticks() + PAUSE

    async def _together(self, user: str, deadline: Deadline) -> Snapshot | None:
        """The user's part of a joint question that begins after this call; None: the user has to ask alone."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(user, loop.create_future())
        self._waiting.append(waiting)
        if self._timer is None:
            self._timer = loop.call_at(max(loop.time(), self._gather_until), self._flush, context=Context())
        try:
            await asyncio.wait((waiting.answer,), timeout=deadline.left() / 2)
            return waiting.answer.result() if waiting.answer.done() else None
        finally:
            waiting.answer.cancel()

    def _flush_soon(self) -> None:
        """Ask what waits: a question has ended."""
        self._gather_until = float("-inf")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_later(0, self._flush, context=Context())

    def _flush(self) -> None:
        """Ask what waits."""
        waiting = [one for one in self._waiting if not one.answer.done()]
        self._timer, self._waiting = None, []
        self._gather_until = asyncio.get_running_loop().time() + GATHERING
        for group in self._groups(waiting):
            if len({one.user for one in group}) > 1 and not self._is_paused():
                self._background.start(self._ask(group))
                continue
            for one in group:
                one.answer.set_result(None)

    def _groups(self, waiting: Sequence[_Waiting]) -> Iterator[list[_Waiting]]:
        group: list[_Waiting] = []
        jobs = 0
        for one in waiting:
            size = self._sizes.get(one.user, 0)
            if group and (len(group) >= MAX_USERS or jobs + size > MAX_JOBS):
                yield group
                group, jobs = [], 0
            group.append(one)
            jobs += size
        if group:
            yield group

    async def _ask(self, group: Sequence[_Waiting]) -> None:
        """Ask for several users. If that fails, each asks alone at once."""
        users = sorted({one.user for one in group})
        parts: dict[str, Snapshot] = {}
        self._counters.asked["queues"] += 1
        began = self._ticks()
        try:
            parts = await self._parts(users, Deadline.after(self._patience))
            self._patience = min(PATIENCE, max(LEAST_PATIENCE, 4 * (self._ticks() - began)))
            self._counters.saved["queues"] += len(parts)
        except GatewayError as error:
            self._failed(error)
            if isinstance(error, Timeout):  # all of the scheduler may be slow: then a joint question is the better one
                self._patience = min(PATIENCE, 2 * self._patience)
        finally:
            for one in group:
                if not one.answer.done():
                    one.answer.set_result(parts.get(one.user))

    async def _parts(self, users: Sequence[str], deadline: Deadline) -> dict[str, Snapshot]:
        """The queue of each user of whom the answer is certain to have all jobs."""
        said = Snapshot()

        async def live(deadline: Deadline) -> Snapshot:
            nonlocal said
            said = await self._source.live(users, deadline)
            return said

        async with deadline.enforce("The joint question"):
            found = await self._lookup.read("live", live, deadline)
        records: dict[str, list[JobRecord]] = {user: [] for user in users}
        for one in found.records:
            if one.job.user is None:
                raise Upstream("The scheduler does not say whose a job is")
            if (own := records.get(one.job.user)) is not None:
                own.append(one)
        return {
            user: Snapshot(jobs)
            for user, jobs in records.items()
            if jobs or not (said.unreadable_rows or user in said.unknown_users or self._sizes.get(user, 0))
        }
