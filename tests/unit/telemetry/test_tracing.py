"""The spans of a request: its phases below it, the caller's trace above it."""

from __future__ import annotations

import time

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode

from flamecrest.server.telemetry.trace import Trace, current_trace, phase
from flamecrest.server.telemetry.tracing import RequestTracer

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = PARENT[:-1] + "0"


def traced(trace: Trace, headers: dict[str, list[str]], *, ratio: float = 1.0) -> dict[str, ReadableSpan]:
    """The spans of a request by name; that of the request itself has the name `request`."""
    sent, provider = InMemorySpanExporter(), TracerProvider(sampler=ParentBased(TraceIdRatioBased(ratio)))
    provider.add_span_processor(SimpleSpanProcessor(sent))
    begun = time.perf_counter()
    token = current_trace.set(trace)
    with phase("auth"):
        pass
    with phase("ssh"), phase("queue"):
        pass
    current_trace.reset(token)
    RequestTracer(provider).ended(trace, begun, headers)
    return {"request" if one.kind is SpanKind.SERVER else one.name: one for one in sent.get_finished_spans()}


def request(status: int = 200, error: str | None = None) -> Trace:
    return Trace("r1", "c1", "GET", "/a/{b}", "ann", "daint", status, 5, error)


def test_phases_are_spans_below_the_request() -> None:
    trace = request()
    spans = traced(trace, {"traceparent": [PARENT], "tracestate": ["a=1", "b=2"]})
    assert set(spans) == {"request", "auth", "queue", "remote", "render"}
    root = spans.pop("request")
    assert root.name == "GET /a/{b}"
    assert root.parent is not None
    assert f"{root.parent.span_id:016x}" == "b7ad6b7169203331"
    assert root.parent.trace_state.to_header() == "a=1,b=2"
    assert trace.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert dict(root.attributes or {}) == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.response.body.size": 5,
        "flamecrest.request_id": "r1",
        "http.route": "/a/{b}",
        "flamecrest.cluster": "daint",
    }
    assert root.start_time is not None
    assert root.end_time is not None
    assert abs(root.end_time - time.time_ns()) < 3600e9  # the time of day, not that of another clock
    for span in spans.values():
        assert span.parent is not None
        assert span.parent.span_id == root.context.span_id
        assert span.start_time is not None
        assert span.end_time is not None
        assert root.start_time <= span.start_time <= span.end_time <= root.end_time


@pytest.mark.parametrize(
    ("headers", "ratio", "sent", "taken_over"),
    [
        ({}, 1.0, True, False),
        ({}, 0.0, False, False),
        ({"traceparent": [PARENT]}, 0.0, True, True),  # the caller wants it
        ({"traceparent": [UNSAMPLED]}, 1.0, False, True),
        ({"traceparent": [PARENT, PARENT]}, 1.0, True, False),
        ({"traceparent": ["00-00000000000000000000000000000000-b7ad6b7169203331-01"]}, 1.0, True, False),
        ({"traceparent": ["x" * 1000]}, 1.0, True, False),
        ({"traceparent": [PARENT], "tracestate": ["=,=;\x00" * 99]}, 1.0, True, True),
        ({"tracestate": ["a=1"]}, 1.0, True, False),
    ],
)
def test_a_valid_context_is_taken_over(
    headers: dict[str, list[str]], ratio: float, sent: bool, taken_over: bool
) -> None:
    trace = request()
    assert bool(traced(trace, headers, ratio=ratio)) == sent
    assert (trace.trace_id == "0af7651916cd43dd8448eb211c80319c") == taken_over


@pytest.mark.parametrize(
    ("status", "error", "failed"),
    [(200, None, False), (404, "NotFound", False), (503, "Unavailable", True), (200, "Stopped", True)],
)
def test_failures_of_the_server_are_errors(status: int, error: str | None, failed: bool) -> None:
    root = traced(request(status, error), {})["request"]
    assert (root.status.status_code is StatusCode.ERROR) == failed
    assert (root.attributes or {}).get("error.type") == error
