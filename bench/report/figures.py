"""Which pictures the report has: cells chosen and arranged for plots. It measures nothing and draws nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.columns import GATEWAY, OPENSSH, OPENSSH_OPEN, OTHER, TITLES
from bench.measure.logs import PARTS
from bench.results import Cell, Results

from .plots import Bar, Curve, bars, curves
from .tables import figure

COLOURS = {"a": "#999999", "b": "#8c6bb1", "c": "#e08214", GATEWAY: "#1b7837", "0": "#67a9cf", OPENSSH: "#333333"}
COLOURS[OPENSSH_OPEN] = "#7f7f7f"
COLOURS[OTHER] = "#7fbf7b"
PART_COLOURS = dict(zip(PARTS, ("#8c6bb1", "#e08214", "#1b7837", "#67a9cf"), strict=True))
SIDES = {"server": "#1b7837", "sshd": "#e08214"}
ONE = "value"


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture and the name of its file."""

    name: str
    svg: str


def figures(workload: str, results: Results) -> list[Figure]:
    """The pictures of a workload; those for which nothing was measured are left out."""
    made = [(name, draw(results)) for name, draw in DRAWN.get(workload, {}).items()]
    return [Figure(f"{workload}-{name}", svg) for name, svg in made if svg]


def resources(results: Results) -> list[Figure]:
    """The pictures that compare workloads."""
    parts = [
        ("processor", "Processor time a request", "ms of processor", "ms of processor a request, "),
        ("memory", "Memory under load", "MiB", "MiB, "),
    ]
    made = [(name, _sides(results, title, unit, prefix)) for name, title, unit, prefix in parts]
    return [Figure(f"resources-{name}", svg) for name, svg in made if svg]


def _growth(workload: str, quantity: str, title: str, labels: tuple[str, str]) -> Callable[[Results], str]:
    def draw(results: Results) -> str:
        cells = list(results.of(workload, quantity))
        found = [Curve(TITLES[key], COLOURS[key], _points(cells, key)) for key in TITLES]
        return curves(title, labels, found)

    return draw


def _points(cells: Sequence[Cell], key: str) -> list[tuple[float, float]]:
    return [
        (cell.parameter, cell.mean)
        for cell in cells
        if cell.contender == key and isinstance(cell.parameter, int) and cell.parameter > 0 and cell.mean > 0
    ]


def _compared(
    workload: str, quantity: str, heading: str, row: int | str | None = None, *, apart: bool = False
) -> Callable[[Results], str]:
    """A bar for each contender, in groups by row (or for one row only)."""

    def draw(results: Results) -> str:
        groups: dict[str, list[Bar]] = {}
        colours = {}
        for cell in results.of(workload, quantity):
            if row is None or cell.parameter == row:
                name = "" if row is not None else str(cell.parameter)
                title = TITLES.get(cell.contender, cell.contender)
                colours[title] = COLOURS.get(cell.contender, "#1b7837")
                groups.setdefault(name, []).append(Bar(title, {title: cell.mean}, figure(cell.mean)))
        order = [*TITLES.values()]
        for found in groups.values():
            found.sort(key=lambda bar: order.index(bar.name) if bar.name in order else len(order))
        return bars(heading, quantity, groups, colours, apart=apart)

    return draw


def _split(when: str) -> Callable[[Results], str]:
    def draw(results: Results) -> str:
        found: dict[str, dict[str, float]] = {}
        for cell in results.of("calls", f"ms mean, {when}"):
            found.setdefault(str(cell.parameter), {})[cell.contender] = cell.mean
        rows = []
        for name, of in found.items():
            total = sum(of.get(part, 0.0) for part in PARTS) or 1.0
            shares = {part: 100 * of.get(part, 0.0) / total for part in PARTS}
            rows.append(Bar(name, shares, f"{figure(of.get('total', 0.0))} ms"))
        title = f"Where the time of a call goes, {when}"
        return bars(title, "% of the mean time, which stands behind", {"": rows}, PART_COLOURS)

    return draw


def _sides(results: Results, title: str, unit: str, prefix: str) -> str:
    groups: dict[str, list[Bar]] = {}
    for workload, row in (("stat", 64), ("download", 64), ("ls", 16), ("upload", 32)):
        for key in TITLES:
            cells = {side: results.find(workload, key, prefix + side, row) for side in SIDES}
            parts = {side: cell.mean for side, cell in cells.items() if cell is not None}
            if parts:
                shown = " + ".join(figure(value) for value in parts.values())
                heading = f"{workload}, {row} connections"
                groups.setdefault(heading, []).append(Bar(TITLES[key], parts, shown))
    return bars(title, unit, groups, SIDES, apart=True)


_TIME = "time a request, ms"
DRAWN: dict[str, dict[str, Callable[[Results], str]]] = {
    "downloads": {
        "growth": _growth("downloads", "seconds", "Time for N files of 1 KB", ("files", "seconds")),
    },
    **{
        name: {
            "rate": _compared(name, "requests/s", f"{name} at 64 connections: more is better", 64),
            "clients": _growth(name, "ms p50", f"{name}: median time by clients", ("connections", _TIME)),
        }
        for name in ("stat", "download")
    },
    "ls": {"rate": _compared("ls", "requests/s", "ls of 1,000 entries: more is better", 16)},
    "upload": {"rate": _compared("upload", "requests/s", "Upload of 1 KB, 32 at a time: more is better", 32)},
    "bulk": {"time": _compared("bulk", "seconds", "1000 files of 1 KB at once: less is better")},
    "big": {"rate": _compared("big", "MiB/s", "A big file: more is better")},
    "entries": {"growth": _growth("entries", "ms", "ls by entries", ("entries", _TIME))},
    "sizes": {"growth": _growth("sizes", "ms", "Download by size", ("KiB", _TIME))},
    "calls": {"alone": _split("1 at a time"), "together": _split("64 at a time")},
    "network": {
        "channels": _compared("network", "channels a request", "SSH channels a request: less is better"),
        "received": _compared("network", "bytes received a request", "Bytes from the cluster a request", apart=True),
    },
    "memory": {"users": _compared("memory", "MiB", "Resident memory of the gateway by users")},
}
