"""The plots of each workload: which cells are shown, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.columns import CURL, GATEWAY, OPENSSH, OPENSSH_OPEN, OTHER, REST, TITLES, UNSHARED
from bench.measure.logs import PARTS
from bench.results import Cell, Results

from .plots import Bar, Curve, bars, curves
from .tables import significant
from .timelines import LOGIN_NODES, SOAK

COLOURS = {
    "a": "#999999",
    "b": "#8c6bb1",
    "c": "#e08214",
    GATEWAY: "#1b7837",
    OTHER: "#7fbf7b",
    REST: "#5aae61",
    UNSHARED: "#a6dba0",
    "0": "#67a9cf",
    OPENSSH: "#333333",
    OPENSSH_OPEN: "#7f7f7f",
    CURL: "#4d4d4d",
}
PART_COLOURS = dict(zip(PARTS, ("#8c6bb1", "#e08214", "#1b7837", "#67a9cf"), strict=True))
MEASURED = (("stat", 64), ("download", 64), ("ls", 16), ("upload", 32), ("jobs", 16), ("nodes", 16))
SIDES = {"server": "#1b7837", "sshd": "#e08214", "slurmctld": "#8c6bb1", "slurmdbd": "#67a9cf"}


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot with its name, which is also the name of its file."""

    name: str
    svg: str


def plots_of(workload: str, results: Results) -> list[Plot]:
    """The plots of a workload, without those for which nothing was measured."""
    drawn = [(name, draw(results)) for name, draw in PLOTS.get(workload, {}).items()]
    return [Plot(f"{workload}-{name}", svg) for name, svg in drawn if svg]


def resource_plots(results: Results) -> list[Plot]:
    """The plots of processor time and memory, which compare workloads."""
    drawn = [
        ("processor", _sides(results, "Processor time per request", "ms", "ms of processor a request, ")),
        ("memory", _sides(results, "Memory under load", "MiB", "MiB, ")),
    ]
    return [Plot(f"resources-{name}", svg) for name, svg in drawn if svg]


def _curves(workload: str, quantity: str, title: str, labels: tuple[str, str]) -> Callable[[Results], str]:
    def draw(results: Results) -> str:
        cells = list(results.of(workload, quantity))
        return curves(title, labels, [Curve(TITLES[key], COLOURS[key], _points(cells, key)) for key in TITLES])

    return draw


def _points(cells: Sequence[Cell], key: str) -> list[tuple[float, float]]:
    return [(cell.parameter, cell.mean) for cell in cells if cell.contender == key and isinstance(cell.parameter, int)]


def _bars(
    workload: str, quantity: str, title: str, row: int | str | None = None, *, apart: bool = False
) -> Callable[[Results], str]:
    """A bar per contender, grouped by row; or one group for a single row."""

    def draw(results: Results) -> str:
        groups: dict[str, list[Bar]] = {}
        colours = {}
        cells = [cell for cell in results.of(workload, quantity) if row is None or cell.parameter == row]
        order = [*TITLES]
        cells.sort(key=lambda cell: order.index(cell.contender) if cell.contender in order else len(order))
        for parameter in dict.fromkeys(cell.parameter for cell in results.of(workload, quantity)):
            for cell in (cell for cell in cells if cell.parameter == parameter):
                name = TITLES.get(cell.contender, cell.contender)
                colours[name] = COLOURS.get(cell.contender, "#1b7837")
                group = str(parameter) if row is None else ""
                groups.setdefault(group, []).append(Bar(name, {name: cell.mean}, significant(cell.mean)))
        return bars(title, quantity, groups, colours, apart=apart)

    return draw


def _parts(when: str) -> Callable[[Results], str]:
    """The parts of a call's time as shares of it."""

    def draw(results: Results) -> str:
        found: dict[str, dict[str, float]] = {}
        for cell in results.of("calls", f"ms mean, {when}"):
            found.setdefault(str(cell.parameter), {})[cell.contender] = cell.mean
        rows = []
        for name, milliseconds in found.items():
            total = sum(milliseconds.get(part, 0.0) for part in PARTS) or 1.0
            shares = {part: 100 * milliseconds.get(part, 0.0) / total for part in PARTS}
            rows.append(Bar(name, shares, f"{significant(milliseconds.get('total', 0.0))} ms"))
        return bars(f"The parts of a call's time, {when}", "% of the mean time", {"": rows}, PART_COLOURS)

    return draw


