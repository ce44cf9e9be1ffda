"""The values in Slurm's columns: times, durations, counts, exit codes, and rows between marks.

What is no value is None or "".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_DURATION = re.compile(r"(?:(?:([0-9]+)-)?([0-9]{1,3}):)?([0-9]{1,9}):([0-9]{2})(?:\.[0-9]+)?", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,18}")
_NOTHING = frozenset({"(null)", "N/A", "n/a", "None assigned", "(none)"})


def text(cell: str) -> str:
    """A cell's text, "" for the ways Slurm writes nothing."""
    return "" if cell in _NOTHING else cell


def count(cell: str) -> int | None:
    """A number, or the first of a range (`1-4` nodes)."""
    found = _DIGITS.match(cell.strip())
    return int(found[0]) if found else None


def decimal(cell: str) -> float | None:
    """A number that may have a fraction."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if 0 <= value < 1e9 else None


def epoch(cell: str) -> int | None:
    """A point in time printed with SLURM_TIME_FORMAT=%s; Unknown, None and N/A are none."""
    found = _DIGITS.fullmatch(cell.strip())
    return int(found[0]) or None if found else None


def seconds(cell: str) -> int | None:
    """A duration as `MM:SS`, `HH:MM:SS` or `D-HH:MM:SS`, in seconds; UNLIMITED, NOT_SET and INVALID are none."""
    found = _DURATION.fullmatch(cell.strip())
    if found is None:
        return None
    days, hours, minutes, rest = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def minutes(cell: str) -> int | None:
    """A number of minutes, in seconds."""
    found = _DIGITS.fullmatch(cell.strip())
    return int(found[0]) * 60 if found else None


def exit_status(cell: str) -> tuple[int | None, int | None]:
    """Exit code and signal from `1:0` (sacct) or from what wait(2) says, 256 (squeue)."""
    code, colon, signal = cell.strip().partition(":")
    if not _DIGITS.fullmatch(code) or (colon and not _DIGITS.fullmatch(signal)):
        return None, None
    if colon:
        return int(code), int(signal)
    return int(code) >> 8 & 0xFF, int(code) & 0x7F


@dataclass(slots=True)
class Rows:
    """The rows of an output whose every cell is followed by `mark`, which no cell holds.

    The first cell of a row must match `first`. What does not add up to a row is skipped up to the next row
    that does, and counted in `unread` (once all are read). Lines before the first row (a talkative .bashrc) do no harm.
    """

    output: str
    mark: str
    columns: Sequence[str]
    first: re.Pattern[str]
    unread: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[dict[str, str]]:
        cells = self.output.split(self.mark)
        rest = cells.pop()
        self.unread = 0
        at, width, cut = 0, len(self.columns), bool(rest.strip())
        while at < len(cells):
            end = at + width
            name = cells[at].rpartition("\n")[2]
            whole = end == len(cells) or (end < len(cells) and cells[end].startswith("\n"))
            if whole and self.first.fullmatch(name):
                yield dict(zip(self.columns, (name, *cells[at + 1 : end]), strict=True))
                at = end
                continue
            self.unread += 1
            at += 1
            while at < len(cells) and not self._starts(cells[at]):
                at += 1
            cut = cut and at < len(cells)  # the rest belongs to the row that was counted just now
        self.unread += cut

    def _starts(self, cell: str) -> bool:
        _, newline, name = cell.rpartition("\n")
        return bool(newline) and self.first.fullmatch(name) is not None
