"""The metrics' port: what it shows of a gateway over the sandbox, and to whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families

from flamecrest.cli.serve import listen
from flamecrest.cli.serving.metrics_port import serving_metrics
from flamecrest.cli.serving.options import HttpOptions
from flamecrest.cli.serving.with_uvicorn import uvicorn_server
from flamecrest.sandbox.centre import Centre
from flamecrest.server.app import create_app
from flamecrest.server.http.edge.application import Edge
from flamecrest.server.http.edge.metrics import MetricsEndpoint
from flamecrest.server.settings import MetricsSettings, load
from flamecrest.server.telemetry.metrics.catalog import COUNTERS, METRICS, SCHEDULER
from flamecrest.server.telemetry.metrics.requests import RequestMetrics
from tests.unit.cli.served import reply

pytestmark = pytest.mark.anyio

USER = "fireuser"
MINIMAL = Path(__file__).parents[2] / "settings" / "minimal.yaml"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TOKEN = {"Authorization": "Bearer scraper"}
STAT_SPAN = "GET /filesystem/{system_name}/ops/stat"
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    """The sum of the samples with these labels."""
    return sum(number for (one, has), number in found.items() if one == name and labels.items() <= dict(has).items())


def application(centre: Centre, folder: Path, collector: str) -> Edge:
    config = centre.write_config()
    more = {
        "metrics": {"token": "scraper", "users": True},
        "tracing": {"endpoint": f"{collector}/v1/traces", "token": "tracer"},
        "audit": {"file": str(folder / "audit.jsonl")},
        "limits": {"users": [{"claims": {}, "verbs": {"jobs:submit": {"requests_per_second": 0.001, "burst": 1}}}]},
    }
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | more))
    return create_app(load(config, {}))


@asynccontextmanager
async def gateway(folder: Path, collector: str) -> AsyncIterator[tuple[Edge, Centre, httpx.AsyncClient]]:
    """A gateway with metrics, traces, limits and an audit log, and a client of it."""
    async with Centre(folder / "centre") as centre:
        app = await asyncio.to_thread(application, centre, folder, collector)
        async with app.router.lifespan_context(app), client_of(app, f"Bearer {centre.token(USER)}") as client:
            yield app, centre, client


def client_of(app: object, authorization: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://x", headers={"Authorization": authorization})


@asynccontextmanager
async def collecting(spans: list[Span]) -> AsyncIterator[str]:
    """The URL of a collector of OpenTelemetry's traces."""

    async def collector(scope, receive, send) -> None:
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        headers = dict(scope["headers"])
        assert (scope["path"], headers[b"authorization"]) == ("/v1/traces", b"Bearer tracer")
        taken = ExportTraceServiceRequest.FromString(body + message["body"])
        spans.extend(span for one in taken.resource_spans for scoped in one.scope_spans for span in scoped.spans)
        await reply(send)

    with listen("127.0.0.1", 0) as listener:
        async with uvicorn_server(collector, listener, HttpOptions("uvicorn")):
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with asyncio.timeout(60):  # the last batch is sent when the gateway has stopped
                while len([span for span in spans if span.name == STAT_SPAN]) < 5:
                    await asyncio.sleep(0.02)


