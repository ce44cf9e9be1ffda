"""A user's jobs of both sources, merged and in order. Only what has changed is merged again. No I/O, no clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping

from flamecrest.server.schedulers.merging import JobRecord, join, merge, sort_key
from flamecrest.server.schedulers.values import Job, SharedItem, SharedList, Stage


class _Merged(SharedItem[Job]):
    """A merged record. The same job is the same item in all lists, with what was made of it for an answer.

    `end`: epoch; infinite for what has not ended, or without an end.
    """

    __slots__ = ("end", "key", "record")

    def __init__(self, record: JobRecord) -> None:
        super().__init__(record.job)
        self.record, self.key, self.end = record, sort_key(record), _end(record)


_Joined = tuple[JobRecord, JobRecord, JobRecord]  # a live record, one of the history, and both joined


class MergedJobs:
    """The merged records by their base ids: sources agree on these, so each is merged for itself."""

    def __init__(self) -> None:
        self._jobs: dict[str, tuple[_Merged, ...]] = {}
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
            self._jobs[base_id] = tuple(merged)
        else:
            self._jobs.pop(base_id, None)

    def select(self, wanted: Callable[[Job], bool] | None, since: float) -> SharedList[Job]:
        """The list of the wanted jobs (None: of all) that had not ended before `since` (epoch)."""
        if self._ordered is None:
            # nearly in order: those of the last time are
            self._ordered = sorted((one for jobs in self._jobs.values() for one in jobs), key=lambda one: one.key)
        chosen = [one for one in self._ordered if one.end >= since]
        return SharedList.of(chosen if wanted is None else [one for one in chosen if wanted(one.value)])


def _kept(earlier: _Merged | None, record: JobRecord) -> _Merged:
    """The merged record; the earlier object if that is the same."""
    if earlier is not None and (earlier.record is record or earlier.record == record):
        return earlier
    return _Merged(record)


def _end(record: JobRecord) -> float:
    end = record.job.times.end if record.stage is Stage.ENDED else None
    return math.inf if end is None else end


class RecordsByBase:
    """Records by their base ids, and by their ids. The one record of a job is kept without a mapping of its own."""

    def __init__(self) -> None:
        self._records: dict[str, JobRecord | Mapping[str, JobRecord]] = {}
        self._size = 0

    def of(self, base_id: str) -> Mapping[str, JobRecord]:
        """The records with that base id, by id."""
        found = self._records.get(base_id)
        if found is None:
            return {}
        return {found.job.id: found} if isinstance(found, JobRecord) else found

    def put(self, base_id: str, records: Mapping[str, JobRecord]) -> None:
        """Set the records with that base id, by id."""
        self._size += len(records) - len(self.of(base_id))
        if records:
            self._records[base_id] = next(iter(records.values())) if len(records) == 1 else records
        else:
            self._records.pop(base_id, None)

    def drop(self, base_id: str, job_id: str) -> None:
        """Remove one record."""
        self.put(base_id, {key: one for key, one in self.of(base_id).items() if key != job_id})

    def base_ids(self) -> KeysView[str]:
        """All base ids."""
        return self._records.keys()

    def __iter__(self) -> Iterator[JobRecord]:
        for base_id in self._records:
            yield from self.of(base_id).values()

    def __len__(self) -> int:
        return self._size


def index_by_id(records: Iterable[JobRecord]) -> dict[str, list[JobRecord]]:
    """The records by their base ids, and by the other ids under which the scheduler knows them."""
    index: dict[str, list[JobRecord]] = {}
    for record in records:
        index.setdefault(record.base_id, []).append(record)
        if record.raw_id and record.raw_id != record.base_id:
            index.setdefault(record.raw_id, []).append(record)
    return index
