"""The report contains everything that was measured, loads nothing, and no text becomes markup."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from bench.columns import GATEWAY, OPENSSH, REST
from bench.report import files, html, markdown, plots, timelines, workload_plots
from bench.report.document import RESOURCES, ReportDocument
from bench.results import Cell, Results
from bench.targets import TARGETS, judge
from bench.workloads.catalogue import WORKLOADS
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.timeout(240)  # all plots are drawn, which takes seconds of processor time

HOSTILE = "<script>alert('x')</script>&\"|]]>`![x](y)\n\0\ud800$\\frac$\u202e\U0001f600"
VOID = {"meta"}
PREFIXES = ("ms of processor a request, ", "MiB, ")
PARTS = ("auth", "queue", "ssh", "server", "total")


def everything() -> Results:
    """Cells for every plot and every target."""
    cells = [
        *(Cell("downloads", key, "seconds", n, (n / 100, n / 90)) for key in ("a", GATEWAY, "0") for n in (1, 1000)),
        *(Cell(name, key, "requests/s", 64, (100.0,)) for name in ("stat", "download") for key in ("c", GATEWAY)),
        *(Cell(name, "c", "ms p50", n, (n * 2.0,)) for name in ("stat", "download") for n in (1, 16, 64)),
        *(Cell("stat", "c", prefix + side, 64, (5.0,)) for side in workload_plots.SIDES for prefix in PREFIXES),
        *(Cell(name, key, "requests/s", 16, (40.0,)) for name in ("ls", "ls-apart") for key in ("c", GATEWAY)),
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
        *(Cell(name, "c", "requests/s", 16, (40.0,)) for name in ("jobs", "job", "nodes", "partitions")),
        *(Cell("pollers", "c", what, 200, (40.0,)) for what in ("ms p99", "questions to slurmctld a second")),
        Cell("submit", REST, "ms a job", "one by one", (40.0,)),
        *(Cell("lifecycle", "c", what, 10, (40.0,)) for what in ("s p50, whole life", "jobs/s")),
        *(Cell("cold", key, "seconds", "10 calls each", (2.0,)) for key in ("c", GATEWAY)),
        Cell("crowd", GATEWAY, "ms p99", "all", (20.0,)),
        Cell("workers", "2 workers", "requests/s", "4 processors", (5000.0,)),
        *(Cell("login-nodes", "all nodes healthy", "ms p99", n, (20.0,)) for n in (10, 20, "whole time")),
        *(Cell("soak", GATEWAY, f"{what}, over time", n, (1.0 * n,)) for what in ("ms p99", "MiB") for n in (0, 20)),
    ]
    return Results(cells)


def document(results: Results) -> ReportDocument:
    verdicts = [judge(target, results) for target in TARGETS]
    return ReportDocument(WORKLOADS, "this & that", quick=True, results=results, verdicts=verdicts)


class Page(HTMLParser):
    """Checks that elements are closed in order and that nothing is loaded; collects their names and the text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not [name for name, _ in attrs if name in {"src", "srcset", "onload", "onerror"}]
        assert not [value for name, value in attrs if "href" in name and not (value or "").startswith("#")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> Page:
    parser = Page()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a report of everything."""
    where = tmp_path_factory.mktemp("report") / "new"
    results = everything()
    results.extend([Cell("calls", "ssh", "ms mean, 1 at a time", HOSTILE, (1.0,), HOSTILE)])
    files.write_report(where, document(results))
    return where


def test_every_plot_is_written_and_well_formed(folder: Path) -> None:
    wanted = {f"{name}-{plot}" for name, found in workload_plots.PLOTS.items() for plot in found}
    assert {path.stem for path in folder.glob("*.svg")} == wanted | {"resources-processor", "resources-memory"}
    for path in folder.glob("*.svg"):
        root = ET.fromstring(path.read_text("utf-8"))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"


def test_plots_show_the_names_of_the_contenders_and_the_values(folder: Path) -> None:
    text = "".join(ET.fromstring((folder / "stat-rate.svg").read_text("utf-8")).itertext())
    assert "(c) command over a pooled connection" in text
    assert "Flamecrest" in text
    assert "100" in text


def test_no_plot_is_drawn_without_results() -> None:
    assert not any(files.draw_plots(document(Results())).values())


def test_page_contains_every_workload_and_target_and_loads_nothing(folder: Path) -> None:
    text = (folder / "report.html").read_text("utf-8")
    assert text.startswith("<!doctype html>")
    page = read(text)
    for workload in WORKLOADS:
        assert workload.title in page.text
    for target in TARGETS:
        assert target.text in page.text
    assert not page.seen & {"script", "link", "img", "image", "iframe", "object"}
    assert all(target.startswith("#") for target in re.findall(r"url\((.)", text))
    assert "@import" not in text


def test_met_and_missed_targets_are_counted() -> None:
    results = Results([Cell("memory", GATEWAY, "MiB", 0, (90.0,)), Cell("memory", GATEWAY, "MiB more", 100, (50.0,))])
    assert f"1 met, 1 missed, {len(TARGETS) - 2} not judged" in html.page(document(results), {})


def test_hostile_text_stays_text() -> None:
    hostile = Results([Cell("calls", HOSTILE, "ms mean, 1 at a time", HOSTILE, (1.0,), HOSTILE, 3)])
    hostile.extend(Cell("network", key, "channels a request", HOSTILE, (2.0,), HOSTILE) for key in (HOSTILE, "c"))
    content = replace(document(hostile), site=HOSTILE)
    drawn = files.draw_plots(content)
    text = html.page(content, drawn)
    text.encode()
    page = read(text)
    assert "script" not in page.seen
    assert "alert" in page.text
    assert drawn["network"]
    for plot in (plot for found in drawn.values() for plot in found):
        ET.fromstring(plot.svg)
    for workload in WORKLOADS:
        section = markdown.section(workload, hostile)
        assert "<script" not in section
        assert "![" not in section.replace("!\\[", "")


def test_markdown_shows_the_plots_beside_it(folder: Path) -> None:
    text = (folder / "report.md").read_text("utf-8")
    named = re.findall(r"!\[[\w-]+\]\(([\w-]+\.svg)\)", text)
    assert set(named) == {path.name for path in folder.glob("*.svg")}
    assert f"## {RESOURCES}" in text


def test_json_of_the_report_contains_every_cell(folder: Path) -> None:
    found = json.loads((folder / "result.json").read_text("utf-8"))
    assert len(found["cells"]) == len(everything().cells) + 1


NUMBERS = st.floats(min_value=1e-6, max_value=1e12)


@settings(max_examples=3, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=5))
def test_curves_of_any_positive_points_are_drawn(points: list[tuple[float, float]]) -> None:
    svg = plots.curves("t", ("x", "y"), [plots.Curve("the name", "#000000", points)])
    assert "the name" in "".join(ET.fromstring(svg).itertext())


@settings(max_examples=3, deadline=None)
@given(st.lists(st.floats(min_value=0, max_value=1e12), min_size=1, max_size=5).filter(lambda found: max(found) > 1e-9))
def test_bars_of_any_length_are_drawn_with_their_labels(values: list[float]) -> None:
    rows = [plots.Bar(str(value), {"one": value, "two": value / 3}, f"label {value}") for value in values]
    svg = plots.bars("t", "ms", {"": rows}, {"one": "#000000", "two": "#111111"})
    text = "".join(ET.fromstring(svg).itertext())
    assert all(row.label in text for row in rows)


def test_points_without_a_logarithm_are_left_out() -> None:
    good = [(1.0, 1.0), (10.0, 2.0)]
    bad = [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (math.nan, 1.0), (1.0, math.inf)]
    for point in bad:
        assert plots.curves("t", ("x", "y"), [plots.Curve("c", "#000000", [point])]) == "", point
    with_them = plots.curves("t", ("x", "y"), [plots.Curve("c", "#000000", [*good, *bad])])
    assert with_them == plots.curves("t", ("x", "y"), [plots.Curve("c", "#000000", good)])


def test_timeline_leaves_out_what_cannot_be_drawn() -> None:
    good, bad = [(1.0, 1.0), (10.0, 2.0)], [(2.0, 0.0), (3.0, math.nan), (4.0, math.inf)]
    only_bad = {"ms": [plots.Curve("c", "#000000", bad)]}
    assert timelines.timeline("t", only_bad, logarithmic=["ms"]) == ""
    panels = {"ms": [plots.Curve("c", "#000000", [*good, *bad])], "MiB": [plots.Curve(HOSTILE, "#111111", good)]}
    svg = timelines.timeline("t", panels | {"empty": []}, logarithmic=["ms"])
    assert "alert('x')" in "".join(ET.fromstring(svg).itertext())
    assert "<script" not in svg


def test_bars_without_length_are_not_drawn() -> None:
    assert plots.bars("t", "ms", {"": [plots.Bar("a", {"one": 0.0}, "0")]}, {"one": "#000000"}) == ""
