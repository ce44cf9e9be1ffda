"""Parsers of the cells in Slurm's output (times, durations, numbers, exit codes), and of rows of cells.

A cell without a value is None or "".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_DURATION = re.compile(r"(?:(?:([0-9]+)-)?([0-9]{1,3}):)?([0-9]{1,9}):([0-9]{2})(?:\.[0-9]+)?", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,18}")
_NOTHING = frozenset({"(null)", "N/A", "n/a", "None assigned", "(none)"})


def text(cell: str) -> str:
    """The cell's text; "" for `(null)`, `N/A` and the like."""
    return "" if cell in _NOTHING else cell


def count(cell: str) -> int | None:
    """A number, or the first of a range (`1-4` nodes)."""
    found = _DIGITS.match(cell.strip())
    return int(found[0]) if found else None


def decimal(cell: str) -> float | None:
    """A number with an optional fraction."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if 0 <= value < 1e9 else None


def epoch(cell: str) -> int | None:
    """Seconds since the epoch, printed with SLURM_TIME_FORMAT=%s; None for Unknown, None and N/A."""
    found = _DIGITS.fullmatch(cell.strip())
    return int(found[0]) or None if found else None


def seconds(cell: str) -> int | None:
    """A duration `MM:SS`, `HH:MM:SS` or `D-HH:MM:SS`, in seconds; None for UNLIMITED, NOT_SET and INVALID."""
    found = _DURATION.fullmatch(cell.strip())
    if found is None:
        return None
    days, hours, minutes, rest = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def minutes(cell: str) -> int | None:
    """A number of minutes, converted to seconds."""
    found = _DIGITS.fullmatch(cell.strip())
    return int(found[0]) * 60 if found else None


def exit_status(cell: str) -> tuple[int | None, int | None]:
    """Exit code and signal, from `1:0` (sacct) or from a status of wait(2) such as `256` (squeue)."""
    code, colon, signal = cell.strip().partition(":")
    if not _DIGITS.fullmatch(code) or (colon and not _DIGITS.fullmatch(signal)):
        return None, None
    if colon:
        return int(code), int(signal)
    return int(code) >> 8 & 0xFF, int(code) & 0x7F


@dataclass(slots=True)
class Rows:
    """The rows of an output in which each cell is followed by `separator`; no cell contains it.

    The first cell of a row must match `first`. A malformed row is skipped up to the next row and counted in
    `unreadable_rows`, which is complete after the iteration. Lines before the first row (of a .bashrc) are ignored.
    """

    output: str
    separator: str
    columns: Sequence[str]
    first: re.Pattern[str]
    unreadable_rows: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[dict[str, str]]:
        cells = self.output.split(self.separator)
        rest = cells.pop()
        self.unreadable_rows = 0
        at, width, cut = 0, len(self.columns), bool(rest.strip())
        while at < len(cells):
            end = at + width
            name = cells[at].rpartition("\n")[2]
            whole = end == len(cells) or (end < len(cells) and cells[end].startswith("\n"))
            if whole and self.first.fullmatch(name):
                yield dict(zip(self.columns, (name, *cells[at + 1 : end]), strict=True))
                at = end
                continue
            self.unreadable_rows += 1
            at += 1
            while at < len(cells) and not self._starts(cells[at]):
                at += 1
            cut = cut and at < len(cells)  # the rest is part of the malformed row counted above
        self.unreadable_rows += cut

    def _starts(self, cell: str) -> bool:
        _, newline, name = cell.rpartition("\n")
        return bool(newline) and self.first.fullmatch(name) is not None
