"""Sets of array elements as schedulers write them (`0-8:2,11`), as large as an array may be. Knows no scheduler."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_ARRAY_ELEMENTS = 4_000_001  # Slurm's greatest MaxArraySize; a bitmap of that many elements takes 500 KB

_PART = re.compile(r"([0-9]{1,7})(?:-([0-9]{1,7})(?::([0-9]{1,7}))?)?")
_RUN = re.compile(r"1+")


@dataclass(frozen=True, slots=True)
class ArrayElements:
    """A set of numbers from 0 to MOST, held as the bits of one integer: sets of millions stay cheap."""

    bits: int = 0

    @classmethod
    def of(cls, number: int) -> ArrayElements:
        """The set of one element."""
        return cls(1 << number)

    @classmethod
    def parse(cls, text: str) -> ArrayElements:
        """Read `1,3,5-9,20-90:7`; a limit on how many run at once (`%2`) is left out. Raises ValueError."""
        bits = 0
        for part in text.partition("%")[0].split(","):
            found = _PART.fullmatch(part)
            if found is None:
                raise ValueError(f"not a set of array elements: {text[:80]!r}")
            first = int(found[1])
            last = int(found[2] or first)
            step = int(found[3] or 1)
            if last < first or last >= MAX_ARRAY_ELEMENTS or step < 1:
                raise ValueError(f"not a range of array elements: {part!r}")
            bits |= _every(step, (last - first) // step + 1) << first
        return cls(bits)

    def lowest(self) -> int:
        """The smallest element; -1 if there is none."""
        return (self.bits & -self.bits).bit_length() - 1

    def __contains__(self, number: int) -> bool:
        return bool(self.bits >> number & 1)

    def __or__(self, other: ArrayElements) -> ArrayElements:
        return ArrayElements(self.bits | other.bits)

    def __and__(self, other: ArrayElements) -> ArrayElements:
        return ArrayElements(self.bits & other.bits)

    def __sub__(self, other: ArrayElements) -> ArrayElements:
        return ArrayElements(self.bits & ~other.bits)

    def __len__(self) -> int:
        return self.bits.bit_count()

    def __str__(self) -> str:
        runs = ((found.start(), found.end() - 1) for found in _RUN.finditer(f"{self.bits:b}"[::-1]))
        return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _every(step: int, count: int) -> int:
    """`count` ones, `step` apart. Digits of base two are read in linear time, a sum of powers would not be."""
    return (1 << count) - 1 if step == 1 else int(("0" * (step - 1) + "1") * count, 2)
