"""Job ids of the local scheduler: `123`, `123_4` for an element of an array, `123_[1-5]` for several."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from flamecrest.server.errors import Field, Invalid
from flamecrest.server.schedulers.array_elements import ArrayElements
from flamecrest.server.schedulers.job_errors import job_not_found
from flamecrest.server.schedulers.merging import JobRecord, part_of, sum_up
from flamecrest.server.schedulers.values import Job

from .states import severity

_ID: Final = re.compile(r"([0-9]{1,15})(?:_([0-9]{1,7})|_\[([0-9,:-]{1,100})\])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class LocalJobId:
    """A job, or some elements of an array."""

    base_id: str
    elements: ArrayElements | None = None

    @classmethod
    def parse(cls, text: str) -> LocalJobId:
        """Parse an id as written by a caller. Raises Invalid; NotFound for a number that no job has."""
        if (found := _ID.fullmatch(text)) is None:
            raise _invalid()
        number, element, several = found.groups()
        if not int(number):
            raise job_not_found(f"{number} is not a possible job number")
        try:
            elements = ArrayElements.parse(element or several) if element or several else None
        except ValueError:
            raise _invalid() from None
        return cls(str(int(number)), elements)

    def __str__(self) -> str:
        if self.elements is None:
            return self.base_id
        return f"{self.base_id}_{self.elements}" if len(self.elements) == 1 else f"{self.base_id}_[{self.elements}]"

    @property
    def fields(self) -> dict[str, str | None]:
        """The fields of a request about the job."""
        elements = None if self.elements is None else str(self.elements)
        return {"id": self.base_id, "els": elements, "shown": str(self)}

    def select(self, records: Iterable[JobRecord]) -> Job | None:
        """The one job that the id means: that of a single record, or the summary of several."""
        parts = [record for record in records if record.base_id == self.base_id]
        if self.elements is not None:
            parts = [part for one in parts if (part := part_of(one, self.elements, self._name))]
        if not parts:
            return None
        is_all = parts[0].elements is None or (self.elements is not None and len(self.elements) == 1)
        return parts[0].job if len(parts) == 1 and is_all else sum_up(str(self), parts, severity)

    def _name(self, elements: ArrayElements) -> str:
        return str(LocalJobId(self.base_id, elements))


def _invalid() -> Invalid:
    message = "Invalid job id. Examples: 123, 123_4, 123_[1-5]"
    return Invalid(message, fields=(Field("path", "job_id", message),))
