"""What is measured of requests: phases without overlap, and a bounded number of series."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import get_args

import pytest

from flamecrest.server.telemetry.metrics.catalog import COUNTERS, METRICS, SCHEDULER, Metric
from flamecrest.server.telemetry.metrics.requests import BOUNDS, OTHER, PHASES, RequestMetrics
from flamecrest.server.telemetry.trace import Trace, phase

ROUTE = "/filesystem/{system_name}/ops/stat"


def trace(spent: Mapping[str, float] = MappingProxyType({}), *, method: str = "GET", status: int = 200) -> Trace:
    phases = {name: phase(name) for name in spent}
    for name, seconds in spent.items():
        phases[name].seconds = seconds
    return Trace("r", "c", method, ROUTE, "ann", "daint", status, sent=10, phases=phases)


@pytest.mark.parametrize(
    ("spent", "phases"),
    [
        ({}, {"render": 1.0}),
        ({"auth": 0.25}, {"auth": 0.25, "render": 0.75}),
        ({"auth": 0.25, "ssh": 0.5}, {"auth": 0.25, "remote": 0.5, "render": 0.25}),
        ({"ssh": 0.5, "queue": 0.125}, {"queue": 0.125, "remote": 0.375, "render": 0.5}),
        (
            {"ssh": 0.75, "queue": 0.125, "connect": 0.125},
            {"queue": 0.125, "connect": 0.125, "remote": 0.5, "render": 0.25},
        ),
        ({"ssh": 1.0, "connect": 1.0}, {"connect": 1.0}),
    ],
)  # fmt: skip
def test_phases_do_not_overlap(spent: dict[str, float], phases: dict[str, float]) -> None:
    metrics = RequestMetrics()
    metrics.ended(trace(spent), 1.0, 0)
    found = metrics.phases["daint"]
    assert {name: one.sum for name, one in found.items() if sum(one.buckets)} == phases
    assert sum(phases.values()) == 1.0


def test_requests_are_counted_by_route_status_and_cluster() -> None:
    metrics = RequestMetrics()
    for status in (200, 200, 404):
        metrics.ended(trace(status=status), 0.003, 5)
    failed = trace(status=503)
    failed.error = "Unavailable"
    metrics.ended(failed, 1000.0, 0)
    assert dict(metrics.counts()) == {
        ("GET", ROUTE, "daint", status): n for status, n in ((200, 2), (404, 1), (503, 1))
    }
    operation = metrics.operations["GET", ROUTE, "daint"]
    assert (operation.received, operation.sent) == (15, 40)
    assert operation.durations.sum == pytest.approx(1000.009)
    assert operation.durations.buckets[BOUNDS.index(0.005)] == 3
    assert operation.durations.buckets[-1] == 1
    assert metrics.errors == {("Unavailable", "daint"): 1}


def test_invented_methods_make_one_series() -> None:
    metrics = RequestMetrics()
    for number in range(1000):
        metrics.ended(trace(method=f"M{number}", status=405), 0.1, 0)
    assert dict(metrics.counts()) == {(OTHER, ROUTE, "daint", 405): 1000}
    assert list(metrics.operations) == [(OTHER, ROUTE, "daint")]


def test_the_catalog_follows_the_rules_of_names() -> None:
    kinds = get_args(Metric.__annotations__["kind"]) or ("counter", "gauge", "histogram")
    for metric in METRICS.values():
        assert metric.kind in kinds
        assert metric.name.startswith("flamecrest_")
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert metric.help.endswith("."), metric.name
        assert metric.kind != "histogram" or metric.name.endswith("_seconds")
        assert not {"user", "path", "job"} & set(metric.labels)
    used = {name for name, _ in COUNTERS.values()} | set(SCHEDULER.values())
    assert used <= set(METRICS)
    assert {len(METRICS[name].labels) - len(more) for name, more in COUNTERS.values()} <= {0, 1}
    assert set(PHASES) == {"auth", "queue", "connect", "remote", "render"}
