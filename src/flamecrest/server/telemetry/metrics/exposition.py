"""All metrics as text, in the format of Prometheus or OpenMetrics. Knows no HTTP but the header `Accept`.

`snapshot` reads the components in the event loop, which is fast. `render` makes the text, in a thread: some thousand
lines take tens of milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from flamecrest import __version__
from flamecrest.server.telemetry.counters import Counters, Sample

from .catalog import COUNTERS, METRICS, SCHEDULER
from .requests import BOUNDS, PHASES

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

    from .requests import Histogram, RequestMetrics

_LES = [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]


async def render(requests: RequestMetrics, counters: Counters, open_requests: int, users: int, accept: str) -> Rendered:
    """All metrics of a gateway. `accept` is the header, by which the format is chosen."""
    samples = snapshot(counters)
    samples += [
        Sample("flamecrest_http_requests_open", (), open_requests),
        Sample("flamecrest_http_users_active", (), users),
        Sample("flamecrest_build_info", (__version__,), 1),
    ]
    return await asyncio.to_thread(_text, requests, samples, accept)


Rendered = tuple[bytes, str]  # the text and its media type


def snapshot(counters: Counters) -> list[Sample]:
    """The values of all components now."""
    samples: list[Sample] = []
    for source in counters:
        for name, value in source.read().items():
            samples += _sample(source.component, name, source.cluster, value)
    for read in counters.measured:
        samples += read()
    return samples


def _sample(component: str, name: str, cluster: str | None, value: float) -> Iterable[Sample]:
    of = () if cluster is None else (cluster,)
    if component == "scheduler":
        source, _, rest = name.partition(".")
        found = SCHEDULER.get(rest.partition(".")[0])
        return () if found is None else (Sample(found, (*of, source), value),)
    if (component, name) not in COUNTERS:
        return ()
    metric, labels = COUNTERS[component, name]
    return (Sample(metric, (*of, *labels), value),)


def _text(requests: RequestMetrics, samples: list[Sample], accept: str) -> Rendered:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(GatewayCollector(requests, samples))
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


class GatewayCollector(Collector):
    """The metrics of the catalog, as the library takes them."""

    def __init__(self, requests: RequestMetrics, samples: list[Sample]) -> None:
        self._requests = requests
        self._samples = samples

    def collect(self) -> Iterator[Family]:
        """One family for each metric that has values."""
        values: dict[str, dict[tuple[str, ...], float]] = {}
        for sample in (*self._samples, *self._of_requests()):
            of = values.setdefault(sample.metric, {})
            of[sample.labels] = of.get(sample.labels, 0.0) + sample.value
        histograms = dict(self._histograms())
        for name, metric in METRICS.items():
            if metric.kind == "histogram":
                yield _histograms(name, histograms[name])
            elif name in values:
                yield _family(name, values[name])

    def _of_requests(self) -> Iterator[Sample]:
        for (method, route, cluster, status), count in self._requests.counts():
            yield Sample("flamecrest_http_requests_total", (method, route, cluster, str(status)), count)
        for labels, operation in list(self._requests.operations.items()):
            yield Sample("flamecrest_http_received_bytes_total", labels, operation.received)
            yield Sample("flamecrest_http_sent_bytes_total", labels, operation.sent)
        for failed, count in list(self._requests.errors.items()):
            yield Sample("flamecrest_http_errors_total", failed, count)

    def _histograms(self) -> Iterator[tuple[str, dict[tuple[str, ...], Histogram]]]:
        requests = self._requests
        durations: dict[tuple[str, ...], Histogram] = {}
        for of, operation in list(requests.operations.items()):
            durations[of] = operation.durations
        phases: dict[tuple[str, ...], Histogram] = {}
        for cluster, histograms in list(requests.phases.items()):
            for phase in PHASES:
                phases[phase, cluster] = histograms[phase]
        yield "flamecrest_http_request_duration_seconds", durations
        yield "flamecrest_request_phase_seconds", phases
        yield "flamecrest_event_loop_delay_seconds", {(): requests.loop_delays}


def _family(name: str, values: dict[tuple[str, ...], float]) -> Family:
    metric = METRICS[name]
    make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = make(name, metric.help, labels=metric.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def _histograms(name: str, values: dict[tuple[str, ...], Histogram]) -> Family:
    family = HistogramMetricFamily(name, METRICS[name].help, labels=METRICS[name].labels)
    for labels, histogram in values.items():
        total, buckets = 0, []
        for le, count in zip(_LES, list(histogram.buckets), strict=True):
            total += count
            buckets.append((le, total))
        family.add_metric(labels, buckets, histogram.sum)
    return family