async def test_metrics_and_traces_of_a_gateway(tmp_path: Path) -> None:
    spans: list[Span] = []
    async with collecting(spans) as collector, gateway(tmp_path, collector) as (app, centre, client):
        assert app.metrics is not None
        stat = f"/filesystem/{centre.system}/ops/stat"
        home = str(centre.home(USER))
        for _ in range(3):
            answer = await client.get(stat, params={"path": home}, headers={"traceparent": PARENT})
            assert answer.status_code == 200
        assert (await client.get(stat, params={"path": f"{home}/absent"})).status_code == 404
        assert (await client.get(stat, headers={"Authorization": "Bearer x"})).status_code == 401
        job = {"job": {"script": "#!/bin/sh\ntrue\n", "workingDirectory": home, "account": "test"}}
        statuses = [(await client.post(f"/compute/{centre.system}/jobs", json=job)).status_code for _ in range(2)]
        assert statuses == [201, 429]
        assert (await client.get(f"/compute/{centre.system}/jobs")).status_code == 200
        with listen("127.0.0.1", 0) as listener:
            settings = MetricsSettings.model_validate({"token": "scraper", "users": True})
            async with serving_metrics(app, listener, settings):
                port = listener.getsockname()[1]
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=TOKEN) as scraper:
                    answer = await scraper.get("/metrics")
                    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
                    assert (await scraper.get("/metrics", headers=accept)).text.endswith("# EOF\n")
                    assert (await scraper.get("/users")).json() == {"users": []}
        components = {(one.component, name) for one in app.gateway.counters for name in one.read()}
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found = samples(answer.text)
    route = "/filesystem/{system_name}/ops/stat"
    on = {"route": route, "cluster": centre.system}
    assert value(found, "flamecrest_http_requests_total", status="200", **on) == 3
    assert value(found, "flamecrest_http_requests_total", status="404", **on) == 1
    assert value(found, "flamecrest_http_requests_total", status="401", route=route, cluster="") == 1
    assert value(found, "flamecrest_http_request_duration_seconds_count", **on) == 4
    assert value(found, "flamecrest_request_phase_seconds_count", phase="connect", cluster=centre.system) >= 1
    assert value(found, "flamecrest_request_phase_seconds_count", phase="remote", cluster=centre.system) >= 5
    assert value(found, "flamecrest_http_errors_total", error="NotFound", cluster=centre.system) == 1
    assert value(found, "flamecrest_ssh_connections", cluster=centre.system) == 1
    assert value(found, "flamecrest_scheduler_questions_total", cluster=centre.system) >= 1
    assert value(found, "flamecrest_limits_refusals_total", party="user") == 1
    assert value(found, "flamecrest_auth_tokens_accepted_total") == 1
    assert value(found, "process_cpu_seconds_total") > 0
    assert ("flamecrest_audit_lag_seconds", ()) in found
    assert home not in answer.text
    assert USER not in answer.text
    traces = [span for span in spans if span.trace_id.hex() == PARENT.split("-")[1]]
    assert len([span for span in traces if span.name == STAT_SPAN]) == 3
    assert {span.name for span in traces} >= {"auth", "connect", "remote", "render"}
    assert home not in str(spans)
    check_names(components, found)


def check_names(components: set[tuple[str, str]], found: Samples) -> None:
    """Whatever a component counts is in the catalog, and whatever is shown."""
    unknown = {
        (component, name)
        for component, name in components
        if not ((component, name) in COUNTERS or (component == "scheduler" and name.split(".")[1] in SCHEDULER))
    }
    assert not unknown
    shown = {name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name, _ in found}
    ours = {name.removesuffix("_created") for name in shown if name.startswith("flamecrest_")}
    assert ours <= set(METRICS)


@pytest.mark.parametrize(
    ("method", "path", "token", "status"),
    [
        ("GET", "/metrics", "", 401),
        ("GET", "/metrics", "Bearer wrong", 401),
        ("GET", "/users", "", 401),
        ("GET", "/", "", 401),
        ("GET", "/", "Bearer t", 404),
        ("GET", "/metrics/", "Bearer t", 404),
        ("POST", "/metrics", "Bearer t", 405),
        ("GET", "/metrics", "Bearer t", 503),  # before the gateway has started
    ],
)
async def test_the_port_refuses(method: str, path: str, token: str, status: int) -> None:
    app = await asyncio.to_thread(lambda: create_app(load(MINIMAL, {})))
    assert app.metrics is None  # nothing is measured unless it is configured
    endpoint = MetricsEndpoint(app, RequestMetrics(), token="t")
    async with client_of(endpoint, token) as client:
        if not token:
            del client.headers["Authorization"]
        answer = await client.request(method, path)
    assert answer.status_code == status
    assert answer.text


async def test_audit_records_that_cannot_be_written_are_seen(tmp_path: Path) -> None:
    from flamecrest.server.audit.chain import Chain
    from flamecrest.server.audit.writer import AuditWriter

    class Full:
        """A destination whose disk is full."""

        def write(self, _: Sequence[bytes]) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            pass

    async with AuditWriter([Full()], lambda: Chain(b"", ""), close_seconds=0.0) as writer:
        writer.add({"event": "call"})
        found: dict[str, float] = {}
        async with asyncio.timeout(20):
            while not found.get("flamecrest_audit_destinations_failing"):
                await asyncio.sleep(0.02)
                found = {one.metric: one.value for one in writer.samples()}
    assert found["flamecrest_audit_records_waiting"] == 2  # with that of the start
    assert found["flamecrest_audit_lag_seconds"] > 0
