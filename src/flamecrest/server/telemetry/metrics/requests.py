"""What is measured of requests: numbers, bytes, errors and times. Knows no HTTP and no text format.

Every label has a bounded number of values: routes by their templates, clusters by the configuration. Users and paths
are never labels. A request costs a few dictionary look-ups here; sums over labels are left to the reader.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from flamecrest.server.telemetry.trace import Trace

# Upper bounds of the buckets, in seconds: from a warm `stat` to a download of some minutes.
BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
PHASES: Final = ("auth", "queue", "connect", "remote", "render")
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER: Final = "other"  # all other methods: clients may invent any number of them


class Histogram:
    """Numbers of values by bucket, the last one without an upper bound, and the sum of the values."""

    __slots__ = ("buckets", "sum")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value, in seconds."""
        self.buckets[bisect_left(BOUNDS, value)] += 1
        self.sum += value


class Operation:
    """One method of one route on one cluster: the duration of its requests, and the bytes of their bodies."""

    __slots__ = ("durations", "received", "sent")

    def __init__(self) -> None:
        self.durations = Histogram()
        self.received = 0
        self.sent = 0


class _Series:
    """The requests of an operation that ended with the same status."""

    __slots__ = ("count", "operation", "phases")

    def __init__(self, operation: Operation, phases: dict[str, Histogram]) -> None:
        self.count = 0
        self.operation = operation
        self.phases = phases


class RequestMetrics:
    """The measurements of all requests since the start."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str, str | None, int], _Series] = {}  # method, route, cluster, status
        self.operations: dict[tuple[str, str, str], Operation] = {}  # method, route, cluster
        self.phases: dict[str, dict[str, Histogram]] = {}  # by cluster and phase
        self.errors: dict[tuple[str, str], int] = {}  # by kind and cluster
        self.loop_delays = Histogram()  # how late timers of the process ran

    def ended(self, trace: Trace, seconds: float, received: int) -> None:
        """Count a request that has ended after so many seconds, and that had a body of `received` bytes."""
        try:
            series = self._series[trace.method, trace.route, trace.cluster, trace.status]
        except KeyError:
            series = self._new(trace)
        series.count += 1
        operation = series.operation
        operation.received += received
        operation.sent += trace.sent
        histogram = operation.durations
        histogram.buckets[bisect_left(BOUNDS, seconds)] += 1  # not by `add`: this runs in every request
        histogram.sum += seconds
        phases, remote, rest = trace.phases, 0.0, seconds
        for name, phase in phases.items():
            spent = phase.seconds
            if name == "ssh":  # holds the time of `queue` and `connect`
                remote += spent
                rest -= spent
                continue
            if name != "auth":
                remote -= spent
            else:
                rest -= spent
            histogram = series.phases[name]
            histogram.buckets[bisect_left(BOUNDS, spent)] += 1
            histogram.sum += spent
        if remote > 0.0:
            histogram = series.phases["remote"]
            histogram.buckets[bisect_left(BOUNDS, remote)] += 1
            histogram.sum += remote
        if rest > 0.0:
            histogram = series.phases["render"]
            histogram.buckets[bisect_left(BOUNDS, rest)] += 1
            histogram.sum += rest
        if trace.error is not None:
            key = trace.error, trace.cluster or ""
            self.errors[key] = self.errors.get(key, 0) + 1

    def _new(self, trace: Trace) -> _Series:
        method = trace.method if trace.method in METHODS else OTHER
        cluster = trace.cluster or ""
        key = method, trace.route, trace.cluster, trace.status
        if (series := self._series.get(key)) is None:
            operation = self.operations.setdefault((method, trace.route, cluster), Operation())
            phases = self.phases.setdefault(cluster, {name: Histogram() for name in PHASES})
            series = self._series[key] = _Series(operation, phases)
        return series

    def counts(self) -> list[tuple[tuple[str, str, str, int], int]]:
        """The number of requests by method, route, cluster (empty: none) and status."""
        return [
            ((method, route, cluster or "", status), series.count)
            for (method, route, cluster, status), series in list(self._series.items())
        ]
