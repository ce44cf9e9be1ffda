"""Jobs that have left the queue before anybody saw their end. Pure: no I/O, no clock of its own.

The accounting's next list has most of them. It does not have a job that was held until it was cancelled: lists are of
jobs that could have started. Such a job is asked for by its id. Times are monotonic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from flamecrest.server.schedulers.array_elements import ArrayElements

from .port import MANY

if TYPE_CHECKING:
    from flamecrest.server.schedulers.merging import JobRecord, Snapshot

    from .merged_jobs import RecordsByBase
    from .shared_answers import Answer

QUESTIONS: Final = 3  # for a job by its id: the accounting may get it late, or never
MOST: Final = 10_000  # jobs that are remembered


class VanishedJobs:
    """Those of one user, from the queue that does not have them any more until the accounting is known to have them."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[JobRecord, float]] = {}  # when the queue without them was asked for
        self._missing: dict[str, tuple[JobRecord, int]] = {}  # no list has them; how often they were asked for

    def __bool__(self) -> bool:
        """Whether the next list is to be read for them."""
        return bool(self._left)

    def add(self, record: JobRecord, queue: Answer[Snapshot]) -> None:
        """Note a record that the queue no longer has, if the queue has no others of all its elements."""
        if len(self._left) >= MOST:
            return
        if record.elements is not None:
            queued = {one.job.id: one for one in queue.value.records if one.base_id == record.base_id}
            if _is_known(record, queued):
                return
        self._left[record.job.id] = (record, queue.asked)

    def list_asked(self, now: float) -> None:
        """Note that a list was asked for: those that had left before are in it, or missing."""
        for job_id, (record, asked) in list(self._left.items()):
            if asked <= now:
                del self._left[job_id]
                self._missing[job_id] = (record, 0)

    def unlisted(self, listed: RecordsByBase) -> tuple[str, ...]:
        """The base ids to ask for, once. `listed`: all records of lists."""
        ids: dict[str, None] = {}
        for job_id, (record, questions) in list(self._missing.items()):
            if questions >= QUESTIONS or _is_known(record, listed.of(record.base_id)):
                del self._missing[job_id]
            elif record.base_id in ids or len(ids) < MANY:
                ids[record.base_id] = None
                self._missing[job_id] = (record, questions + 1)
        return tuple(ids)


def _is_known(record: JobRecord, known: Mapping[str, JobRecord]) -> bool:
    """Whether all that the record is about is in others."""
    if record.job.id in known:
        return True
    if record.elements is None:
        return False
    rest = record.elements
    for one in known.values():
        rest = rest - (one.elements or ArrayElements())
    return not rest
