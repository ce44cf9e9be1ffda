"""Traces for OpenTelemetry: a span for each request, with its phases below it. Knows no HTTP but two header values.

Spans are made when the request has ended, from the times that the log has anyway. A thread sends them in batches; when
the collector does not take them they are dropped. Users and paths are in no span: the request id leads to the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flamecrest import __version__

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from .trace import Trace

NAMES: Final = {"ssh": "remote"}  # of phases, where the log has another name
EXPORT_SECONDS: Final = 10.0  # for one batch
CLOSE_SECONDS: Final = 5.0  # for the last batches, when the process stops
MOST_WAITING: Final = 8192  # spans; further ones are dropped

_CONTEXT: Final = TraceContextTextMapPropagator()


class RequestTracer:
    """Makes and sends the spans of requests."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("flamecrest", __version__)

    def ended(self, trace: Trace, begun: float, headers: Mapping[str, list[str]]) -> None:
        """Make the spans of a request that has ended, and note its trace id for the log.

        begun: the time of `time.perf_counter` at which it began. headers: `traceparent` and `tracestate`, if it has
        them: its span becomes a part of that trace, and is sent if the caller's is.
        """
        now = time.perf_counter()
        offset = time.time_ns() - int(now * 1e9)  # from one clock to the other

        def at(moment: float) -> int:
            return int(moment * 1e9) + offset

        span = self._tracer.start_span(
            f"{trace.method} {trace.route}" if trace.route else trace.method,
            context=_parent(headers),
            kind=SpanKind.SERVER,
            attributes=_attributes(trace),
            start_time=at(begun),
        )
        context = span.get_span_context()
        trace.trace_id = format_trace_id(context.trace_id)
        if span.is_recording():
            below = set_span_in_context(span)
            last = begun
            for name, phase in trace.phases.items():
                if not phase.began:
                    continue
                end = max(phase.began, phase.ended)
                last = max(last, end)
                part = self._tracer.start_span(NAMES.get(name, name), context=below, start_time=at(phase.began))
                part.set_attribute("flamecrest.seconds", phase.seconds)  # less than from start to end if it paused
                part.end(at(end))
            self._tracer.start_span("render", context=below, start_time=at(last)).end(at(now))
            if trace.status >= 500 or (trace.error is not None and trace.status < 400):
                span.set_status(Status(StatusCode.ERROR))
        span.end(at(now))


def _parent(headers: Mapping[str, list[str]]) -> Context | None:
    """The caller's context; None without a valid one. Several `traceparent` headers are not valid."""
    given = headers.get("traceparent", ())
    if len(given) != 1:
        return None
    states = headers.get("tracestate", ())
    return _CONTEXT.extract({"traceparent": given[0]} | ({"tracestate": ",".join(states)} if states else {}))


def _attributes(trace: Trace) -> dict[str, Any]:
    """By https://opentelemetry.io/docs/specs/semconv/http/http-spans/, and two of our own."""
    found: dict[str, Any] = {
        "http.request.method": trace.method,
        "http.response.status_code": trace.status,
        "http.response.body.size": trace.sent,
        "flamecrest.request_id": trace.request_id,
    }
    if trace.route:
        found["http.route"] = trace.route
    if trace.cluster is not None:
        found["flamecrest.cluster"] = trace.cluster
    if trace.error is not None:
        found["error.type"] = trace.error
    return found


@contextlib.asynccontextmanager
async def sending_traces(
    endpoint: str, *, token: str | None = None, ratio: float = 1.0, service_name: str = "flamecrest"
) -> AsyncIterator[RequestTracer]:
    """A tracer that sends to an OTLP endpoint (HTTP, protobuf) while the block runs.

    ratio: the share of traces that is sent, of those that do not come from a caller's trace.
    """
    provider = await asyncio.to_thread(_provider, endpoint, token, ratio, service_name)  # it looks at the machine
    try:
        yield RequestTracer(provider)
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.to_thread(provider.shutdown)


def _provider(endpoint: str, token: str | None, ratio: float, service_name: str) -> TracerProvider:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    exporter = OTLPSpanExporter(endpoint=endpoint, headers=headers, timeout=EXPORT_SECONDS)
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(ratio)),
        resource=Resource.create({"service.name": service_name, "service.version": __version__}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=MOST_WAITING))
    return provider
