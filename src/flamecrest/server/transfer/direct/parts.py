"""How a file is divided into parts. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flamecrest.server.transfer.records.record import Record, damaged

MAX_PARTS: Final = 10_000  # as in S3
_ALIGNED: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class PartPlan:
    """The size of a file and of its parts in bytes; the last part has the rest. An empty file has one empty part."""

    size: int
    part_size: int

    @classmethod
    def of(cls, size: int, wanted: int) -> PartPlan:
        """Parts of the wanted size; larger ones, in whole MiB, if there would be more than MAX_PARTS."""
        if size <= wanted * MAX_PARTS:
            return cls(size, wanted)
        least = -(-size // MAX_PARTS)
        return cls(size, -(-least // _ALIGNED) * _ALIGNED)

    @property
    def count(self) -> int:
        """The number of parts."""
        return max(1, -(-self.size // self.part_size))

    def span(self, number: int) -> tuple[int, int]:
        """The first byte of a part, counted from 1, and its size. Raises ValueError if there is no such part."""
        if not 1 <= number <= self.count:
            raise ValueError(f"no part {number}")
        start = (number - 1) * self.part_size
        return start, min(self.part_size, self.size - start)


NO_PARTS: Final = PartPlan(0, 1)  # of a download


@dataclass(frozen=True, slots=True)
class DataFile:
    """Where the parts of an upload are written: the details of its record."""

    part_size: int  # bytes
    file: int = 0  # the identity of the file; 0: unknown
    mode: int = 0  # the mode of a new target

    @classmethod
    def of(cls, record: Record) -> DataFile:
        """Read them. Raises Conflict if they are damaged."""
        given = record.details
        numbers = [number for name in cls.__slots__ if isinstance(number := given.get(name), int)]
        if len(numbers) != len(cls.__slots__) or not numbers[0]:
            raise damaged()
        return cls(*numbers)


def plan_of(record: Record) -> PartPlan:
    """The parts of the upload of a record. Raises Conflict if the record is damaged."""
    plan = PartPlan(record.size, DataFile.of(record).part_size)
    if not plan.part_size >= 1 or plan.count > MAX_PARTS:  # an edited record could ask for any number of URLs
        raise damaged()
    return plan
