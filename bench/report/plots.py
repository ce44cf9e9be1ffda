"""Plots as SVG: curves on two logarithmic axes, and horizontal bars in one or more parts. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .markup import in_html

WIDTH = 860
LEFT, RIGHT, TOP, BOTTOM = 70, 520, 44, 52  # where the axes of curves are
HEIGHT = 380
LABELS, END = 310, 740  # where bars begin and end; their figures stand behind them
BAR, GAP, HEAD = 18, 6, 26
_STYLE = "font-family:system-ui,sans-serif;font-size:12px;background:#fff"


@dataclass(frozen=True, slots=True)
class Curve:
    """A name, a colour, and points that are above zero."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar in parts: `parts` has a value for names of the legend; `shown` is what stands behind it."""

    name: str
    parts: Mapping[str, float]
    shown: str


@dataclass(frozen=True, slots=True)
class Axis:
    """A logarithmic axis between two places of the picture."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float) -> Axis:
        low, high = min(values), max(values)
        margin = max(1.25, (high / low) ** 0.06)
        return cls(low / margin, high * margin, start, end)

    def at(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Powers of ten; with what is between them when they are few."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for steps in ((1,), (1, 3), (1, 2, 5)):
            found = [step * 10.0**power for power in range(first, last + 1) for step in steps]
            found = [tick for tick in found if self.low <= tick <= self.high]
            if len(found) >= 4:
                break
        return found


def curves(title: str, labels: tuple[str, str], found: Sequence[Curve]) -> str:
    """Curves over a growing quantity; `labels` are those of the axes. Empty when there is nothing to show."""
    found = [curve for curve in found if curve.points]
    points = [(x, y) for curve in found for x, y in curve.points]
    if not points or any(not (0 < value < math.inf) for point in points for value in point):
        return ""
    across = Axis.over([x for x, _ in points], LEFT, RIGHT)
    up = Axis.over([y for _, y in points], HEIGHT - BOTTOM, TOP)
    parts = [*_grid(across, up), _text((LEFT + RIGHT) / 2, HEIGHT - 12, labels[0], "middle")]
    middle = (TOP + HEIGHT - BOTTOM) / 2
    turned = f' transform="rotate(-90 16 {middle:.0f})"'
    parts.append(_text(16, middle, labels[1], "middle", more=turned))
    for number, curve in enumerate(found):
        places = [(across.at(x), up.at(y)) for x, y in sorted(curve.points)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{curve.colour}" stroke-width="2.5"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{curve.colour}"/>' for x, y in places]
        parts += _legend(RIGHT + 24, TOP + 12 + 22 * number, curve.name, curve.colour)
    return _svg(title, HEIGHT, parts)


def bars(
    title: str, unit: str, groups: Mapping[str, Sequence[Bar]], colours: Mapping[str, str], *, apart: bool = False
) -> str:
    """Groups of bars; `colours` is the legend: the parts in their order. Empty when there is nothing to show.

    With `apart`, each group has a scale of its own: for groups that are far from each other.
    """
    groups = {name: found for name, found in groups.items() if found}
    lengths = {name: max(sum(bar.parts.values()) for bar in found) for name, found in groups.items()}
    longest = max(lengths.values(), default=0.0)
    if not 0 < longest < math.inf:
        return ""
    parts: list[str] = []
    y = 40.0
    used = [name for name in colours if any(name in bar.parts for found in groups.values() for bar in found)]
    if any(len(bar.parts) > 1 for found in groups.values() for bar in found):
        for number, name in enumerate(used):
            parts += _legend(LABELS + 130 * number, y + 4, name, colours[name])
        y += 20
    for name, found in groups.items():
        if name:
            parts.append(_text(14, y + 17, name, "start", ' font-weight="600"'))
            y += HEAD
        for bar in found:
            parts += _bar(bar, y, (lengths[name] or longest) if apart else longest, colours)
            y += BAR + GAP
        y += 8
    scale = "; each group has its own scale" if apart else ""
    parts.append(_text((LABELS + END) / 2, y + 12, unit + scale, "middle", ' fill="#555"'))
    return _svg(title, math.ceil(y + 26), parts)


def _bar(bar: Bar, y: float, longest: float, colours: Mapping[str, str]) -> Iterator[str]:
    yield _text(LABELS - 8, y + 13, bar.name, "end")
    x = float(LABELS)
    for name, colour in colours.items():
        width = bar.parts.get(name, 0.0) / longest * (END - LABELS)
        if width > 0:
            box = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{BAR}"'
            yield f'<rect {box} fill="{colour}"><title>{in_html(name)}</title></rect>'
            x += width
    yield _text(x + 6, y + 13, bar.shown, "start", ' fill="#333"')


def _grid(across: Axis, up: Axis) -> Iterator[str]:
    for tick in across.ticks():
        x = across.at(tick)
        yield _line(x, TOP, x, HEIGHT - BOTTOM)
        yield _text(x, HEIGHT - BOTTOM + 18, _tick(tick), "middle")
    for tick in up.ticks():
        y = up.at(tick)
        yield _line(LEFT, y, RIGHT, y)
        yield _text(LEFT - 8, y + 4, _tick(tick), "end")


def _tick(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:.6f}".rstrip("0")


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def _legend(x: float, y: float, name: str, colour: str) -> Iterator[str]:
    yield f'<rect x="{x:.0f}" y="{y - 9:.0f}" width="12" height="12" rx="2" fill="{colour}"/>'
    yield _text(x + 18, y + 1, name, "start")


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{in_html(text)}</text>'


def _svg(title: str, height: int, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" style="{_STYLE}">'
    heading = _text(14, 24, title, "start", ' font-size="14" font-weight="600"')
    return "\n".join([head, f"<title>{in_html(title)}</title>", heading, *parts, "</svg>"])
