"""The Grafana dashboard and the alert rules ask for metrics and labels that exist."""

from __future__ import annotations

import re

import pytest

from flamecrest.server.telemetry.metrics.catalog import METRICS

from .monitoring import alert_queries, dashboard, dashboard_queries, metric_names

OF_THE_PROCESS = {
    "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_max_fds", "up",
}  # fmt: skip
OF_THE_SCRAPE = {"job", "instance", "le"}
QUERIES = [*dashboard_queries(), *alert_queries()]


@pytest.mark.parametrize("query", QUERIES)
def test_query_uses_metrics_and_labels_that_exist(query: str) -> None:
    names = list(metric_names(query))
    assert names
    labels: set[str] = set()
    for name, selected in names:
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        metric = METRICS.get(name) or METRICS.get(base)
        if metric is None:
            assert name in OF_THE_PROCESS, name
            continue
        assert (name != base) == (metric.kind == "histogram"), name
        assert selected <= {*metric.labels, *OF_THE_SCRAPE}, name
        labels |= {*metric.labels, *OF_THE_SCRAPE}
        if metric.kind == "counter":
            assert re.search(rf"(rate|increase)\({name}", query), f"{name} is a counter"
    grouped = {label.strip() for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(",")}
    assert grouped <= labels


def test_panels_do_not_overlap_and_have_names() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert panel["title"]
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        letters = [target["refId"] for target in panel.get("targets", ())]
        assert len(set(letters)) == len(letters)
