"""Lists of all users' jobs, as far as the user who asks may see them. Never shared with other users."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from flamecrest.server.schedulers.job_lookup import JobSources
from flamecrest.server.schedulers.merging import JobRecord, Snapshot
from flamecrest.server.schedulers.values import SharedList, Stage

from .shared_answers import Answer, SharedAnswers

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.schedulers.counters import SchedulerCounters
    from flamecrest.server.schedulers.dialect import JobQuery
    from flamecrest.server.schedulers.job_lookup import JobLookup
    from flamecrest.server.schedulers.values import Job

    from .port import JobReader, ReadLimits


class AllJobs:
    """The lists of one cluster. When a user has changed jobs, drop that user of all `answers`.

    `on_answer` is told of each answer of the live scheduler. `as_seen` returns its records, or later ones that the user
    has seen. `clock` returns seconds since the epoch.
    """

    def __init__(
        self,
        lookup: JobLookup,
        counters: SchedulerCounters,
        limits: ReadLimits,
        on_answer: Callable[[Hashable, Answer[Snapshot]], None],
        as_seen: Callable[[str, Answer[Snapshot]], list[JobRecord]],
        *,
        clock: Callable[[], float],
    ) -> None:
        self._lookup = lookup
        self._as_seen = as_seen
        self._clock = clock
        answers = limits.answers(counters)
        self._live = answers("all_users", life=limits.life, on_answer=on_answer)
        self._history = answers("all_history", life=limits.history_interval)
        self._lists: SharedAnswers[Answer[list[Job]]] = SharedAnswers("all_lists", counters, life=0.0, max_weight=1)
        self.answers = (self._live, self._lists)

    async def jobs(self, reader: JobReader, query: JobQuery, deadline: Deadline) -> Answer[list[Job]]:
        """The list, made once at a time. Raises as JobLookup.records."""
        question = partial(self._read, reader, query)
        return (await self._lists.ask(reader.user, query, question, deadline)).value

    async def _read(self, reader: JobReader, query: JobQuery, deadline: Deadline) -> Answer[list[Job]]:
        asked = 0.0

        async def live(deadline: Deadline) -> Snapshot:
            nonlocal asked
            read = partial(self._lookup.read, "live", partial(reader.live, query))
            answer = await self._live.ask(reader.user, query, read, deadline)
            asked = answer.asked
            return Snapshot(self._as_seen(reader.user, answer))

        async def history(deadline: Deadline) -> Snapshot:
            read = partial(self._lookup.read, "history", partial(reader.history, query))
            return (await self._history.ask(reader.user, query, read, deadline)).value

        # fails if the live scheduler has not answered
        records = await self._lookup.records(JobSources(live, history if reader.has_history else None), deadline)
        return Answer(SharedList(one.job for one in wanted(reader, query, records, self._clock())), asked)


def wanted(reader: JobReader, query: JobQuery, records: Iterable[JobRecord], now: float) -> Iterable[JobRecord]:
    """The records that belong in the list: those that match, and have not ended before its window (`now`: epoch)."""
    since = now - query.window
    for record in records:
        recent = record.stage is not Stage.ENDED or (record.job.times.end or since) >= since
        if recent and reader.matches(query, record.job):
            yield record
