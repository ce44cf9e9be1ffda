"""Slurm's job ids as callers write them, and which of the scheduler's records one of them means.

`123`, an array's `123_4` and `123_[1-5]` (also `123[1-5]`), a heterogeneous job's `123+1`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from flamecrest.server.errors import Field, Invalid, NotFound
from flamecrest.server.schedulers.array_elements import ArrayElements
from flamecrest.server.schedulers.merging import JobRecord, Stage
from flamecrest.server.schedulers.values import Job, JobStep, JobTimes

from .states import severity

MOST_NUMBER = 0xFFFFFFF0  # Slurm keeps the numbers above for itself; 0 means "all jobs" to some of its commands
LONGEST = 128  # characters

_ID = re.compile(r"([0-9]{1,20})(?:_([0-9]{1,7})|_?\[([0-9,:%-]+)\]|\+([0-9]{1,4}))?")


@dataclass(frozen=True, slots=True)
class SlurmJobId:
    """A job, some elements of an array, or a component of a heterogeneous job."""

    base: str
    elements: ArrayElements | None = None
    offset: int | None = None

    @classmethod
    def parse(cls, text: str) -> SlurmJobId:
        """Read what a caller wrote. Raises Invalid; NotFound for a number that no job can have."""
        found = _ID.fullmatch(text) if len(text) <= LONGEST else None
        if found is None:
            raise _invalid()
        number, element, several, offset = found.groups()
        if not 0 < int(number) < MOST_NUMBER:
            raise NotFound(f"Job not found: {number} is no number of a job")
        try:
            elements = ArrayElements.parse(element or several) if element or several else None
        except ValueError:
            raise _invalid() from None
        return cls(str(int(number)), elements, None if offset is None else int(offset))

    def __str__(self) -> str:
        if self.elements is not None:
            return f"{self.base}_{self.elements}" if len(self.elements) == 1 else f"{self.base}_[{self.elements}]"
        return self.base if self.offset is None else f"{self.base}+{self.offset}"

    @property
    def asked(self) -> str:
        """What to ask squeue and sacct for: they take one element but no set of them."""
        return self.base if self.elements is not None and len(self.elements) > 1 else str(self)

    def parts(self, records: Iterable[JobRecord]) -> list[JobRecord]:
        """The records that are what is meant, or parts of it; a lone number may also be an element's own."""
        records = list(records)
        mine = [record for record in records if record.base == self.base]
        if self.elements is not None:
            return [part for record in mine if (part := _part(record, self.elements))]
        if self.offset is not None:
            return [record for record in mine if record.offset == self.offset]
        return mine or [record for record in records if record.raw == self.base][:1]

    def select(self, records: Iterable[JobRecord]) -> Job | None:
        """The one job that is meant: a record's own, or the sum of its parts."""
        parts = self.parts(records)
        if not parts:
            return None
        return parts[0].job if len(parts) == 1 and self._is_exactly(parts[0]) else sum_up(str(self), parts)

    def _is_exactly(self, record: JobRecord) -> bool:
        """Whether the record is no part of something larger that was asked for."""
        one_element = self.elements is not None and len(self.elements) == 1
        named_so = self.offset is not None or record.base != self.base
        return one_element or named_so or (record.elements is None and record.offset is None)


def _part(record: JobRecord, elements: ArrayElements) -> JobRecord | None:
    """What of the record lies within the elements."""
    if record.elements is None or not (common := record.elements & elements):
        return None
    if common == record.elements:
        return record
    return replace(record, elements=common, job=replace(record.job, id=str(SlurmJobId(record.base, common))))


def sum_up(job_id: str, records: Sequence[JobRecord]) -> Job:
    """One Job for an array or a heterogeneous job.

    PENDING until a part has started, RUNNING until all have ended (also between two elements), then the worst
    end of them all, with its exit code and reason. `elapsed` is the longest part's. Each part is a step.
    """
    ended = all(record.stage is Stage.ENDED for record in records)
    begun = [record for record in records if record.stage is not Stage.WAITING]
    running = [record for record in begun if record.stage is Stage.RUNNING]
    if ended:
        model = max(records, key=lambda record: severity(record.job.state)).job
        state, code, signal = model.state, model.exit_code, model.signal
    elif begun:
        model = (running or begun)[0].job
        words = {record.job.state for record in running}
        state, code, signal = words.pop() if len(words) == 1 else "RUNNING", 0, 0
    else:
        model = records[0].job
        state, code, signal = model.state, None, None
    return replace(
        model,
        id=job_id,
        state=state,
        exit_code=code,
        signal=signal,
        times=_span([record.job.times for record in records], ended=ended),
        nodes=",".join(dict.fromkeys(record.job.nodes for record in running or begun if record.job.nodes)),
        node_count=max(record.job.node_count for record in records),
        steps=tuple(_step(record.job) for record in begun),
    )


def _span(times: Sequence[JobTimes], *, ended: bool) -> JobTimes:
    def known(name: str) -> list[int]:
        return [value for one in times if (value := getattr(one, name)) is not None]

    return JobTimes(
        submit=min(known("submit"), default=None),
        start=min(known("start"), default=None),
        end=max(known("end"), default=None) if ended else None,
        elapsed=max(known("elapsed"), default=None),
        suspended=max(known("suspended"), default=None),
        limit=max(known("limit"), default=None),
    )


def _step(job: Job) -> JobStep:
    return JobStep(job.id, job.name, job.state, job.exit_code, job.signal, job.times)


def _invalid() -> Invalid:
    message = "not a job id: 123, 123_4, 123_[1-5] and 123+0 are"
    return Invalid(f"That is {message}", fields=(Field("path", "job_id", message),))
