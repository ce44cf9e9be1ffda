"""A user's jobs of both sources, merged and in order. Only what has changed is merged again. No I/O, no clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from flamecrest.server.schedulers.merging import JobRecord, join, merge, sort_key
from flamecrest.server.schedulers.values import Job, SharedItem, SharedList, Stage


@dataclass(frozen=True, slots=True)
class _Merged:
    """A merged record. The same job is the same item in all lists, with what was made of it for an answer."""

    record: JobRecord
    item: SharedItem[Job]
    key: tuple[int, int, str, int]
    end: float  # epoch; infinite for what has not ended, or without an end


_Joined = tuple[JobRecord, JobRecord, JobRecord]  # a live record, one of the history, and both joined


class MergedJobs:
    """The merged records by their base ids: sources agree on these, so each is merged for itself."""

    def __init__(self) -> None:
        self._jobs: dict[str, list[_Merged]] = {}
        self._joined: dict[str, dict[str, _Joined]] = {}  # by base id and id
        self._ordered: list[_Merged] | None = None

    def put(self, base_id: str, live: list[JobRecord], history: Iterable[JobRecord]) -> None:
        """Merge the records with that base id anew."""
        self._ordered = None
        before = self._joined.pop(base_id, {})
        joined: dict[str, _Joined] = {}

        def remembered(live: JobRecord, past: JobRecord | None) -> JobRecord:
            if past is None:
                return live
            known = before.get(live.job.id)
            if known is None or known[0] is not live or known[1] is not past:
                known = live, past, join(live, past)
            joined[live.job.id] = known
            return known[2]

        earlier = {one.record.job.id: one for one in self._jobs.get(base_id, ())}
        merged = [_kept(earlier.get(record.job.id), record) for record in merge(live, history, remembered)]
        if joined:
            self._joined[base_id] = joined
        if merged:
            self._jobs[base_id] = merged
        else:
            self._jobs.pop(base_id, None)

    def select(self, wanted: Callable[[Job], bool] | None, since: float) -> SharedList[Job]:
        """The list of the wanted jobs (None: of all) that had not ended before `since` (epoch)."""
        if self._ordered is None:
            # nearly in order: those of the last time are
            self._ordered = sorted((one for jobs in self._jobs.values() for one in jobs), key=lambda one: one.key)
        chosen = [one.item for one in self._ordered if one.end >= since]
        return SharedList.of(chosen if wanted is None else [one for one in chosen if wanted(one.value)])


def _kept(earlier: _Merged | None, record: JobRecord) -> _Merged:
    """The merged record; the earlier object if that is the same."""
    if earlier is not None and (earlier.record is record or earlier.record == record):
        return earlier
    return _Merged(record, SharedItem(record.job), sort_key(record), _end(record))


def _end(record: JobRecord) -> float:
    end = record.job.times.end if record.stage is Stage.ENDED else None
    return math.inf if end is None else end


def index_by_id(records: Iterable[JobRecord]) -> dict[str, list[JobRecord]]:
    """The records by their base ids, and by the other ids under which the scheduler knows them."""
    index: dict[str, list[JobRecord]] = {}
    for record in records:
        index.setdefault(record.base_id, []).append(record)
        if record.raw_id and record.raw_id != record.base_id:
            index.setdefault(record.raw_id, []).append(record)
    return index
