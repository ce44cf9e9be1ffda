"""Plots over time: one or more panels above each other, with the same linear axis of seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bench.columns import GATEWAY
from bench.results import Results

from .plots import STYLE, WIDTH, Curve, as_svg, positive, shown

PANEL_HEIGHT = 2.4  # inches
COLOURS = ("#1b7837", "#e08214", "#8c6bb1", "#67a9cf")


def timeline(title: str, panels: Mapping[str, Sequence[Curve]], *, logarithmic: Sequence[str] = ()) -> str:
    """Draw a panel for each label of a y axis. Those in `logarithmic` have such an axis. Returns "" without points."""
    found = {
        label: [(curve, points) for curve in curves if (points := _drawn(curve))] for label, curves in panels.items()
    }
    found = {label: curves for label, curves in found.items() if curves}
    if not found:
        return ""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, PANEL_HEIGHT * len(found) + 0.6), layout="constrained")
        every = figure.subplots(len(found), squeeze=False, sharex=True)[:, 0]
        for axes, (label, curves) in zip(every, found.items(), strict=True):
            for curve, points in curves:
                x, y = zip(*points, strict=True)
                axes.plot(x, y, linewidth=1.8, color=curve.colour, label=shown(curve.name))
            axes.set_ylabel(shown(label))
            if label in logarithmic:
                axes.set_yscale("log")
                axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
                axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:,.6g}"))
                axes.yaxis.set_minor_formatter(NullFormatter())
            else:
                axes.set_ylim(bottom=0)
            axes.grid(visible=True)
            axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02))
        every[-1].set(xlabel="seconds", xlim=(0, None))
        figure.suptitle(shown(title), x=0.01, ha="left", weight="bold", size=11)
        return as_svg(figure)


def _drawn(curve: Curve) -> list[tuple[float, float]]:
    return sorted(point for point in curve.points if positive(point[1]))


def over_time(
    workload: str, title: str, panels: Mapping[str, Mapping[str, tuple[str, str]]], logarithmic: Sequence[str] = ()
) -> Callable[[Results], str]:
    """A timeline of a workload's cells whose rows are seconds.

    `panels`: by the label of the y axis, the curves by their names; a curve is the contender and the quantity.
    """

    def draw(results: Results) -> str:
        drawn = {}
        for label, curves in panels.items():
            drawn[label] = [
                Curve(name, COLOURS[number % len(COLOURS)], _points(results, workload, *source))
                for number, (name, source) in enumerate(curves.items())
            ]
        return timeline(title, drawn, logarithmic=logarithmic)

    return draw


def _points(results: Results, workload: str, contender: str, quantity: str) -> list[tuple[float, float]]:
    cells = (cell for cell in results.of(workload, quantity) if cell.contender == contender)
    return [(cell.parameter, cell.mean) for cell in cells if isinstance(cell.parameter, int)]


def _of_gateway(*quantities: str) -> dict[str, tuple[str, str]]:
    return {name: (GATEWAY, f"{name}, over time") for name in quantities}


SOAK = over_time(
    "soak",
    "The soak: latency, calls and the gateway's memory over time",
    {
        "ms": _of_gateway("ms p50", "ms p99"),
        "calls a second": _of_gateway("calls a second"),
        "MiB": _of_gateway("MiB"),
    },
    ("ms",),
)
LOGIN_NODES = over_time(
    "login-nodes",
    "Simulation: 99th percentile of latency, one of four login nodes is ten times slower from 60 s on",
    {
        "ms p99": {
            name: (name, "ms p99")
            for name in (
                "all nodes healthy",
                "one node ten times slower",
                "the same, users stay where they are",
            )
        }
    },
    ("ms p99",),
)
