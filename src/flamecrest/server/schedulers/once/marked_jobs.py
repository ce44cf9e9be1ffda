"""The jobs of one user that carry a marker, as a search finds them. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

_NUMBER: Final = re.compile(r"[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class MarkedJobs:
    """The first job of each marker: ids by markers. `certain`: whether a marker that is missing has no job."""

    ids: Mapping[str, str]
    certain: bool = True

    @classmethod
    def of(cls, found: Iterable[tuple[str, str]], *, certain: bool = True) -> MarkedJobs:
        """The first of the jobs that are given as marker and id."""
        ids: dict[str, str] = {}
        for marker, job_id in found:
            if marker not in ids or is_before(job_id, ids[marker]):
                ids[marker] = job_id
        return cls(ids, certain)

    def first(self, beginning: str) -> str | None:
        """The id of the first job whose marker begins so."""
        found = [job_id for marker, job_id in self.ids.items() if marker.startswith(beginning)]
        return min(found, key=_number, default=None)

    def and_also(self, later: MarkedJobs) -> MarkedJobs:
        """The same with what a later search has found."""
        return MarkedJobs.of([*self.ids.items(), *later.ids.items()], certain=later.certain)


def is_before(one: str, other: str) -> bool:
    """Whether the scheduler has taken the first job before the other, by their numbers; False for other ids."""
    return -1 < _number(one) < _number(other)


def _number(job_id: str) -> int:
    found = _NUMBER.match(job_id)
    return -1 if found is None else int(found[0])
