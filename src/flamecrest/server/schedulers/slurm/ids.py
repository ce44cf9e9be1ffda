"""Job ids of Slurm: their syntax, and the job records that an id means.

`123` is a job, `123_4` and `123_[1-5]` (also `123[1-5]`) are elements of an array, `123+1` is a component of a
heterogeneous job. `123.west` is job 123 of the cluster `west`, which a script has chosen with `--clusters`: Slurm's
clusters number their jobs independently.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from flamecrest.server.errors import Conflict, Field, Invalid, NotFound
from flamecrest.server.schedulers.array_elements import ArrayElements
from flamecrest.server.schedulers.job_errors import job_not_found
from flamecrest.server.schedulers.merging import JobRecord, part_of, sum_up
from flamecrest.server.schedulers.values import Job, Stage

from .states import severity

MAX_JOB_NUMBER = 0xFFFFFFF0  # Slurm reserves the numbers from here on; some commands take 0 as "all jobs"
MAX_ID_LENGTH = 128  # characters
NOT_ALONE = "The components of a heterogeneous job that waits are cancelled together: give the id of the whole job"

_ID = re.compile(
    r"([0-9]{1,20})(?:_([0-9]{1,7})|_?\[([0-9,:%-]+)\]|\+([0-9]{1,4}))?(?:\.([A-Za-z0-9][A-Za-z0-9_.-]{0,39}))?",
    re.ASCII,
)
_STEPS = frozenset({"batch", "extern", "interactive"})  # `123.batch` is a step, as is `123.0`, not a job of a cluster


@dataclass(frozen=True, slots=True)
class SlurmJobId:
    """A job, some elements of an array, or a component of a heterogeneous job."""

    base_id: str
    elements: ArrayElements | None = None
    component: int | None = None
    cluster: str = ""  # "": the cluster of the login node

    @classmethod
    def parse(cls, text: str) -> SlurmJobId:
        """Parse an id as written by a caller. Raises Invalid; NotFound for a number that no job can have."""
        found = _ID.fullmatch(text) if len(text) <= MAX_ID_LENGTH else None
        if found is None or found[5] in _STEPS or (found[5] or "").isdigit():
            raise _invalid()
        number, element, elements_text, component, cluster = found.groups()
        if not 0 < int(number) < MAX_JOB_NUMBER:
            raise job_not_found(f"{number} is not a possible job number")
        try:
            elements = ArrayElements.parse(element or elements_text) if element or elements_text else None
        except ValueError:
            raise _invalid() from None
        return cls(str(int(number)), elements, None if component is None else int(component), cluster or "")

    def __str__(self) -> str:
        """The id within its cluster, as Slurm's commands accept it."""
        if self.elements is not None:
            return f"{self.base_id}_{self.elements}" if len(self.elements) == 1 else f"{self.base_id}_[{self.elements}]"
        return self.base_id if self.component is None else f"{self.base_id}+{self.component}"

    def _name(self, elements: ArrayElements) -> str:
        return str(SlurmJobId(self.base_id, elements))

    @classmethod
    def printed(cls, number: str, cluster: str) -> SlurmJobId | None:
        """The id that a submission has printed; None if it cannot be that of a job, or not be addressed."""
        try:
            return cls.parse(f"{number}.{cluster}" if cluster else number)
        except (Invalid, NotFound):
            return None

    @property
    def shown(self) -> str:
        """The id that callers see, with the cluster."""
        return self.with_cluster(str(self))

    @property
    def clusters(self) -> tuple[str, ...]:
        """The option of Slurm's commands that chooses the cluster; none for that of the login node."""
        return (f"--clusters={self.cluster}",) if self.cluster else ()

    @property
    def argument(self) -> str:
        """The id to pass to squeue and sacct: they accept one array element but no set of elements."""
        return self.base_id if self.elements is not None and len(self.elements) > 1 else str(self)

    def parts(self, records: Iterable[JobRecord]) -> list[JobRecord]:
        """The records that the id means, whole or in part. A plain number may also be an element's raw id."""
        records = list(records)
        mine = [record for record in records if record.base_id == self.base_id]
        if self.elements is not None:
            return [part for record in mine if (part := part_of(record, self.elements, self._name))]
        if self.component is not None:
            return [record for record in mine if record.component == self.component]
        return mine or [record for record in records if record.raw_id == self.base_id][:1]

    def without_ended(self, records: Iterable[JobRecord]) -> SlurmJobId:
        """The id of those elements that are known and have not ended; the same id if these are all, or none."""
        parts = self.parts(records)
        alive = [part for part in parts if part.stage is not Stage.ENDED]
        is_whole = self.elements is None and len(alive) == len(parts)
        if not alive or is_whole or any(part.elements is None for part in alive):
            return self
        elements = ArrayElements()
        for part in alive:
            elements |= part.elements or ArrayElements()
        return replace(self, base_id=alive[0].base_id, elements=elements)

    def numbers(self, records: Iterable[JobRecord]) -> list[str]:
        """The own number of each record that the id means, without ended ones if others have not ended.

        Raises NotFound; Conflict for elements that wait together with others: Slurm has one record of them, and gives
        them numbers when they start.
        """
        records = list(records)
        parts = self.parts(records)
        if not parts:
            raise job_not_found(str(self))
        whole = {record.raw_id: record for record in records}
        if any(part.elements != whole[part.raw_id].elements for part in parts):
            raise Conflict("slurmrestd changes elements of an array that wait only together: give the id of the array")
        alive = [part for part in parts if part.stage is not Stage.ENDED] or parts
        return list(dict.fromkeys(part.raw_id for part in alive))

    def check_alone(self, records: Iterable[JobRecord]) -> None:
        """Raise Conflict for a component that waits. slurmrestd would cancel it, and the others would never start."""
        if self.component is not None and any(part.stage is Stage.WAITING for part in self.parts(records)):
            raise Conflict(NOT_ALONE)

    def begun(self, records: Iterable[JobRecord]) -> list[str]:
        """The ids of the elements that do not wait, or of the job. Raises NotFound; Conflict if all wait."""
        parts = self.parts(records)
        if not parts:
            raise job_not_found(str(self))
        begun = [part for part in parts if part.stage is not Stage.WAITING]
        if not begun:
            raise Conflict("Job is pending execution")
        return [str(self)] if self.elements is None else [part.job.id for part in begun]

    def select(self, records: Iterable[JobRecord]) -> Job | None:
        """The one job that the id means: that of a single record, or the summary of several."""
        parts = self.parts(records)
        if not parts:
            return None
        parts.sort(key=lambda part: part.component or 0)  # squeue has the last component first
        job = parts[0].job if len(parts) == 1 and self._is_exactly(parts[0]) else sum_up(str(self), parts, severity)
        return replace(job, id=self.with_cluster(job.id)) if self.cluster else job

    def with_cluster(self, job_id: str) -> str:
        """An id that Slurm has printed for this job or a part of it, as callers see it."""
        return f"{job_id}.{self.cluster}" if self.cluster else job_id

    def _is_exactly(self, record: JobRecord) -> bool:
        """Whether the record is all that the id means, and not one part of it."""
        one_element = self.elements is not None and len(self.elements) == 1
        named_so = self.component is not None or record.base_id != self.base_id
        return one_element or named_so or (record.elements is None and record.component is None)


def _invalid() -> Invalid:
    message = "Invalid job id. Examples: 123, 123_4, 123_[1-5], 123+0"
    return Invalid(message, fields=(Field("path", "job_id", message),))
