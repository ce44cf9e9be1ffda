"""The whole report as files: one HTML page that needs nothing else, the same as Markdown with pictures, and JSON.

It shows what it is given and decides nothing. Everything is escaped: routes and messages come from logs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.results import Results
from bench.targets import Verdict
from bench.workloads.workload import Workload

from . import tables
from .figures import Figure, figures, resources
from .markup import in_html
from .tables import Table

TITLE = "Flamecrest's benchmark"
RESOURCES = "Resource analysis: processor and memory of the server and of sshd"
_STYLE = """
:root { color-scheme: light }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #f4f5f3; margin: 0 }
main { max-width: 1100px; margin: 0 auto; padding: 24px }
h1 { font-size: 28px; margin: 8px 0 } h2 { font-size: 20px; margin: 0 0 12px }
section { background: #fff; border: 1px solid #ddd; border-radius: 8px; padding: 20px; margin: 20px 0 }
section { overflow-x: auto }
nav a { display: inline-block; margin: 0 14px 4px 0; color: #1b7837 }
table { border-collapse: collapse; margin: 14px 0; font-size: 13px }
th, td { padding: 5px 10px; border-bottom: 1px solid #e4e4e4; text-align: right; vertical-align: top }
th { background: #f4f5f3; font-weight: 600 } th:first-child, td:first-child { text-align: left }
td { font-variant-numeric: tabular-nums } tbody tr:hover { background: #f9faf8 }
.targets th, .targets td { text-align: left } .targets td:nth-child(-n+4):not(:first-child) { white-space: nowrap }
.met, .MISSED, .open { border-radius: 10px; padding: 1px 10px; font-weight: 600; font-size: 12px; white-space: nowrap }
.met { background: #d9f0d3; color: #1b5e20 } .MISSED { background: #fddbc7; color: #a11 }
.open { background: #eee; color: #555 }
svg { display: block; width: 100%; max-width: 860px; height: auto; margin: 8px 0 16px }
.note { color: #555; font-size: 13px; margin: 2px 0 }
"""


@dataclass(frozen=True, slots=True)
class Content:
    """What there is to show."""

    preface: str
    verdicts: Sequence[Verdict]
    workloads: Sequence[Workload]
    results: Results


def write(folder: Path, content: Content, document: Mapping[str, Any]) -> None:
    """Write the report into a directory."""
    folder.mkdir(parents=True, exist_ok=True)
    for one in pictures(content):
        (folder / f"{one.name}.svg").write_text(one.svg + "\n", "utf-8")
    (folder / "report.html").write_text(page(content), "utf-8")
    (folder / "report.md").write_text(markdown(content), "utf-8")
    (folder / "result.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def pictures(content: Content) -> list[Figure]:
    """All of them."""
    found = [one for workload in content.workloads for one in figures(workload.name, content.results)]
    return [*resources(content.results), *found]


def markdown(content: Content) -> str:
    """The report as one Markdown document, with its pictures beside it."""
    parts = [content.preface, tables.verdicts(content.verdicts)]
    shared = resources(content.results)
    if shared:
        parts += [f"## {RESOURCES}\n", *map(_embedded, shared)]
    for workload in content.workloads:
        text = tables.tables(workload, content.results)
        heading, _, rest = text.partition("\n")
        parts += [heading + "\n", *map(_embedded, figures(workload.name, content.results)), rest]
    return "\n".join(parts)


def page(content: Content) -> str:
    """The report as one HTML document."""
    lines = content.preface.strip().splitlines()[1:]
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{in_html(TITLE)}</title><style>{_STYLE}</style></head><body><main>",
            f"<h1>{in_html(TITLE)}</h1>",
            *(f"<p>{in_html(line)}</p>" for line in lines if line),
            *_targets(content.verdicts),
            *_navigation(content),
            *_resources(content.results),
            *(line for workload in content.workloads for line in _section(workload, content.results)),
            "</main></body></html>\n",
        ]
    )


def _targets(found: Sequence[Verdict]) -> Iterator[str]:
    met = sum(verdict.passed is True for verdict in found)
    missed = sum(verdict.passed is False for verdict in found)
    counts = f"{met} met, {missed} missed, {len(found) - met - missed} not judged"
    yield f'<section id="targets"><h2>Targets: {counts}</h2>'
    yield '<table class="targets"><thead><tr>'
    yield "".join(f"<th>{head}</th>" for head in ("target", "wanted", "measured", "", "note"))
    yield "</tr></thead><tbody>"
    for verdict in found:
        text, wanted, value, word, note = map(in_html, tables.verdict_row(verdict))
        badge = f'<span class="{word or "open"}">{(word or "not judged").lower()}</span>'
        cells = (text, wanted, value, badge, note)
        yield f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    yield "</tbody></table></section>"


def _navigation(content: Content) -> Iterator[str]:
    yield "<nav>"
    for workload in content.workloads:
        yield f'<a href="#{in_html(workload.name)}">{in_html(workload.name)}</a>'
    yield "</nav>"


def _resources(results: Results) -> Iterator[str]:
    shared = resources(results)
    if shared:
        yield f'<section id="resources"><h2>{in_html(RESOURCES)}</h2>'
        yield from (one.svg for one in shared)
        yield '<p class="note">The figures are in the tables of the workloads.</p></section>'


def _section(workload: Workload, results: Results) -> Iterator[str]:
    yield f'<section id="{in_html(workload.name)}"><h2>{in_html(workload.title)}</h2>'
    yield from (one.svg for one in figures(workload.name, results))
    found = tables.arranged(workload, results)
    for table in found:
        yield from _table(table)
    if not found:
        yield '<p class="note">Not measured.</p>'
    yield "</section>"


def _table(table: Table) -> Iterator[str]:
    yield "<table><thead><tr>" + "".join(f"<th>{in_html(head)}</th>" for head in table.heads) + "</tr></thead><tbody>"
    for row in table.rows:
        yield "<tr>" + "".join(f"<td>{in_html(cell)}</td>" for cell in row) + "</tr>"
    yield "</tbody></table>"
    yield from (f'<p class="note">{in_html(remark)}</p>' for remark in table.remarks)


def _embedded(one: Figure) -> str:
    return f"![{one.name}]({one.name}.svg)\n"