def _sides(results: Results, title: str, unit: str, prefix: str) -> str:
    groups: dict[str, list[Bar]] = {}
    for workload, row in MEASURED:
        for key in TITLES:
            cells = {side: results.find(workload, key, prefix + side, row) for side in SIDES}
            parts = {side: cell.mean for side, cell in cells.items() if cell is not None}
            if parts:
                label = " + ".join(significant(value) for value in parts.values())
                groups.setdefault(f"{workload}, {row} connections", []).append(Bar(TITLES[key], parts, label))
    return bars(title, unit, groups, SIDES, apart=True)


_TIME = "ms per request"
PLOTS: dict[str, dict[str, Callable[[Results], str]]] = {
    "downloads": {
        "growth": _curves("downloads", "seconds", "Time for N files of 1 KB: less is better", ("files", "seconds")),
    },
    **{
        name: {
            "rate": _bars(name, "requests/s", f"{name} at 64 connections: more is better", 64),
            "clients": _curves(
                name, "ms p50", f"{name}: median latency by connections: less is better", ("connections", _TIME)
            ),
        }
        for name in ("stat", "download")
    },
    "ls": {"rate": _bars("ls", "requests/s", "ls of 1,000 entries, 16 connections: more is better", 16)},
    "ls-apart": {"rate": _bars("ls-apart", "requests/s", "ls of 16 directories, 16 connections: more is better", 16)},
    "upload": {"rate": _bars("upload", "requests/s", "Upload of 1 KB, 32 connections: more is better", 32)},
    "bulk": {"time": _bars("bulk", "seconds", "1000 files of 1 KB at once: less is better")},
    "big": {"rate": _bars("big", "MiB/s", "A big file: more is better")},
    "entries": {"growth": _curves("entries", "ms", "ls by entries: less is better", ("entries", _TIME))},
    "sizes": {"growth": _curves("sizes", "ms", "Download by size: less is better", ("KiB", _TIME))},
    **{
        name: {"rate": _bars(name, "requests/s", f"{title} at 16 connections: more is better", 16)}
        for name, title in (
            ("jobs", "List of jobs"),
            ("job", "One job"),
            ("nodes", "Nodes"),
            ("partitions", "Partitions"),
        )
    },
    "pollers": {
        "latency": _bars("pollers", "ms p99", "200 pollers, 99th percentile of latency: less is better", 200),
        "questions": _bars("pollers", "questions to slurmctld a second", "Questions to slurmctld: less is better", 200),
    },
    "submit": {"time": _bars("submit", "ms a job", "Submission of jobs: less is better")},
    "lifecycle": {
        "whole": _curves(
            "lifecycle", "s p50, whole life", "A job's complete life: less is better", ("clients", "seconds")
        ),
        "rate": _curves("lifecycle", "jobs/s", "Complete lives of jobs: more is better", ("clients", "jobs a second")),
    },
    "calls": {"alone": _parts("1 at a time"), "together": _parts("64 at a time")},
    "network": {
        "channels": _bars("network", "channels a request", "SSH channels per request: less is better"),
        "received": _bars("network", "bytes received a request", "Bytes from the cluster per request", apart=True),
    },
    "cold": {"time": _bars("cold", "seconds", "Cold start of 440 clients: less is better")},
    "crowd": {"latency": _bars("crowd", "ms p99", "A crowd, 99th percentile of latency: less is better")},
    "workers": {"rate": _bars("workers", "requests/s", "Workers by processors, simulated: more is better")},
    "login-nodes": {"latency": LOGIN_NODES},
    "soak": {"time": SOAK},
    "memory": {"users": _bars("memory", "MiB", "Resident memory of the gateway by users: less is better")},
}
