"""Plots as SVG, drawn by matplotlib: curves on logarithmic axes, and horizontal bars in one or more parts.

matplotlib is imported when something is drawn: it takes half a second, and most users of this package draw nothing.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 9.0  # inches; the heights below, too
CURVES_HEIGHT, BAR_HEIGHT, GROUP_HEIGHT, FRAME_HEIGHT = 3.8, 0.27, 0.42, 1.0
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "flamecrest",  # the same plot has the same identifiers
    "text.parse_math": False,  # a dollar sign is a dollar sign
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#bbbbbb",
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "xtick.color": "#555555",
    "ytick.color": "#333333",
    "legend.frameon": False,
}


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve. Points that are not positive and finite are left out."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of one or more parts: `parts` maps names in the legend to lengths; `label` stands at its end."""

    name: str
    parts: Mapping[str, float]
    label: str


def curves(title: str, labels: tuple[str, str], found: Sequence[Curve]) -> str:
    """Draw curves; `labels` are those of the x and the y axis. Returns "" if there are no points."""
    lines = [(curve, sorted(point for point in curve.points if all(map(positive, point)))) for curve in found]
    lines = [(curve, points) for curve, points in lines if points]
    if not lines:
        return ""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, CURVES_HEIGHT), layout="constrained")
        axes = figure.subplots()
        for curve, points in lines:
            x, y = zip(*points, strict=True)
            axes.plot(x, y, marker="o", markersize=4, linewidth=2, color=curve.colour, label=shown(curve.name))
        axes.set(xscale="log", yscale="log", xlabel=shown(labels[0]), ylabel=shown(labels[1]))
        every = [point for _, points in lines for point in points]
        for axis, values in zip((axes.xaxis, axes.yaxis), zip(*every, strict=True), strict=True):
            few_decades = max(values) < 10_000 * min(values)
            axis.set_major_locator(LogLocator(subs=(1.0, 3.0) if few_decades else (1.0,)))
            axis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:,.6g}"))
            axis.set_minor_formatter(NullFormatter())
        axes.grid(visible=True)
        figure.suptitle(shown(title), x=0.01, ha="left", weight="bold", size=11)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02))
        return as_svg(figure)


def bars(
    title: str, unit: str, groups: Mapping[str, Sequence[Bar]], colours: Mapping[str, str], *, apart: bool = False
) -> str:
    """Draw groups of horizontal bars. `colours` are the parts in their order. Returns "" if all bars are empty.

    With `apart`, each group has a scale of its own.
    """
    lengths = {name: max((_length(bar) for bar in found), default=0.0) for name, found in groups.items()}
    names = [name for name, length in lengths.items() if positive(length)]
    if not names:
        return ""
    counts = [len(groups[name]) for name in names]
    height = FRAME_HEIGHT + sum(GROUP_HEIGHT + BAR_HEIGHT * count for count in counts)
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        every = figure.subplots(len(names), squeeze=False, height_ratios=counts)[:, 0]
        for axes, name in zip(every, names, strict=True):
            _group(axes, groups[name], colours)
            axes.set_title(shown(name), weight="bold", size=9.5)
            axes.set_xlim(0, 1.2 * (lengths[name] if apart else max(lengths.values())))
            if not apart and axes is not every[-1]:
                axes.set_xticklabels([])
        every[-1].set_xlabel(shown(unit + ("; each group has its own scale" if apart and len(names) > 1 else "")))
        figure.suptitle(shown(title), x=0.01, ha="left", weight="bold", size=11)
        if any(len(bar.parts) > 1 for name in names for bar in groups[name]):
            handles, labels = every[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside upper right", ncols=len(labels))
        return as_svg(figure)


def _group(axes: Axes, found: Sequence[Bar], colours: Mapping[str, str]) -> None:
    places = range(len(found))
    ends = [0.0] * len(found)
    for part, colour in colours.items():
        widths = [bar.parts.get(part, 0.0) for bar in found]
        if any(part in bar.parts for bar in found):
            axes.barh(places, widths, left=ends, color=colour, height=0.75, label=shown(part))
        ends = [end + width for end, width in zip(ends, widths, strict=True)]
    for place, bar, end in zip(places, found, ends, strict=True):
        axes.annotate(shown(bar.label), (end, place), xytext=(4, 0), textcoords="offset points", va="center")
    axes.set_yticks(places, [shown(bar.name) for bar in found])
    axes.set_ylim(len(found) - 0.4, -0.6)  # the first bar at the top
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x")


def _length(bar: Bar) -> float:
    return sum(bar.parts.values())


def positive(value: float) -> bool:
    return 0 < value < math.inf


def shown(text: str) -> str:
    """Text that every font can show: labels can come from logs."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)


def as_svg(figure: Figure) -> str:
    """The figure as an SVG element without a document header, so that it can stand in HTML."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = buffer.getvalue()
    return text[text.index("<svg") :].rstrip()
