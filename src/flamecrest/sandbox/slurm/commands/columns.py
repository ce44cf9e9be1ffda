"""Output formats of squeue and sinfo: -o with %-codes, and -O/--Format with names."""

from __future__ import annotations

from flamecrest.sandbox.slurm.formats import write_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    CellFormatter = Callable[[Any], str]

DEFAULT_WIDTH = 20


class Column:
    """A column: its title, the function that formats a row, its width (0: that of the text) and the text after it."""

    def __init__(self, title: str, cell: CellFormatter, width: int, *, right: bool, suffix: str) -> None:
        self.title = title
        self.cell = cell
        self._width = width
        self._right = right
        self._suffix = suffix

    def show(self, text: str) -> str:
        if self._width:
            text = text[: self._width]
            text = text.rjust(self._width) if self._right else text.ljust(self._width)
        return text + self._suffix


def parse_format(form: str, codes: Mapping[str, tuple[str, CellFormatter]]) -> tuple[str, list[Column]]:
    """Parse `%.18i %j`. Returns the text before the first code, and the columns."""
    before, *fields = form.split("%")
    columns = []
    for field in fields:
        right = field.startswith(".")
        rest = field.lstrip(".")
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        rest = rest[len(digits) :]
        code, suffix = rest[:1], rest[1:]
        title, cell = codes.get(code, ("", _nothing))
        columns.append(Column(title, cell, int(digits or 0), right=right, suffix=suffix))
    return before, columns


def parse_long_format(program: str, form: str, names: Mapping[str, tuple[str, CellFormatter]]) -> list[Column]:
    """Parse `JobID:|,Name:.30,State`. Without a colon the width is 20; `JobID:` is as wide as its text."""
    columns = []
    for field in form.split(","):
        name, colon, shape = field.partition(":")
        found = names.get(name.lower())
        if found is None:
            write_error(f"{program}: error: Invalid job format specification: {name}")
            continue
        right = shape.startswith(".")
        rest = shape[1:] if right else shape
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        width = int(digits or 0) if colon else DEFAULT_WIDTH
        columns.append(Column(*found, width, right=right, suffix=rest[len(digits) :]))
    return columns


def _nothing(_row: object) -> str:
    return ""
