"""Sets of array elements in the notation of schedulers (`0-8:2,11`)."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_ARRAY_ELEMENTS = 4_000_001  # Slurm's greatest MaxArraySize; a bitmap of that many elements takes 500 KB

_PART = re.compile(r"([0-9]{1,7})(?:-([0-9]{1,7})(?::([0-9]{1,7}))?)?")
_PLACE = re.compile(
    r"(?P<array>[0-9]+)(?:_(?P<element>[0-9]+)|_\[(?P<elements>[^\]%]*)(?:%(?P<most>[0-9]+))?\]"
    r"|\[(?P<index>[0-9]*)\])(?P<server>\.[^\s]*)?",
    re.ASCII,
)
_RUN = re.compile(r"1+")


@dataclass(frozen=True, slots=True)
class ArrayPlace:
    """Which elements of which array a job is: one (`element`), or those that wait (`elements`, None if not told)."""

    array_id: str
    element: int | None = None
    elements: str | None = None
    max_running: int | None = None

    @classmethod
    def of(cls, job_id: str) -> ArrayPlace | None:
        """The place that the id tells of: `14_2`, `14_[3-9%2]`, `14[2].server`; None for a job of no array."""
        found = _PLACE.fullmatch(job_id)
        if found is None:
            return None
        server = found["server"] or ""
        array_id = f"{found['array']}[]{server}" if found["index"] is not None else found["array"] + server
        element = found["element"] or found["index"]
        most = found["most"]
        return cls(array_id, int(element) if element else None, found["elements"] or None, int(most) if most else None)


@dataclass(frozen=True, slots=True)
class ArrayElements:
    """A set of numbers below MAX_ARRAY_ELEMENTS, stored as the bits of one integer: cheap even for millions."""

    bits: int = 0

    @classmethod
    def of(cls, number: int) -> ArrayElements:
        """The set of one element."""
        return cls(1 << number)

    @classmethod
    def parse(cls, text: str) -> ArrayElements:
        """Parse `1,3,5-9,20-90:7`; a limit of concurrent elements (`%2`) is ignored. Raises ValueError."""
        if text.isdecimal() and text.isascii() and len(text) < 7:  # one element: most of a long list are
            return cls(1 << int(text))
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
        """The smallest element; -1 for an empty set."""
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
    """`count` one bits, `step` apart. Parsing binary digits takes linear time, adding powers would not."""
    return (1 << count) - 1 if step == 1 else int(("0" * (step - 1) + "1") * count, 2)
