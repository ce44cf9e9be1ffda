"""Results as Markdown for people and as JSON for programs. It decides nothing."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.columns import GATEWAY, TITLES
from bench.results import HIGHER_IS_BETTER, Cell, Results
from bench.targets import Verdict
from bench.workloads.workload import Workload

from .markup import in_markdown

RATIO = "Flamecrest : "
EXPLAINED = "The ratios say how many times better Flamecrest is: above 1 it is ahead."
PACKAGES = ("flamecrest", "asyncssh", "fastapi", "uvicorn", "uvloop", "httpx")


def machine() -> dict[str, Any]:
    """What it was measured on."""
    return {
        "processors": os.cpu_count(),
        "processor": _processor(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def preface(about: Mapping[str, Any], place: str, *, quick: bool) -> str:
    """What to know before looking at figures."""
    packages = ", ".join(f"{name} {number}" for name, number in about["packages"].items())
    return (
        f"# Flamecrest's benchmark\n\nOn {place}; {about['processors']} processors ({about['processor']}), "
        f"Python {about['python']}, {packages}.\nThe load generator, the gateway, the baselines and the SSH server "
        "share these processors: compare columns of one run, not figures of two machines.\n"
        + ("A quick run: fewer repetitions, and what takes minutes is extrapolated.\n" if quick else "")
    )


@dataclass(frozen=True, slots=True)
class Table:
    """A table as text, in no markup yet."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    remarks: Sequence[str]


def tables(workload: Workload, results: Results) -> str:
    """One workload's tables."""
    found = ["\n".join(_lines(table)) + "\n" for table in arranged(workload, results)]
    return "\n".join([f"## {in_markdown(workload.title)}\n", *(found or ["Not measured.\n"])])


def arranged(workload: Workload, results: Results) -> list[Table]:
    """One workload's tables: one for each quantity, a column for each contender (or part of a call).

    Where the tables would have one and the same row each, they are one table with the quantities as rows.
    """
    cells = [cell for cell in results.cells if cell.workload == workload.name]
    quantities = dict.fromkeys(cell.quantity for cell in cells)
    parameters = {cell.parameter for cell in cells}
    if len(parameters) == 1:
        found = [_table(f"{parameters.pop()} {workload.rows}", {name: (name, None) for name in quantities}, cells)]
    else:
        found = [_of_quantity(workload.rows, name, list(results.of(workload.name, name))) for name in quantities]
    if any(head.startswith(RATIO) for table in found for head in table.heads):
        found[-1] = replace(found[-1], remarks=[*found[-1].remarks, EXPLAINED])
    return found


def _of_quantity(rows: str, quantity: str, cells: Sequence[Cell]) -> Table:
    lines = {str(parameter): (quantity, parameter) for parameter in dict.fromkeys(cell.parameter for cell in cells)}
    return _table(f"{rows} ({quantity})", lines, cells)


def _table(corner: str, wanted: Mapping[str, tuple[str, int | str | None]], cells: Sequence[Cell]) -> Table:
    """A table with a row for each of `wanted`: what it is called, its quantity, its parameter if there are several."""
    present = dict.fromkeys(cell.contender for cell in cells)
    keys = [*(key for key in TITLES if key in present), *(key for key in present if key not in TITLES)]
    others = [key for key in keys if key != GATEWAY] if GATEWAY in keys else []
    heads = [corner, *(TITLES.get(key, key) for key in keys)]
    heads += [f"{RATIO}({key})" for key in others]
    notes: dict[str, None] = {}
    lines = []
    for name, (quantity, parameter) in wanted.items():
        found = (cell for cell in cells if cell.quantity == quantity and parameter in {None, cell.parameter})
        row = {cell.contender: cell for cell in found}
        shown = [_shown(row.get(key), notes) for key in keys]
        lines.append([name, *shown, *(_ratio(quantity, row, key) for key in others)])
    return Table(heads, lines, list(notes))


def _lines(table: Table) -> Iterator[str]:
    yield _line(table.heads)
    yield _line(["---", *(["---:"] * (len(table.heads) - 1))])
    yield from map(_line, table.rows)
    yield from (f"\n{in_markdown(remark).replace('*', chr(92) + '*', 1)}" for remark in table.remarks)


def _shown(cell: Cell | None, notes: dict[str, None]) -> str:
    if cell is None:
        return ""
    mark = "*" if cell.note or cell.errors else ""
    if cell.note:
        notes[f"* ({cell.contender}), {cell.parameter}: {cell.note}"] = None
    if cell.errors:
        notes[f"* ({cell.contender}), {cell.parameter}: {cell.errors} wrong responses"] = None
    deviation = cell.deviation if cell.deviation > cell.mean / 1e4 else 0  # less is rounding
    spread = f" ± {figure(deviation)}" if len(cell.samples) > 1 else ""
    return figure(cell.mean) + spread + mark


def _ratio(quantity: str, row: Mapping[str, Cell], other: str) -> str:
    ours, theirs = row.get(GATEWAY), row.get(other)
    if ours is None or theirs is None or ours.mean == 0 or theirs.mean == 0:
        return ""
    return figure(ours.mean / theirs.mean if quantity in HIGHER_IS_BETTER else theirs.mean / ours.mean)


def verdicts(found: Sequence[Verdict]) -> str:
    """The targets, and whether they are met."""
    lines = [
        "## Targets\n",
        _line(["target", "wanted", "measured", "", "note"]),
        _line(["---", "---", "---:", "---", "---"]),
    ]
    lines += [_line(verdict_row(verdict)) for verdict in found]
    return "\n".join(lines) + "\n"


def verdict_row(verdict: Verdict) -> tuple[str, str, str, str, str]:
    """A target, what is wanted, what was measured, whether it is met (nothing when it is not judged), and a note."""
    target = verdict.target
    value = "" if verdict.value is None else f"{figure(verdict.value)} {target.unit}"
    word = {None: "", True: "met", False: "MISSED"}[verdict.passed]
    return target.text, f"{target.sense} {figure(target.limit)} {target.unit}", value, word, verdict.note


def as_json(about: Mapping[str, Any], place: str, results: Results, found: Sequence[Verdict]) -> dict[str, Any]:
    """Everything, for programs."""
    targets = [
        {
            "text": verdict.target.text,
            "sense": verdict.target.sense,
            "limit": verdict.target.limit,
            "unit": verdict.target.unit,
            "value": verdict.value,
            "passed": verdict.passed,
            "note": verdict.note,
        }
        for verdict in found
    ]
    return {"machine": about, "place": place, "cells": [cell.as_json() for cell in results.cells], "targets": targets}


def figure(number: float) -> str:
    """A number with three figures that mean something."""
    if number == 0 or abs(number) >= 100:
        return f"{number:.0f}"
    return f"{number:.1f}" if abs(number) >= 10 else f"{number:.2f}" if abs(number) >= 1 else f"{number:.3g}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(in_markdown, cells))} |"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
