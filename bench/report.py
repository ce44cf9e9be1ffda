"""Results as Markdown for people and as JSON for programs. It decides nothing."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .contenders import TITLES
from .results import Cell, Results
from .targets import GATEWAY, Verdict
from .workloads import Workload

HIGHER_IS_BETTER = {"requests/s"}
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


def tables(workload: Workload, results: Results) -> str:
    """One workload's tables."""
    quantities = dict.fromkeys(cell.quantity for cell in results.cells if cell.workload == workload.name)
    found = [
        "\n".join(_table(workload.rows, name, list(results.of(workload.name, name)))) + "\n" for name in quantities
    ]
    return "\n".join([f"## {workload.title}\n", *(found or ["Not measured.\n"])])


def _table(rows: str, quantity: str, cells: Sequence[Cell]) -> Iterator[str]:
    keys = [key for key in TITLES if any(cell.contender == key for cell in cells)]
    others = [key for key in keys if key != GATEWAY] if GATEWAY in keys else []
    heads = [f"{rows} ({quantity})", *(TITLES[key] for key in keys), *(f"Flamecrest : ({key})" for key in others)]
    yield _line(heads)
    yield _line(["---", *(["---:"] * (len(heads) - 1))])
    notes: dict[str, None] = {}
    for parameter in dict.fromkeys(cell.parameter for cell in cells):
        row = {cell.contender: cell for cell in cells if cell.parameter == parameter}
        yield _line(
            [
                str(parameter),
                *(_shown(row.get(key), notes) for key in keys),
                *(_ratio(quantity, row, key) for key in others),
            ]
        )
    if others:
        yield "\nThe ratios say how many times better Flamecrest is: above 1 it is ahead."
    yield from (f"\n{note}" for note in notes)


def _shown(cell: Cell | None, notes: dict[str, None]) -> str:
    if cell is None:
        return ""
    mark = "*" if cell.note or cell.errors else ""
    if cell.note:
        notes[f"\\* ({cell.contender}), {cell.parameter}: {cell.note}"] = None
    if cell.errors:
        notes[f"\\* ({cell.contender}), {cell.parameter}: {cell.errors} wrong answers"] = None
    spread = f" ± {figure(cell.deviation)}" if len(cell.samples) > 1 else ""
    return figure(cell.mean) + spread + mark


def _ratio(quantity: str, row: Mapping[str, Cell], other: str) -> str:
    ours, theirs = row.get(GATEWAY), row.get(other)
    if ours is None or theirs is None:
        return ""
    return figure(ours.mean / theirs.mean if quantity in HIGHER_IS_BETTER else theirs.mean / ours.mean)


def verdicts(found: Sequence[Verdict]) -> str:
    """The targets, and whether they are met."""
    lines = [
        "## Targets\n",
        _line(["target", "wanted", "measured", "", "note"]),
        _line(["---", "---", "---:", "---", "---"]),
    ]
    for verdict in found:
        target = verdict.target
        value = "" if verdict.value is None else f"{figure(verdict.value)} {target.unit}"
        word = {None: "", True: "met", False: "MISSED"}[verdict.passed]
        lines.append(
            _line([target.text, f"{target.sense} {figure(target.limit)} {target.unit}", value, word, verdict.note])
        )
    return "\n".join(lines) + "\n"


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
    return f"| {' | '.join(cells)} |"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
