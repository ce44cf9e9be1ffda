"""What was measured, as values: cells of tables. It knows no workload, no process and no way to show them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Cell:
    """One quantity of one contender: `samples` are repeated measurements of it.

    `workload` names the table, `quantity` what is measured (with its unit), `parameter` the table's row
    (a number where it grows: of files, connections, bytes).
    `note` says what is unusual (extrapolated, fewer runs); `errors` counts answers that were wrong.
    """

    workload: str
    contender: str
    quantity: str
    parameter: int | str
    samples: tuple[float, ...]
    note: str = ""
    errors: int = 0

    @property
    def mean(self) -> float:
        return statistics.fmean(self.samples)

    @property
    def deviation(self) -> float:
        """Standard deviation of the samples; 0 where there is one only."""
        return statistics.stdev(self.samples) if len(self.samples) > 1 else 0.0

    def with_errors(self, more: int) -> Cell:
        """The same with that many more wrong answers."""
        return replace(self, errors=self.errors + more)

    def as_json(self) -> dict[str, Any]:
        return {
            "workload": self.workload,
            "contender": self.contender,
            "quantity": self.quantity,
            "parameter": self.parameter,
            "mean": self.mean,
            "deviation": self.deviation,
            "samples": list(self.samples),
            "note": self.note,
            "errors": self.errors,
        }


@dataclass(slots=True)
class Results:
    """All cells of one run of the benchmark."""

    cells: list[Cell] = field(default_factory=list)

    def extend(self, cells: Iterable[Cell]) -> None:
        self.cells.extend(cells)

    def find(self, workload: str, contender: str, quantity: str, parameter: int | str) -> Cell | None:
        """The cell at that place, if it was measured."""
        place = (workload, contender, quantity, parameter)
        return next((c for c in self.cells if (c.workload, c.contender, c.quantity, c.parameter) == place), None)

    def of(self, workload: str, quantity: str) -> Iterator[Cell]:
        """The cells of one table."""
        return (cell for cell in self.cells if (cell.workload, cell.quantity) == (workload, quantity))
