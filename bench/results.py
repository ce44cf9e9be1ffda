"""The measured values as cells of tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

Coordinates = tuple[str, str, str, int | str]  # workload, contender, quantity, parameter
SERVER_TIME = "ms of processor a request, server"  # less sensitive to other load on the machine than rates are
HIGHER_IS_BETTER = {"requests/s", "MiB/s", "jobs/s"}  # of every other quantity, less is better


@dataclass(frozen=True, slots=True)
class Cell:
    """One quantity of one contender, with the samples of its repeated measurement.

    `workload` is the table, `quantity` the measured quantity with its unit, and `parameter` the row: a name, or a
    number of files, connections or bytes. `note` describes a deviation from the method (extrapolated, fewer runs).
    `errors` is the number of wrong responses.
    """

    workload: str
    contender: str
    quantity: str
    parameter: int | str
    samples: tuple[float, ...]
    note: str = ""
    errors: int = 0

    @property
    def at(self) -> Coordinates:
        return self.workload, self.contender, self.quantity, self.parameter

    @property
    def mean(self) -> float:
        return statistics.fmean(self.samples)

    @property
    def deviation(self) -> float:
        """The standard deviation of the samples; 0 for a single one."""
        return statistics.stdev(self.samples) if len(self.samples) > 1 else 0.0

    def with_errors(self, more: int) -> Cell:
        """A copy with `more` added to the number of wrong responses."""
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
        """The cell with these coordinates; None if it was not measured."""
        return next((cell for cell in self.cells if cell.at == (workload, contender, quantity, parameter)), None)

    def of(self, workload: str, quantity: str) -> Iterator[Cell]:
        """The cells of a workload with a quantity."""
        return (cell for cell in self.cells if (cell.workload, cell.quantity) == (workload, quantity))
