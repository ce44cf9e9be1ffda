"""The report as Markdown, with plots as files beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bench.results import Results
from bench.targets import Verdict
from bench.workloads.workload import Workload

from . import tables
from .document import RESOURCES, ReportDocument
from .escaping import in_markdown
from .tables import Table
from .workload_plots import Plot


def document(content: ReportDocument, plots: Mapping[str, Sequence[Plot]]) -> str:
    """The whole report; `plots` are those of each workload, and of RESOURCES."""
    parts = [preface(content), verdicts(content.verdicts)]
    if plots.get(RESOURCES):
        parts += [f"## {RESOURCES}\n", *map(_embedded, plots[RESOURCES])]
    for workload in content.workloads:
        parts += [f"## {in_markdown(workload.title)}\n", *map(_embedded, plots.get(workload.name, ()))]
        parts.append(_tables(workload, content.results))
    return "\n".join(parts)


def preface(content: ReportDocument) -> str:
    """The title and the conditions of the run."""
    return f"# {content.title}\n\n{content.conditions}\n"


def section(workload: Workload, results: Results) -> str:
    """The tables of a workload with a heading."""
    return f"## {in_markdown(workload.title)}\n\n{_tables(workload, results)}"


def verdicts(found: Sequence[Verdict]) -> str:
    """The table of targets."""
    rows = [tables.verdict_row(verdict) for verdict in found]
    lines = [_line(tables.VERDICT_HEADS), _line(["---", "---", "---:", "---", "---"]), *map(_line, rows)]
    return "\n".join(["## Targets\n", *lines]) + "\n"


def _tables(workload: Workload, results: Results) -> str:
    found = ["\n".join(_lines(table)) + "\n" for table in tables.tables_of(workload, results)]
    return "\n".join(found or ["Not measured.\n"])


def _lines(table: Table) -> Iterator[str]:
    yield _line(table.heads)
    yield _line(["---", *(["---:"] * (len(table.heads) - 1))])
    yield from map(_line, table.rows)
    yield from (f"\n{in_markdown(remark).replace('*', chr(92) + '*', 1)}" for remark in table.remarks)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(in_markdown, cells))} |"


def _embedded(plot: Plot) -> str:
    return f"![{plot.name}]({plot.name}.svg)\n"
