"""Results arranged as tables of text, for every output format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.columns import GATEWAY, TITLES
from bench.results import HIGHER_IS_BETTER, Cell, Results
from bench.targets import Verdict
from bench.workloads.workload import Workload

RATIO = "Flamecrest : "
EXPLANATION = "A ratio above 1 means that Flamecrest is better by that factor."


@dataclass(frozen=True, slots=True)
class Table:
    """A table of unescaped text. The first column holds the names of the rows."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    remarks: Sequence[str]


def tables_of(workload: Workload, results: Results) -> list[Table]:
    """The tables of a workload: one per quantity, with a column per contender (or per part of a call).

    If all quantities have one and the same row, they are the rows of one table.
    """
    cells = [cell for cell in results.cells if cell.workload == workload.name]
    quantities = dict.fromkeys(cell.quantity for cell in cells)
    parameters = {cell.parameter for cell in cells}
    if len(parameters) == 1:
        found = [_table(f"{parameters.pop()} {workload.rows}", {name: (name, None) for name in quantities}, cells)]
    else:
        found = [_of_quantity(workload.rows, name, list(results.of(workload.name, name))) for name in quantities]
    if any(head.startswith(RATIO) for table in found for head in table.heads):
        found[-1] = replace(found[-1], remarks=[*found[-1].remarks, EXPLANATION])
    return found


def _of_quantity(rows: str, quantity: str, cells: Sequence[Cell]) -> Table:
    wanted = {str(parameter): (quantity, parameter) for parameter in dict.fromkeys(cell.parameter for cell in cells)}
    return _table(f"{rows} ({quantity})", wanted, cells)


def _table(corner: str, wanted: Mapping[str, tuple[str, int | str | None]], cells: Sequence[Cell]) -> Table:
    """A table with the rows `wanted`: the name, the quantity, and the parameter (None: the only one)."""
    present = dict.fromkeys(cell.contender for cell in cells)
    keys = [*(key for key in TITLES if key in present), *(key for key in present if key not in TITLES)]
    others = [key for key in keys if key != GATEWAY] if GATEWAY in keys else []
    heads = [corner, *(TITLES.get(key, key) for key in keys)]
    heads += [f"{RATIO}({key})" for key in others]
    remarks: dict[str, None] = {}
    rows = []
    for name, (quantity, parameter) in wanted.items():
        found = (cell for cell in cells if cell.quantity == quantity and parameter in {None, cell.parameter})
        row = {cell.contender: cell for cell in found}
        values = [_value(row.get(key), remarks) for key in keys]
        rows.append([name, *values, *(_ratio(quantity, row, key) for key in others)])
    return Table(heads, rows, list(remarks))


def _value(cell: Cell | None, remarks: dict[str, None]) -> str:
    if cell is None:
        return ""
    mark = "*" if cell.note or cell.errors else ""
    if cell.note:
        remarks[f"* ({cell.contender}), {cell.parameter}: {cell.note}"] = None
    if cell.errors:
        remarks[f"* ({cell.contender}), {cell.parameter}: {cell.errors} wrong responses"] = None
    deviation = cell.deviation if cell.deviation > cell.mean / 1e4 else 0  # less is rounding
    spread = f" ± {significant(deviation)}" if len(cell.samples) > 1 else ""
    return significant(cell.mean) + spread + mark


def _ratio(quantity: str, row: Mapping[str, Cell], other: str) -> str:
    this, that = row.get(GATEWAY), row.get(other)
    if this is None or that is None or this.mean == 0 or that.mean == 0:
        return ""
    return significant(this.mean / that.mean if quantity in HIGHER_IS_BETTER else that.mean / this.mean)


VERDICT_HEADS = ("target", "wanted", "measured", "", "note")


def verdict_row(verdict: Verdict) -> tuple[str, str, str, str, str]:
    """The target, its limit, the measured value, "met", "MISSED" or "" (not judged), and a note."""
    target = verdict.target
    value = "" if verdict.value is None else f"{significant(verdict.value)} {target.unit}"
    word = {None: "", True: "met", False: "MISSED"}[verdict.passed]
    return target.text, f"{target.sense} {significant(target.limit)} {target.unit}", value, word, verdict.note


def significant(number: float) -> str:
    """A number with three significant digits."""
    if number == 0 or abs(number) >= 100:
        return f"{number:.0f}"
    return f"{number:.1f}" if abs(number) >= 10 else f"{number:.2f}" if abs(number) >= 1 else f"{number:.3g}"
