"""The files of a report: report.html, report.md with its plots, and result.json."""

from __future__ import annotations

import json
from pathlib import Path

from . import html, markdown, workload_plots
from .document import RESOURCES, ReportDocument
from .workload_plots import Plot


def write_report(folder: Path, content: ReportDocument) -> None:
    """Write all files into a directory, which is created if necessary."""
    folder.mkdir(parents=True, exist_ok=True)
    plots = draw_plots(content)
    for plot in (plot for found in plots.values() for plot in found):
        (folder / f"{plot.name}.svg").write_text(plot.svg + "\n", "utf-8")
    (folder / "report.html").write_text(html.page(content, plots), "utf-8")
    (folder / "report.md").write_text(markdown.document(content, plots), "utf-8")
    (folder / "result.json").write_text(json.dumps(content.as_json(), indent=1) + "\n", "utf-8")


def draw_plots(content: ReportDocument) -> dict[str, list[Plot]]:
    """The plots by workload, and those of RESOURCES."""
    plots = {workload.name: workload_plots.plots_of(workload.name, content.results) for workload in content.workloads}
    return {RESOURCES: workload_plots.resource_plots(content.results), **plots}
