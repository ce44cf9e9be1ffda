"""Job queries over two sources, a scheduler's live state and its accounting history.

Both sources are asked at once and their answers are merged. A source is any function that returns a Snapshot:
a command-line program or a REST request. This module knows no scheduler and no transport.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import Busy, Denied, GatewayError, Timeout, Unavailable, Upstream

from .job_errors import job_not_found
from .merging import JobRecord, Snapshot, merge
from .values import Stage

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline

    from .counters import SchedulerCounters
    from .values import Job

# The failures of one source that the other can make up for. If both fail, the first kind in this order is raised.
RECOVERABLE: Final = (Unavailable, Upstream, Timeout, Busy)
# A site may forbid its users to read the accounting. The queue answers all the same.
RECOVERABLE_HISTORY: Final = (*RECOVERABLE, Denied)
SECOND_SOURCE_SECONDS: Final = 3.0  # how long the second source is waited for after the first has found the job
_MANY: Final = 2000  # records that are merged in a thread, so that other requests are served meanwhile
_RESERVE: Final = 0.1  # the part of a deadline that is kept for an answer from one source

_log: Final = logging.getLogger(__name__)

Source = Callable[["Deadline"], Awaitable[Snapshot]]
Select = Callable[[Iterable[JobRecord]], "Job | None"]  # the job that an id means, among records


@dataclass(frozen=True, slots=True)
class JobSources:
    """The two sources of one query. `history` is None where the live source knows ended jobs as well."""

    live: Source
    history: Source | None


@dataclass(frozen=True, slots=True)
class _Answers:
    """The answer of each source, or the error that it failed with."""

    live: Snapshot | GatewayError
    history: Snapshot | GatewayError

    @property
    def size(self) -> int:
        """The number of records."""
        return sum(len(one.records) for one in (self.live, self.history) if not isinstance(one, GatewayError))

    def merged(self) -> list[JobRecord]:
        """The merged records. Raises the more severe error if both sources failed."""
        live, history = (None if isinstance(one, GatewayError) else one.records for one in (self.live, self.history))
        if live is None and history is None:
            raise min(self.failures(), key=_severity)
        return merge(live, history)

    def failures(self) -> list[GatewayError]:
        return [one for one in (self.live, self.history) if isinstance(one, GatewayError)]


class JobLookup:
    """Asks both sources and merges their answers.

    `scheduler` names the scheduler in log lines. `second_source_seconds`: see SECOND_SOURCE_SECONDS.
    """

    def __init__(
        self, scheduler: str, counters: SchedulerCounters, *, second_source_seconds: float = SECOND_SOURCE_SECONDS
    ) -> None:
        self._scheduler = scheduler
        self._counters = counters
        self._second_source_seconds = second_source_seconds

    async def records(self, sources: JobSources, deadline: Deadline) -> list[JobRecord]:
        """All jobs of both sources, merged. If the history fails, those of the live source.

        Raises the failure of the live source: the history gets jobs late, and a client takes a job that is missing from
        a list as gone. For the same reason both sources are waited for until the deadline.
        """
        answers = await self._ask(sources, deadline, lambda _: False)
        merged = await asyncio.to_thread(answers.merged) if answers.size > _MANY else answers.merged()
        if isinstance(answers.live, GatewayError):
            raise answers.live
        return merged

    async def find(self, job_id: str, sources: JobSources, select: Select, deadline: Deadline) -> Job:
        """The job that `select` finds in the merged records.

        As soon as one source knows the job, the other is waited for `second_source_seconds` at most; until the
        deadline if only ended parts of the job are known: the other source may know parts that have failed. Raises
        NotFound if both sources answered, else the failure of the source that did not. A history that the user may not
        read is such a failure.
        """

        def is_enough(snapshot: Snapshot) -> bool:
            return _is_enough(select, _real(snapshot.records))

        answers = await self._ask(sources, deadline, is_enough)
        job = select(_real(answers.merged()))
        if job is not None:
            return job
        if failures := answers.failures():
            message = f"Cannot tell whether job {job_id} exists: {failures[0].public}"
            raise type(failures[0])(message, detail=failures[0].detail)
        raise job_not_found(job_id)

    def note_failure(self, operation: str, error: GatewayError) -> None:
        """Count and log a failure that the request survives."""
        self._counters.failures[operation] += 1
        _log.warning("%s: %s failed: %s", self._scheduler, operation, error.detail or error.public)

    async def _ask(
        self,
        sources: JobSources,
        deadline: Deadline,
        is_enough: Callable[[Snapshot], bool],
    ) -> _Answers:
        early = before(deadline)
        tasks = {
            "live": asyncio.create_task(self._answer("live", sources.live, early, RECOVERABLE)),
            "history": asyncio.create_task(self._answer("history", sources.history, early, RECOVERABLE_HISTORY)),
        }
        try:
            until = deadline.left()
            done, pending = await asyncio.wait(tasks.values(), timeout=until, return_when=asyncio.FIRST_COMPLETED)
            if pending:
                answers = [task.result() for task in done]
                enough = any(not isinstance(one, GatewayError) and is_enough(one) for one in answers)
                until = min(deadline.left(), self._second_source_seconds) if enough else deadline.left()
                await asyncio.wait(pending, timeout=until)
            return _Answers(*(self._result(source, task) for source, task in tasks.items()))
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def _answer(
        self, name: str, source: Source | None, deadline: Deadline, recoverable: tuple[type[GatewayError], ...]
    ) -> Snapshot | GatewayError:
        """The source's snapshot, or the recoverable error that it failed with; other errors are raised."""
        if source is None:
            return Snapshot()
        try:
            return await self.read(name, source, deadline)
        except recoverable as error:
            self.note_failure(name, error)
            return error

    async def read(self, name: str, source: Source, deadline: Deadline) -> Snapshot:
        """Ask a source, and count and log the rows and states that are not understood; the result has none.

        Raises what the source raises, and Upstream if none of its rows can be read.
        """
        snapshot = await source(deadline)
        if not snapshot.unreadable_rows and not snapshot.unknown_states:
            return snapshot
        self._counters.unreadable_rows[name] += snapshot.unreadable_rows
        self._counters.count_unknown_states(name, snapshot.unknown_states)
        states = snapshot.unknown_states[:10]
        _log.warning(
            "%s: %s: %d unreadable rows, unknown states %s", self._scheduler, name, snapshot.unreadable_rows, states
        )
        if snapshot.unreadable_rows and not snapshot.records:
            raise Upstream(f"None of the scheduler's {snapshot.unreadable_rows} rows about jobs could be read")
        return Snapshot(snapshot.records)

    def _result(self, name: str, task: asyncio.Task[Snapshot | GatewayError]) -> Snapshot | GatewayError:
        if task.done():
            return task.result()
        error = Timeout(f"The scheduler's {name} source did not answer in time")
        self.note_failure(name, error)
        return error


def before(deadline: Deadline) -> Deadline:
    """A point a little before the deadline, so that time is left to answer without what is late."""
    return deadline.sub(deadline.left() * (1 - _RESERVE))


def _is_enough(select: Select, records: Sequence[JobRecord]) -> bool:
    """Whether the records have the job itself, or a part of it that has not ended."""
    job = select(records)
    return job is not None and any(one.job.id == job.id or one.stage is not Stage.ENDED for one in records)


def _real(records: Iterable[JobRecord]) -> list[JobRecord]:
    """The records without placeholders: those are no proof that the job is known."""
    return [record for record in records if not record.placeholder]


def _severity(error: GatewayError) -> int:
    return next(place for place, kind in enumerate(RECOVERABLE_HISTORY) if isinstance(error, kind))
