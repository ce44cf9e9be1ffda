"""Job ids of PBS: their syntax, and the job record that an id means.

`123` and `123.server` are a job, `123[]` and `123[].server` an array, `123[4]` and `123[4].server` an element of one.
A job is known by its number; a server, if given, must be that of the job.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from flamecrest.server.errors import Field, Invalid
from flamecrest.server.schedulers.merging import JobRecord
from flamecrest.server.schedulers.values import Job

_ID: Final = re.compile(r"([0-9]{1,18})(\[(?:[0-9]{1,10})?\])?(?:\.([A-Za-z0-9][A-Za-z0-9.-]{0,253}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class PbsJobId:
    """A job, an array (`index` is empty), or an element of an array."""

    number: str
    index: str | None = None
    server: str = ""

    @classmethod
    def parse(cls, text: str) -> PbsJobId:
        """Parse an id as written by a caller. Raises Invalid."""
        found = cls.printed(text)
        if found is None:
            message = "Invalid job id. Examples: 123, 123.server, 123[], 123[4].server"
            raise Invalid(message, fields=(Field("path", "job_id", message),))
        return found

    @classmethod
    def printed(cls, text: str) -> PbsJobId | None:
        """Parse an id as printed by a program; None if it is none."""
        found = _ID.fullmatch(text)
        if found is None:
            return None
        number, index, server = found.groups()
        return cls(str(int(number)), None if index is None else index[1:-1], server or "")

    def __str__(self) -> str:
        index = "" if self.index is None else f"[{self.index}]"
        return self.number + index + (f".{self.server}" if self.server else "")

    @property
    def candidates(self) -> tuple[str, ...]:
        """The ids to ask for: a number alone may be that of an array as well."""
        if self.index is not None:
            return (str(self),)
        return str(self), str(PbsJobId(self.number, "", self.server))

    def means(self, other: PbsJobId) -> bool:
        """Whether this id of a caller means the job with the other one."""
        index = self.index == other.index or (self.index is None and other.index == "")
        return self.number == other.number and index and _same_server(self.server, other.server)

    def select(self, records: Iterable[JobRecord]) -> Job | None:
        """The job among records."""
        for record in records:
            if record.base_id == self.number:
                other = PbsJobId.printed(record.job.id)
                if other is not None and self.means(other):
                    return record.job
        return None


def _same_server(one: str, other: str) -> bool:
    """Whether two names may be of one server: one of them may lack the domain, or be left out."""
    if not one or not other:
        return True
    shorter, longer = sorted((one.lower(), other.lower()), key=len)
    return longer == shorter or longer.startswith(f"{shorter}.")
