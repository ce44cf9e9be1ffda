"""The report: everything that was measured is in it, nothing else is loaded, and no text becomes markup."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from bench.columns import GATEWAY, OPENSSH
from bench.report import figures, pages, plots, tables
from bench.results import Cell, Results
from bench.targets import TARGETS, judge
from bench.workloads.catalogue import WORKLOADS
from hypothesis import given
from hypothesis import strategies as st

HOSTILE = "<script>alert('x')</script>&\"|]]>`![x](y)\n\0\ud800"
VOID = {"meta"}


def everything() -> Results:
    """Some cell for every picture and every target."""
    cells = [
        *(Cell("downloads", key, "seconds", n, (n / 100, n / 90)) for key in ("a", GATEWAY, "0") for n in (1, 1000)),
        *(Cell(name, key, "requests/s", 64, (100.0,)) for name in ("stat", "download") for key in ("c", GATEWAY)),
        *(Cell(name, "c", "ms p50", n, (n * 2.0,)) for name in ("stat", "download") for n in (1, 16, 64)),
        *(Cell("stat", "c", quantity + side, 64, (5.0,)) for side in figures.SIDES for quantity in PREFIXES),
        *(Cell("ls", key, "requests/s", 16, (40.0,)) for key in ("c", GATEWAY)),
        *(Cell("upload", key, "requests/s", 32, (40.0,)) for key in ("c", GATEWAY)),
        *(Cell("bulk", key, "seconds", "a folder", (0.1,)) for key in ("c", GATEWAY, OPENSSH)),
        *(Cell("big", key, "MiB/s", way, (300.0,)) for key in (GATEWAY, OPENSSH) for way in ("down", "up")),
        *(Cell("big", GATEWAY, "MiB more", way, (3.0,)) for way in ("down", "up")),
        *(Cell("entries", GATEWAY, "ms", n, (1.0 * n,)) for n in (10, 100_000)),
        Cell("entries", GATEWAY, "MiB more", 100_000, (20.0,)),
        *(Cell("sizes", GATEWAY, "ms", n, (1.0 * n,)) for n in (1, 4096)),
        *(Cell("calls", part, f"ms mean, {n} at a time", "GET ops/ls", (1.5,)) for part in PARTS for n in (1, 64)),
        *(Cell("network", "c", f"{what} a request", "ls", (1.0,)) for what in ("channels", "bytes received")),
        *(Cell("memory", GATEWAY, "MiB", n, (90.0,)) for n in (0, 100)),
    ]
    return Results(cells)


PREFIXES = ("ms of processor a request, ", "MiB, ")
PARTS = ("auth", "queue", "ssh", "server", "total")


def content(results: Results) -> pages.Content:
    verdicts = [judge(target, results) for target in TARGETS]
    return pages.Content("# Title\n\nOn this & that\n", verdicts, WORKLOADS, results)


class Balanced(HTMLParser):
    """Follows which elements are open, and gathers what they would load."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not [name for name, value in attrs if name in {"src", "srcset", "onload", "onerror"}]
        assert not [value for name, value in attrs if name == "href" and not (value or "").startswith("#")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> Balanced:
    parser = Balanced()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser


def test_every_picture_is_drawn_and_is_well_formed() -> None:
    made = pages.pictures(content(everything()))
    wanted = {f"{name}-{one}" for name, drawn in figures.DRAWN.items() for one in drawn}
    assert {one.name for one in made} == wanted | {"resources-processor", "resources-memory"}
    for one in made:
        root = ET.fromstring(one.svg)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert {"polyline", "rect"} & {element.tag.rpartition("}")[2] for element in root.iter()}


def test_no_picture_is_drawn_of_nothing() -> None:
    assert pages.pictures(content(Results())) == []


def test_the_page_holds_every_workload_every_target_and_loads_nothing() -> None:
    parser = read(pages.page(content(everything())))
    for workload in WORKLOADS:
        assert workload.title in parser.text
    for target in TARGETS:
        assert target.text in parser.text
    assert "script" not in parser.seen
    assert not parser.seen & {"link", "img", "iframe", "object"}
    assert "url(" not in pages.page(content(everything()))


def test_met_and_missed_targets_are_counted() -> None:
    results = Results([Cell("memory", GATEWAY, "MiB", 0, (90.0,)), Cell("memory", GATEWAY, "MiB more", 100, (50.0,))])
    assert f"1 met, 1 missed, {len(TARGETS) - 2} not judged" in pages.page(content(results))


def test_hostile_text_stays_text() -> None:
    hostile = Results([Cell("calls", HOSTILE, "ms mean, 1 at a time", HOSTILE, (1.0,), HOSTILE, 3)])
    hostile.extend(Cell("network", key, "channels a request", HOSTILE, (2.0,), HOSTILE) for key in (HOSTILE, "c"))
    shown = replace(content(hostile), preface=f"# x\n\n{HOSTILE}\n")
    pages.page(shown).encode()
    parser = read(pages.page(shown))
    assert "script" not in parser.seen
    assert "alert" in parser.text
    for one in pages.pictures(shown):
        ET.fromstring(one.svg)
    for workload in WORKLOADS:
        text = tables.tables(workload, hostile)
        assert "<script" not in text
        assert "![" not in text.replace("!\\[", "")


def test_the_files_are_written_and_the_pictures_of_the_markdown_are_beside_it(tmp_path: Path) -> None:
    results = everything()
    results.extend([Cell("calls", "ssh", "ms mean, 1 at a time", HOSTILE, (1.0,), HOSTILE)])
    folder = tmp_path / "new" / "report"
    pages.write(folder, content(results), {"a": 1})
    text = (folder / "report.md").read_text("utf-8")
    named = re.findall(r"!\[[\w-]+\]\(([\w-]+\.svg)\)", text)
    assert set(named) == {path.name for path in folder.glob("*.svg")}
    assert json.loads((folder / "result.json").read_text("utf-8")) == {"a": 1}
    assert (folder / "report.html").read_text("utf-8").startswith("<!doctype html>")


NUMBERS = st.floats(min_value=1e-6, max_value=1e12)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=5))
def test_curves_stay_within_their_axes(points: list[tuple[float, float]]) -> None:
    svg = plots.curves("t", ("x", "y"), [plots.Curve("c", "#000", points)])
    found = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg)
    assert len(found) == len(points)
    for x, y in found:
        assert plots.LEFT <= float(x) <= plots.RIGHT
        assert plots.TOP <= float(y) <= plots.HEIGHT - plots.BOTTOM


@given(st.lists(st.floats(min_value=0, max_value=1e12), min_size=1, max_size=5).filter(any))
def test_bars_end_where_there_is_room_for_their_figures(values: list[float]) -> None:
    rows = [plots.Bar(str(value), {"one": value, "two": value / 3}, "shown") for value in values]
    svg = plots.bars("t", "ms", {"": rows}, {"one": "#000", "two": "#111"})
    boxes = re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', svg)
    assert all(float(x) + float(width) <= plots.END + 2 for x, width in boxes)


@pytest.mark.parametrize("point", [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (float("nan"), 1.0), (1.0, float("inf"))])
def test_what_has_no_logarithm_is_not_drawn(point: tuple[float, float]) -> None:
    assert plots.curves("t", ("x", "y"), [plots.Curve("c", "#000", [(1.0, 1.0), point])]) == ""
