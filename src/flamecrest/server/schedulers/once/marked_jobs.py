"""The jobs of one user that carry a marker, as a search finds them. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

_NUMBER: Final = re.compile(r"[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class MarkedJobs:
    """The first job of each marker: ids by markers.

    `hidden`: the beginnings of the markers of jobs that are there already, and whose markers are not shown yet.
    """

    ids: Mapping[str, str]
    hidden: frozenset[str] = frozenset()

    @classmethod
    def of(cls, found: Iterable[tuple[str, str]], *, hidden: frozenset[str] = frozenset()) -> MarkedJobs:
        """The first of the jobs that are given as marker and id."""
        ids: dict[str, str] = {}
        for marker, job_id in found:
            if marker not in ids or is_before(job_id, ids[marker]):
                ids[marker] = job_id
        return cls(ids, hidden)

    def first(self, beginning: str) -> str | None:
        """The id of the first job whose marker begins so."""
        found = [job_id for marker, job_id in self.ids.items() if marker.startswith(beginning)]
        return min(found, key=_number, default=None)

    def is_certain(self, beginning: str) -> bool:
        """Whether there is no job whose marker begins so, if none was found."""
        return not any(beginning.startswith(one) for one in self.hidden)

    def and_also(self, later: MarkedJobs) -> MarkedJobs:
        """The same with what a later search has found."""
        return MarkedJobs.of([*self.ids.items(), *later.ids.items()], hidden=later.hidden)


def is_before(one: str, other: str) -> bool:
    """Whether the scheduler has taken the first job before the other, by their numbers; False for other ids."""
    return -1 < _number(one) < _number(other)


def _number(job_id: str) -> int:
    found = _NUMBER.match(job_id)
    return -1 if found is None else int(found[0])
