"""Jobs as many requests read them: one question to the scheduler serves all who ask the same at the same time.

A user's live queue is asked once per moment, and lists, single jobs and filters are answered from it. The accounting
is asked only for what the queue does not know. Knows no scheduler and no transport: an adapter gives a JobReader.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError
from flamecrest.server.schedulers.dialect import JobQuery
from flamecrest.server.schedulers.job_lookup import RECOVERABLE, RECOVERABLE_HISTORY, JobSources
from flamecrest.server.schedulers.merging import JobRecord, Snapshot, merge
from flamecrest.server.schedulers.values import SharedList

from .all_jobs import AllJobs, wanted
from .behind import ReadsBehind, read_unlisted
from .live_queues import LiveQueues
from .merged_jobs import index_by_id
from .port import MANY, JobReader, ReadLimits
from .shared_answers import Answer
from .sharing import MAX_USERS
from .user_jobs import UserJobs

if TYPE_CHECKING:
    from flamecrest.server.schedulers.counters import SchedulerCounters
    from flamecrest.server.schedulers.job_lookup import JobLookup
    from flamecrest.server.schedulers.values import Job

    from .joint_queues import JointQueues

LIVE_PATIENCE: Final = 0.5  # seconds after which the accounting is asked for a job although the queue has not answered
SLICE: Final = 500  # jobs that are merged before other tasks run: some 10 ms
_NOTHING: Final = Snapshot()
_BY_ID: Final = "by id"  # of an answer's parts: its records by their base ids


class JobReads:
    """The shared reads of one cluster's jobs. `clock` returns seconds since the epoch, `ticks` monotonic ones.

    `joint` asks about the queues of several users at once; None: each user asks alone.
    """

    def __init__(
        self,
        lookup: JobLookup,
        counters: SchedulerCounters,
        limits: ReadLimits,
        *,
        joint: JointQueues | None = None,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lookup = lookup
        self._ticks = ticks
        self._limits = limits
        self._clock = clock
        self._users: OrderedDict[str, UserJobs] = OrderedDict()
        self._news: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()  # while somebody waits
        answers = limits.answers(counters)
        self._queues = LiveQueues(lookup, counters, limits, self._queue_answered, joint=joint)
        self._single = answers("job", life=limits.life, on_answer=self._single_answered)
        self._history = answers("history", life=0.0)
        self._behind = ReadsBehind(limits.history_interval / 4)  # of lists
        self._all = AllJobs(lookup, counters, limits, self._all_answered, self._as_seen, clock=clock)

    # what an adapter calls

    async def jobs(self, reader: JobReader, query: JobQuery, deadline: Deadline) -> Answer[list[Job]]:
        """The jobs of a list, with those that ended within its window. Raises as JobLookup.records."""
        if query.user != reader.user:
            return await self._all.jobs(reader, query, deadline)
        user = self._user(reader.user)
        live = self._queues.peek(reader)
        if live is None or (reader.has_history and self._due_now(reader, user, query.window, deadline) is not None):
            live, unkept = await self._list(reader, user, query.window, deadline)
            if unkept:
                records = merge(user.live(live.value.records, live.asked), [*user.listed(), *unkept])
                return Answer(self._own(reader, query, records), live.asked)
        while user.merge_some(SLICE):
            await asyncio.sleep(0)
            live = self._queues.peek(reader) or live
        return self._selected(reader, user, live, query)

    async def job(self, reader: JobReader, job_id: str, deadline: Deadline) -> Answer[Job]:
        """One job. Raises as JobLookup.find."""
        return await self._find(reader, job_id, reader.queue_id(job_id), deadline)

    async def jobs_by_id(
        self, reader: JobReader, job_ids: Sequence[str], deadline: Deadline
    ) -> dict[str, Answer[Job] | GatewayError]:
        """Each job, or the error that `job` would raise for it. What is not known yet takes one question for all."""
        found: dict[str, Answer[Job] | GatewayError] = {}
        local: dict[str, str] = {}
        others: list[str] = []
        for job_id in dict.fromkeys(job_ids):
            try:
                base_id = reader.queue_id(job_id)
            except GatewayError as error:
                found[job_id] = error
                continue
            if base_id is None:
                others.append(job_id)
            else:
                local[job_id] = base_id
        with suppress(*RECOVERABLE):  # then each job's own search raises what is wrong
            for first in range(0, len(local), MANY):
                await self._ask_together(reader, dict(list(local.items())[first : first + MANY]), deadline)
        wanted = [*local, *others]
        finding = (self._outcome(reader, job_id, local.get(job_id), deadline) for job_id in wanted)
        found |= dict(zip(wanted, await asyncio.gather(*finding), strict=True))
        return {job_id: found[job_id] for job_id in dict.fromkeys(job_ids)}

    def written(self, user: str, job_id: str | None = None) -> None:
        """Forget the answers of a user who has changed jobs, or may have; `job_id` is that of a new job.

        Questions in flight are answered to those who wait, and not joined.
        """
        for answers in (self._queues.answers, self._single, *self._all.answers):
            answers.drop(user)
        changed = self._queues.changed
        changed[user] = None
        if len(changed) > MAX_USERS:
            changed.popitem(last=False)
        if (news := self._news.pop(user, None)) is not None:
            news.set()
        jobs = self._user(user)
        jobs.changed = self._ticks()
        if job_id is not None:
            jobs.own.add(job_id)

    async def news(self, user: str, seconds: float) -> None:
        """Return when the user has changed jobs, after `seconds` at the latest."""
        if (news := self._news.get(user)) is None:
            self._news[user] = news = asyncio.Event()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await news.wait()

    # lists

    async def _list(
        self, reader: JobReader, user: UserJobs, window: int, deadline: Deadline
    ) -> tuple[Answer[Snapshot], Sequence[JobRecord]]:
        """The user's queue, once the accounting has been read if that is due, and its records that are not kept."""
        found: Answer[Snapshot] | None = None
        unkept: Sequence[JobRecord] = ()

        async def live(deadline: Deadline) -> Snapshot:
            nonlocal found
            found = await self._queues.ask(reader, deadline)
            return _NOTHING

        async def history(deadline: Deadline) -> Snapshot:
            nonlocal unkept
            if self._list_due(user, window) is None or self._is_recent(user, window):
                with suppress(*RECOVERABLE):  # the queue may show that jobs have vanished from it
                    await self._queues.ask(reader, deadline)
            if (due := self._due_now(reader, user, window, deadline)) is not None:
                question = partial(self._read_list, reader, user, due)
                answer = await self._history.ask(user.user, ("list", due), question, deadline)
                unkept = answer.value.records if self._list_due(user, window) is not None else ()
            return _NOTHING

        await self._lookup.records(JobSources(live, history if reader.has_history else None), deadline)
        if found is None:
            raise RuntimeError("the live source has neither answered nor failed")
        return found, unkept

    async def _read_list(self, reader: JobReader, user: UserJobs, window: int, deadline: Deadline) -> Snapshot:
        now, epoch = self._ticks(), self._clock()
        source = partial(reader.history, JobQuery(user=user.user, window=window))
        try:
            snapshot = await self._lookup.read("history", source, deadline)
        except RECOVERABLE_HISTORY:
            user.tried(window, now)
            raise
        user.add_list(snapshot.records, window, now, epoch)
        await read_unlisted(self._lookup, reader, user, deadline)
        self._bound()
        return snapshot

    def _list_due(self, user: UserJobs, window: int) -> int | None:
        return user.list_due(window, self._ticks(), self._clock())

    def _is_recent(self, user: UserJobs, window: int) -> bool:
        return user.is_recent(window, self._ticks(), self._clock())

    def _due_now(self, reader: JobReader, user: UserJobs, window: int, deadline: Deadline) -> int | None:
        """What the caller has to read of the accounting. If what is known will do, it is read behind the answer."""
        due = user.list_due(window, self._ticks(), self._clock())
        if due is None or not self._is_recent(user, window):
            return due
        self._behind.add(user.user, partial(self._read_behind, reader, user, window, deadline.left()))
        return None

    async def _read_behind(self, reader: JobReader, user: UserJobs, window: int, seconds: float) -> None:
        """Read the accounting. It has no more `seconds` than a request: others of the user wait for its channel."""
        if (due := self._list_due(user, window)) is None:  # a caller who could not wait has read it
            return
        question, deadline = partial(self._read_list, reader, user, due), Deadline.after(seconds)
        try:
            await self._history.ask(user.user, ("list", due), question, deadline)
        except GatewayError as error:
            self._lookup.note_failure("history", error)

    def _selected(
        self, reader: JobReader, user: UserJobs, live: Answer[Snapshot], query: JobQuery
    ) -> Answer[list[Job]]:
        """The list for a query; the same object as long as nothing has changed."""
        made: tuple[int, Answer[list[Job]]] | None = live.parts.get(query)
        if made is None or made[0] != user.version:
            if user.is_last(live):
                chosen = partial(reader.matches, query) if query.account or query.name else None
                found: list[Job] = user.merged().select(chosen, self._clock() - query.window)
            else:
                found = self._own(reader, query, merge(user.live(live.value.records, live.asked), user.listed()))
            live.parts[query] = made = user.version, Answer(found, live.asked)
        return made[1]

    def _own(self, reader: JobReader, query: JobQuery, records: Iterable[JobRecord]) -> list[Job]:
        found = wanted(reader, query, records, self._clock())
        return SharedList(one.job for one in found if one.job.user in {None, reader.user})

    # single jobs

    async def _find(self, reader: JobReader, job_id: str, base_id: str | None, deadline: Deadline) -> Answer[Job]:
        user = self._user(reader.user)
        queue = self._queues.peek(reader)
        in_queue = self._of_job(user, queue, base_id) if queue is not None and base_id is not None else []
        asked = self._ticks()
        records: list[JobRecord] | None = None  # of the live scheduler, once it has answered
        answered = asyncio.Event()

        async def live(deadline: Deadline) -> Snapshot:
            nonlocal asked, records
            try:
                answer = await self._live(reader, user, job_id, base_id, deadline)
                asked = answer.asked
                records = list(answer.value.records) if base_id is None else self._of_job(user, answer, base_id)
            finally:
                answered.set()
            return Snapshot(records)

        async def history(deadline: Deadline) -> Snapshot:
            if in_queue or (base_id is not None and user.prefers_queue(base_id, self._ticks())):
                with suppress(TimeoutError):
                    async with asyncio.timeout(LIVE_PATIENCE):
                        await answered.wait()
            known = user.seen(base_id) if records is None and base_id is not None else records or ()
            if user.job_due(job_id, base_id, known, self._ticks()):
                question = partial(self._read_job, reader, user, job_id)
                answer = await self._history.ask(user.user, job_id, question, deadline)
                return Snapshot(user.past(job_id, base_id) or answer.value.records)
            return Snapshot(user.past(job_id, base_id))

        if queue is not None and in_queue and not user.job_due(job_id, base_id, in_queue, self._ticks()):
            job = reader.select(job_id, merge(in_queue, user.past(job_id, base_id)))
            if job is not None:
                return Answer(job, queue.asked)
        sources = JobSources(live, history if reader.has_history else None)
        job = await self._lookup.find(job_id, sources, partial(reader.select, job_id), deadline)
        return Answer(job, asked)

    async def _outcome(
        self, reader: JobReader, job_id: str, base_id: str | None, deadline: Deadline
    ) -> Answer[Job] | GatewayError:
        try:
            return await self._find(reader, job_id, base_id, deadline)
        except GatewayError as error:
            return error

    async def _live(
        self, reader: JobReader, user: UserJobs, job_id: str, base_id: str | None, deadline: Deadline
    ) -> Answer[Snapshot]:
        """An answer of the live scheduler that has the job if the scheduler knows it."""
        if base_id is not None:
            queue = self._queues.peek(reader)
            if queue is not None and self._of_job(user, queue, base_id):
                return queue
            if user.prefers_queue(base_id, self._ticks()):
                return await self._queues.ask(reader, deadline)
            user.singles[base_id] = self._ticks()
        read = partial(self._lookup.read, "live", partial(reader.live, JobQuery(job_id=job_id)))
        return await self._single.ask(user.user, job_id, read, deadline)

    async def _read_job(self, reader: JobReader, user: UserJobs, job_id: str, deadline: Deadline) -> Snapshot:
        now = self._ticks()
        snapshot = await self._lookup.read("history", partial(reader.history, JobQuery(job_id=job_id)), deadline)
        user.add_job(job_id, snapshot.records, now)
        self._bound()
        return snapshot

    def _of_job(self, user: UserJobs, answer: Answer[Snapshot], base_id: str) -> list[JobRecord]:
        """The live records of one job, in an answer and in what the user has seen since."""
        index: dict[str, list[JobRecord]] | None = answer.parts.get(_BY_ID)
        if index is None:
            answer.parts[_BY_ID] = index = index_by_id(answer.value.records)
        return user.live(index.get(base_id, ()), answer.asked, base_id)

    async def _ask_together(self, reader: JobReader, base_ids: dict[str, str], deadline: Deadline) -> None:
        """Ask one question to each source for those jobs that are not known, and keep the answers for each job."""
        user, now = self._user(reader.user), self._ticks()
        queue = self._queues.peek(reader)
        if queue is None and any(user.prefers_queue(base_id, now) for base_id in base_ids.values()):
            queue = await self._queues.ask(reader, deadline)
        live = {key: self._of_job(user, queue, base_id) if queue else [] for key, base_id in base_ids.items()}
        unknown = {key: base_ids[key] for key, found in live.items() if not found}
        past = {key: base_ids[key] for key, found in live.items() if user.job_due(key, base_ids[key], found, now)}
        await asyncio.gather(
            self._live_together(reader, unknown, deadline),
            self._history_together(reader, past if reader.has_history else {}, deadline),
        )

    async def _live_together(self, reader: JobReader, base_ids: dict[str, str], deadline: Deadline) -> None:
        if len(base_ids) < 2:
            return
        read = partial(self._lookup.read, "live", partial(reader.live, JobQuery(job_ids=tuple(base_ids))))
        answer = await self._single.ask(reader.user, tuple(base_ids), read, deadline)
        index = index_by_id(answer.value.records)
        for job_id, base_id in base_ids.items():
            part: Answer[Snapshot] = Answer(Snapshot(index.get(base_id, ())), answer.asked)
            self._single.put(reader.user, job_id, part)

    async def _history_together(self, reader: JobReader, base_ids: dict[str, str], deadline: Deadline) -> None:
        if len(base_ids) < 2:
            return
        now, user = self._ticks(), self._user(reader.user)
        read = partial(self._lookup.read, "history", partial(reader.history, JobQuery(job_ids=tuple(base_ids))))
        answer = await self._history.ask(reader.user, tuple(base_ids), read, deadline)
        index = index_by_id(answer.value.records)
        for job_id, base_id in base_ids.items():
            user.add_job(job_id, index.get(base_id, ()), now)
        self._bound()

    def _queue_answered(self, user: Hashable, answer: Answer[Snapshot]) -> None:
        self._user(str(user)).observe(answer, whole=True)
        self._bound()

    def _single_answered(self, user: Hashable, answer: Answer[Snapshot]) -> None:
        self._user(str(user)).observe(answer, whole=False)
        self._bound()

    def _as_seen(self, user: str, answer: Answer[Snapshot]) -> list[JobRecord]:
        return self._user(user).live(answer.value.records, answer.asked)

    def _all_answered(self, user: Hashable, answer: Answer[Snapshot]) -> None:
        """Remember the user's own jobs; answers for single jobs are now older than what the user sees."""
        own = tuple(record for record in answer.value.records if record.job.user == user)
        self._single.drop(user)
        self._user(str(user)).observe(Answer(Snapshot(own), answer.asked), whole=False)
        self._bound()

    def _user(self, name: str) -> UserJobs:
        user = self._users.get(name)
        if user is None:
            user = UserJobs(name, life=self._limits.life, interval=self._limits.history_interval)
            self._users[name] = user
        self._users.move_to_end(name)
        return user

    def _bound(self) -> None:
        """Forget the users that have not asked for longest, and shorten the memory of the last one."""
        weight = sum(user.weight for user in self._users.values())
        while weight > self._limits.max_jobs and len(self._users) > 1:
            weight -= self._users.popitem(last=False)[1].weight
        if weight > self._limits.max_jobs:
            next(iter(self._users.values())).shrink(self._limits.max_jobs)
