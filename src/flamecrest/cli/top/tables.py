"""Tables that fit the terminal, and short texts of numbers, times and sizes. Knows nothing of gateways."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rich.box import SIMPLE_HEAD
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

MEASURED: Final = 100_000  # characters of a line that leaves nothing out
WRAPPED: Final = 36  # characters of a line of a long text


@dataclass(slots=True)
class Fitting:
    """A table without the columns for which the terminal is too narrow; headings and numbers are never broken.

    less_important: the columns that are left out, the first one first. left: columns of texts, at the left. long: the
    column of long texts, which are wrapped. shorter: shorter texts of the first column, for narrow terminals.
    """

    columns: Sequence[str]
    less_important: Sequence[str]
    left: frozenset[str]
    long: str = ""
    rows: list[Sequence[str | Text]] = field(default_factory=list)
    shorter: list[Text] = field(default_factory=list)
    more: str = ""  # a last line that says what is left out

    def add(self, *cells: str | Text, shorter: Text | None = None) -> None:
        """Add a row."""
        self.rows.append(cells)
        if shorter is not None:
            self.shorter.append(shorter)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        left_out: set[str] = set()
        short, table = False, self._table(left_out, short=False)
        rest = iter(self.less_important)
        unlimited = options.update(max_width=MEASURED)
        while Measurement.get(console, unlimited, table).maximum > options.max_width:
            if self.shorter and not short:
                short = True
            elif (name := next(rest, None)) is not None:
                left_out.add(name)
            else:
                break
            table = self._table(left_out, short=short)
        yield table
        if self.more:
            yield Text(self.more, style="dim", no_wrap=True, overflow="ellipsis")

    def _table(self, left_out: set[str], *, short: bool) -> Table:
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold cyan")
        shown = [index for index, name in enumerate(self.columns) if name not in left_out]
        for index in shown:
            name = self.columns[index]
            wraps = name == self.long or index == 0
            left = index == 0 or name in self.left
            table.add_column(
                name,
                justify="left" if left else "right",
                no_wrap=not wraps,
                overflow="fold",
                max_width=WRAPPED if name == self.long else None,
            )
        for number, cells in enumerate(self.rows):
            shortened = [self.shorter[number], *cells[1:]] if short else cells
            table.add_row(*(shortened[index] for index in shown))
        return table


def clean(text: str) -> str:
    """A text without characters that a terminal would act on."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def number(value: float) -> str:
    """A number with about three digits."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 0.1 else f"{value:.2f}"


def milliseconds(seconds: float | None) -> str:
    """A time; `-` for none."""
    if seconds is None:
        return "-"
    return f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def size(value: float) -> str:
    """A number of bytes."""
    units = ["TB", "GB", "MB", "kB", "B"]
    while value >= 1000 and len(units) > 1:
        value, _ = value / 1000, units.pop()
    return f"{value:.0f} {units[-1]}" if units[-1] == "B" or value >= 100 else f"{value:.1f} {units[-1]}"
