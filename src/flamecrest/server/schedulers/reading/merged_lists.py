"""A user's merged records and what was made of them, for as long as nothing changes. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flamecrest.server.schedulers.dialect import JobQuery
from flamecrest.server.schedulers.merging import JobRecord
from flamecrest.server.schedulers.values import Job


@dataclass(frozen=True, slots=True)
class MergedLists:
    """A user's merged records, as of a version of the memory, and the lists that were chosen from them."""

    version: int
    records: list[JobRecord]
    lists: dict[JobQuery, list[Job]]


def index_by_id(records: Iterable[JobRecord]) -> dict[str, list[JobRecord]]:
    """The records by their base ids, and by the other ids under which the scheduler knows them."""
    index: dict[str, list[JobRecord]] = {}
    for record in records:
        index.setdefault(record.base_id, []).append(record)
        if record.raw_id and record.raw_id != record.base_id:
            index.setdefault(record.raw_id, []).append(record)
    return index
