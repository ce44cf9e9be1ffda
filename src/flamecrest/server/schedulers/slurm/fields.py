"""Parsers of the cells in Slurm's output (times, durations, numbers, exit codes), and of rows of cells.

A cell without a value is None or "". In a list of many jobs most cells repeat those of other jobs: the results for the
last different ones are remembered, which saves time and makes the jobs share one object.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flamecrest.server.ssh.command import Output

_DURATION = re.compile(r"(?:(?:([0-9]+)-)?([0-9]{1,3}):)?([0-9]{1,9}):([0-9]{2})(?:\.[0-9]+)?", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)([KMGTPE]?)", re.ASCII)
_EXPONENTS = {"": -2, "K": -1, "M": 0, "G": 1, "T": 2, "P": 3, "E": 4}  # of 1024, in MiB
_DIGITS = re.compile(r"[0-9]{1,18}")
_MAX_DIGITS = 18
REMEMBERED = 1024  # different cells
_NOTHING = frozenset({"(null)", "N/A", "n/a", "None assigned", "(none)"})


def display(output: Output) -> str:
    """Standard output as text; bytes that are not UTF-8 are replaced."""
    return output.stdout.decode("utf-8", "replace")


@lru_cache(REMEMBERED)
def text(cell: str) -> str:
    """The cell's text; "" for `(null)`, `N/A` and the like."""
    return "" if cell in _NOTHING else cell


@lru_cache(REMEMBERED)
def shared(cell: str) -> str:
    """The cell as it is."""
    return cell


def count(cell: str) -> int | None:
    """A number, or the first of a range (`1-4` nodes)."""
    if _is_number(cell):
        return int(cell)
    found = _DIGITS.match(cell.strip())
    return int(found[0]) if found else None


def decimal(cell: str) -> float | None:
    """A number with an optional fraction."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if 0 <= value < 1e9 else None


@lru_cache(REMEMBERED)
def epoch(cell: str) -> int | None:
    """Seconds since the epoch, printed with SLURM_TIME_FORMAT=%s; None for Unknown, None and N/A."""
    cell = cell.strip()
    return int(cell) or None if _is_number(cell) else None


@lru_cache(REMEMBERED)
def seconds(cell: str) -> int | None:
    """A duration `MM:SS`, `HH:MM:SS` or `D-HH:MM:SS`, in seconds; None for UNLIMITED, NOT_SET and INVALID."""
    found = _DURATION.fullmatch(cell.strip())
    if found is None:
        return None
    days, hours, minutes, rest = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def cpu_seconds(cell: str) -> float | None:
    """A duration with a fraction of a second, `00:00.977`."""
    whole, _, fraction = cell.strip().partition(".")
    found = seconds(whole)
    return None if found is None else found + (float(f"0.{fraction}") if fraction.isdecimal() else 0.0)


def mebibytes(cell: str) -> int | None:
    """A size in bytes (`5408K`, `1.5G`), as whole MiB, rounded up."""
    found = _SIZE.fullmatch(cell.strip())
    return None if found is None else math.ceil(float(found[1]) * 1024.0 ** _EXPONENTS[found[2]])


def minutes(cell: str) -> int | None:
    """A number of minutes, converted to seconds."""
    cell = cell.strip()
    return int(cell) * 60 if _is_number(cell) else None


@lru_cache(REMEMBERED)
def exit_status(cell: str) -> tuple[int | None, int | None]:
    """Exit code and signal, from `1:0` (sacct) or from a status of wait(2) such as `256` (squeue)."""
    code, colon, signal = cell.strip().partition(":")
    if not _DIGITS.fullmatch(code) or (colon and not _DIGITS.fullmatch(signal)):
        return None, None
    if colon:
        return int(code), int(signal)
    return int(code) >> 8 & 0xFF, int(code) & 0x7F


def _is_number(cell: str) -> bool:
    """Whether the cell is nothing but ASCII digits, and not too many. Faster than a regular expression."""
    return cell.isdecimal() and cell.isascii() and len(cell) <= _MAX_DIGITS


def below_header(output: str, separator: str, columns: int) -> str | None:
    """The rows below that of the titles, of which the first is that of job ids; None if there is no such row."""
    cells = output.split(separator)
    if len(cells) <= columns or cells[0].rpartition("\n")[2].lower() != "jobid":
        return None
    return separator.join(cells[columns:])


@dataclass(slots=True)
class Rows:
    """The rows of an output in which each cell is followed by `separator`; no cell contains the beginning of it.

    The output is split piece by piece: the cells of 10,000 jobs would take 20 MB.

    The first cell of a row must match `first`. A malformed row is skipped up to the next row and counted in
    `unreadable_rows`, which is complete after the iteration. Lines before the first row (of a .bashrc) are ignored.
    `piece`: how many characters are split at a time, at least.
    """

    output: str
    separator: str
    columns: Sequence[str]
    first: re.Pattern[str]
    unreadable_rows: int = field(default=0, init=False)
    piece: int = 65536

    def __iter__(self) -> Iterator[dict[str, str]]:
        return (dict(zip(self.columns, cells, strict=True)) for cells in self.cells())

    def cells(self) -> Iterator[list[str]]:
        """The cells of each row."""
        pieces, cells = self._pieces(), list[str]()
        rest = self.output[self._end() :]
        self.unreadable_rows = 0
        at, width, cut = 0, len(self.columns), bool(rest.strip())
        while True:
            end = at + width
            while end >= len(cells) and (more := next(pieces, None)):
                cells = cells[at:] + more
                at, end = 0, width
            if at >= len(cells):
                break
            name = cells[at].rpartition("\n")[2]
            whole = end == len(cells) or (end < len(cells) and cells[end].startswith("\n"))
            if whole and self.first.fullmatch(name):
                yield [name, *cells[at + 1 : end]]
                at = end
                continue
            self.unreadable_rows += 1
            at += 1
            while at < len(cells) and not self._starts(cells[at]):
                at += 1
                if at == len(cells):
                    at, cells = 0, next(pieces, [])
            cut = cut and at < len(cells)  # the rest is part of the malformed row counted above
        self.unreadable_rows += cut

    def _end(self) -> int:
        """Where the last cell and its separator end; 0 if there is none."""
        last = self.output.rfind(self.separator)
        return 0 if last < 0 else last + len(self.separator)

    def _pieces(self) -> Iterator[list[str]]:
        """All cells, in groups."""
        start, stop = 0, self._end()
        while start < stop:
            end = self.output.find(self.separator, min(start + self.piece, stop - len(self.separator)))
            yield self.output[start:end].split(self.separator)
            start = end + len(self.separator)

    def _starts(self, cell: str) -> bool:
        _, newline, name = cell.rpartition("\n")
        return bool(newline) and self.first.fullmatch(name) is not None
