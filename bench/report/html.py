"""The report as one self-contained HTML page. All text is escaped: routes and messages come from logs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bench.results import Results
from bench.targets import Verdict
from bench.workloads.workload import Workload

from . import tables
from .document import RESOURCES, ReportDocument
from .escaping import in_html
from .tables import Table
from .workload_plots import Plot

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
svg { display: block; width: 100%; max-width: 900px; height: auto; margin: 8px 0 16px }
.note { color: #555; font-size: 13px; margin: 2px 0 }
"""


def page(content: ReportDocument, plots: Mapping[str, Sequence[Plot]]) -> str:
    """The whole report; `plots` are those of each workload, and of RESOURCES."""
    sections = (_section(one, content.results, plots.get(one.name, ())) for one in content.workloads)
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{in_html(content.title)}</title><style>{_STYLE}</style></head><body><main>",
            f"<h1>{in_html(content.title)}</h1>",
            *(f"<p>{in_html(line)}</p>" for line in content.conditions.splitlines()),
            *_targets(content.verdicts),
            *_navigation(content.workloads),
            *_resources(plots.get(RESOURCES, ())),
            *(line for section in sections for line in section),
            "</main></body></html>\n",
        ]
    )


def _targets(verdicts: Sequence[Verdict]) -> Iterator[str]:
    met = sum(verdict.passed is True for verdict in verdicts)
    missed = sum(verdict.passed is False for verdict in verdicts)
    counts = f"{met} met, {missed} missed, {len(verdicts) - met - missed} not judged"
    yield f'<section id="targets"><h2>Targets: {counts}</h2>'
    yield '<table class="targets"><thead><tr>'
    yield "".join(f"<th>{head}</th>" for head in tables.VERDICT_HEADS)
    yield "</tr></thead><tbody>"
    for verdict in verdicts:
        text, wanted, value, word, note = map(in_html, tables.verdict_row(verdict))
        badge = f'<span class="{word or "open"}">{(word or "not judged").lower()}</span>'
        yield f"<tr>{''.join(f'<td>{cell}</td>' for cell in (text, wanted, value, badge, note))}</tr>"
    yield "</tbody></table></section>"


def _navigation(workloads: Sequence[Workload]) -> Iterator[str]:
    yield "<nav>"
    for workload in workloads:
        yield f'<a href="#{in_html(workload.name)}">{in_html(workload.name)}</a>'
    yield "</nav>"


def _resources(plots: Sequence[Plot]) -> Iterator[str]:
    if plots:
        yield f'<section id="resources"><h2>{in_html(RESOURCES)}</h2>'
        yield from (plot.svg for plot in plots)
        yield '<p class="note">The numbers are in the tables of the workloads.</p></section>'


def _section(workload: Workload, results: Results, plots: Sequence[Plot]) -> Iterator[str]:
    yield f'<section id="{in_html(workload.name)}"><h2>{in_html(workload.title)}</h2>'
    yield from (plot.svg for plot in plots)
    found = tables.tables_of(workload, results)
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
