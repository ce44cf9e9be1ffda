"""What the project promises about speed and memory: ratios and limits over results. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .results import Cell, Results

GATEWAY = "flamecrest"

Place = tuple[str, str, str, int]  # workload, contender, quantity, parameter of a cell


@dataclass(frozen=True, slots=True)
class Target:
    """`of` divided by `by` (or `of` itself) must be at least, or at most, `limit`."""

    text: str
    of: Place
    by: Place | None
    sense: Literal["at least", "at most"]
    limit: float
    unit: str = "times"
    of_sshd: bool = False  # compares with ways whose cost is OpenSSH's: says nothing on the sandbox


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a target came out; `value` and `passed` are None when it was not measured."""

    target: Target
    value: float | None
    passed: bool | None
    note: str = ""


def _seconds(contender: str, files: int) -> Place:
    return ("downloads", contender, "seconds", files)


def _rate(workload: str, contender: str) -> Place:
    return (workload, contender, "requests/s", 64)


TARGETS: Sequence[Target] = (
    Target(
        "1000 files of 1 KB by httpx, beside no SSH at all (0)",
        _seconds(GATEWAY, 1000), _seconds("0", 1000), "at most", 1.6,
    ),
    Target(
        "1000 files of 1 KB by httpx, beside FirecREST v1's way (a)",
        _seconds("a", 1000), _seconds(GATEWAY, 1000), "at least", 25, of_sshd=True,
    ),
    Target(
        "stat at 64 connections, beside a command over a pooled connection (c)",
        _rate("stat", GATEWAY), _rate("stat", "c"), "at least", 5, of_sshd=True,
    ),
    Target(
        "download of 1 KB at 64 connections, beside a command over a pooled connection (c)",
        _rate("download", GATEWAY), _rate("download", "c"), "at least", 5, of_sshd=True,
    ),
    Target("memory of an idle gateway", ("memory", GATEWAY, "MiB", 0), None, "at most", 120, "MiB"),
    Target("memory that 100 pooled users add", ("memory", GATEWAY, "MiB more", 100), None, "at most", 15, "MiB"),
)  # fmt: skip


def judge(target: Target, results: Results, *, sandbox: bool = False) -> Verdict:
    """Compare; a measurement in which answers were wrong fails its target whatever its speed."""
    cells = [results.find(*place) for place in (target.of, target.by) if place is not None]
    measured = [cell for cell in cells if cell is not None]
    if len(measured) < len(cells):
        return Verdict(target, None, None, "not measured")
    value = measured[0].mean / (measured[1].mean if target.by is not None else 1.0)
    if sandbox and target.of_sshd:
        return Verdict(target, value, None, "a promise about real sshd")
    reached = value >= target.limit if target.sense == "at least" else value <= target.limit
    return Verdict(target, value, reached and not any(cell.errors for cell in measured), _notes(measured))


def _notes(cells: Sequence[Cell]) -> str:
    notes = [f"({cell.contender}) {cell.note}" for cell in cells if cell.note]
    notes += [f"({cell.contender}) {cell.errors} wrong answers" for cell in cells if cell.errors]
    return "; ".join(notes)
