"""The JobReader port: how the shared reads ask a scheduler, and the limits of what they keep."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from flamecrest.server.schedulers.merging import Snapshot

from .shared_answers import SharedAnswers

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.schedulers.counters import SchedulerCounters
    from flamecrest.server.schedulers.dialect import JobQuery
    from flamecrest.server.schedulers.merging import JobRecord
    from flamecrest.server.schedulers.values import Job

MANY: Final = 500  # jobs in one question: one argument of a command may have 128 KiB


class JobReader(Protocol):
    """One user's questions to a scheduler about jobs, as an adapter asks them."""

    user: str
    has_history: bool  # False if `live` knows ended jobs as well

    def live(self, query: JobQuery, deadline: Deadline) -> Coroutine[Any, Any, Snapshot]:
        """The scheduler's current jobs. An unknown job is an empty Snapshot."""
        ...

    def history(self, query: JobQuery, deadline: Deadline) -> Coroutine[Any, Any, Snapshot]:
        """The accounting records."""
        ...

    def queue_id(self, job_id: str) -> str | None:
        """The `base_id` of the job's records in lists; None if no list has it. Raises Invalid, NotFound."""
        ...

    def select(self, job_id: str, records: Iterable[JobRecord]) -> Job | None:
        """The one job that the id means, among records."""
        ...

    def matches(self, query: JobQuery, job: Job) -> bool:
        """Whether account and name of the job are those of the query."""
        ...


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """How long answers are used and how much is remembered.

    `life`: seconds for which an answer of the live queue is used; 0: only requests at the same time share answers.
    `history_interval`: the least seconds between two lists of the accounting for one user. `max_jobs`: the most jobs
    of one cluster that are remembered.
    """

    life: float = 1.0
    history_interval: float = 10.0
    max_jobs: int = 50_000

    def answers(self, counters: SchedulerCounters) -> partial[SharedAnswers[Snapshot]]:
        """How shared answers with jobs are made: their number is bounded by the jobs in them."""
        return partial(
            SharedAnswers[Snapshot], counters=counters, max_weight=self.max_jobs, weigh=lambda one: len(one.records)
        )
