"""`flamecrest top`: rates of several replicas, restarts, and replicas that do not answer."""

from __future__ import annotations

import asyncio
import io
import math
import os
import pty
import re
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from rich.console import Console
from typer.testing import CliRunner

from flamecrest.cli.main import app
from flamecrest.cli.serving.options import HttpOptions
from flamecrest.cli.serving.with_uvicorn import uvicorn_server
from flamecrest.cli.top.reading import Change, Reading, Values, parsed, quantile, read_all, users_of
from flamecrest.cli.top.screen import View
from flamecrest.cli.top.tables import clean, milliseconds, number, size
from flamecrest.server.telemetry.metrics.exposition import GatewayCollector
from flamecrest.server.telemetry.metrics.requests import RequestMetrics
from flamecrest.server.telemetry.trace import Trace, phase

from .served import reply

REQUESTS = "flamecrest_http_requests_total"
STAT = "/filesystem/{system_name}/ops/stat"


@cache
def metrics(count: int, *, seconds: float = 0.004, cluster: str = "daint", status: int = 200, route: str = STAT) -> str:
    """The text of a gateway that has served some requests."""
    from prometheus_client.exposition import generate_latest

    from flamecrest.server.telemetry.counters import Sample

    requests = RequestMetrics()
    ssh = phase("ssh")
    ssh.seconds = seconds / 2
    for _ in range(count):
        requests.ended(Trace("r", "c", "GET", route, None, cluster, status, sent=1000, phases={"ssh": ssh}), seconds, 0)
    registry = CollectorRegistry()
    gauges = [
        Sample("flamecrest_ssh_connections", (cluster,), 4),
        Sample("flamecrest_service_refused", (cluster, "ssh", ""), float(status == 503)),
        Sample("flamecrest_service_healthy", ("", "issuer", "https://id.example.org"), float(status != 503)),
        Sample("flamecrest_build_info", ("1.2.3",), 1),
        Sample("flamecrest_scheduler_questions_total", (cluster, "queue"), count),
    ]
    registry.register(GatewayCollector(requests, gauges))
    return generate_latest(registry).decode()


def reading(url: str, at: float, text: str, users: Mapping[str, int] | None = None) -> Reading:
    return Reading(url, at, parsed(text), users)


def shown(*args: object) -> str:
    console = Console(file=io.StringIO(), width=200, highlight=False)
    console.print(View(*args))  # type: ignore[arg-type]
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_a_narrow_terminal_gets_fewer_columns_and_no_broken_ones(width: int) -> None:
    before = [reading("http://127.0.0.1:9464", 0.0, metrics(100), {})]
    after = [reading("http://127.0.0.1:9464", 2.0, metrics(5140), {"ann": 2})]
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(View(before, after))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("cluster ")]
    headings, values = lines[at].split(), lines[at + 2].split()
    assert headings[:3] == ["cluster", "requests/s", "failed/s"]
    assert {"p99", "services"} <= set(headings)
    assert (values[:2], values[-1]) == (["daint", "2,520"], "up")
    assert lines[at + 3].startswith("operation ")
    assert ("queue" in headings) == (width == 200)
    assert max(map(len, lines[at : at + 3])) <= width


def test_rates_of_all_replicas_are_added_and_restarts_begin_anew() -> None:
    before = [reading("a", 0.0, metrics(100)), reading("b", 0.0, metrics(100))]
    after = [reading("a", 2.0, metrics(140)), reading("b", 4.0, metrics(8)), reading("c", 2.0, metrics(1000))]
    change = Change(before, after)
    assert change.rate(REQUESTS, cluster="daint") == 40 / 2 + 8 / 4  # c is new: nothing is known of its rate
    assert change.gauge(REQUESTS) == 1148
    assert change.rate(REQUESTS, cluster="other") == 0
    assert change.mean("flamecrest_http_request_duration_seconds") == pytest.approx(0.004)
    assert change.mean("flamecrest_request_phase_seconds", phase="remote") == pytest.approx(0.002)
    assert 0.0025 <= (change.quantile("flamecrest_http_request_duration_seconds", 0.99) or 0) <= 0.005
    assert Change([], after).mean("flamecrest_http_request_duration_seconds") is None


def test_view_of_two_replicas_of_which_one_is_down() -> None:
    before = [reading("http://a", 0.0, metrics(0)), Reading("http://b", 0.0, problem="does not answer: refused")]
    after = [
        reading("http://a", 2.0, metrics(20, status=503), {"ann": 3, "b\x1b[2Job": 9}),
        Reading("http://b", 2.0, problem="does not answer: refused"),
    ]
    text = shown(before, after)
    assert "1 of 2 replicas" in text
    assert "does not answer: refused" in text
    assert "daint" in text
    assert "refused: ssh" in text
    assert "down: issuer https://id.example.org" in text
    assert "down:" not in shown(before, before)
    assert f"GET {STAT}" in text
    assert text.index("b?[2Job") < text.index("\nann")  # most open requests first; nothing for the terminal to act on
    assert "\x1b" not in text
    assert users_of(before) is None
    assert "user  " not in shown(before, before)


@given(st.lists(st.tuples(st.floats(0.001, 100), st.integers(0, 50)), min_size=1, max_size=8), st.floats(0.01, 1))
def test_quantile_is_within_its_bucket(counts: list[tuple[float, int]], share: float) -> None:
    total, buckets = 0, []
    for bound in sorted({bound for bound, _ in counts}):
        total += sum(count for one, count in counts if one == bound)
        buckets.append((bound, float(total)))
    buckets.append((math.inf, float(total)))
    found = quantile(buckets, share)
    if not total:
        assert found is None
        return
    at = next(index for index, (_, count) in enumerate(buckets) if count >= share * total)
    lower = buckets[at - 1][0] if at else 0.0
    assert found is not None
    assert lower <= found <= min(buckets[at][0], buckets[-2][0]) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("show", "value", "text"),
    [
        (number, 0.0, "0"), (number, 0.04, "0.04"), (number, 3.25, "3.2"), (number, 1234.5, "1,234"),
        (milliseconds, None, "-"), (milliseconds, 0.0042, "4.2 ms"), (milliseconds, 2.5, "2.50 s"),
        (size, 12.0, "12 B"), (size, 1500.0, "1.5 kB"), (size, 2.5e8, "250 MB"), (size, 5e16, "50000 TB"),
        (clean, "a\x1b\n\u202eb é", "a???b é"),
    ],
)  # fmt: skip
def test_values_are_short(show: Callable[[object], str], value: object, text: str) -> None:
    assert show(value) == text


@pytest.mark.anyio
async def test_replicas_are_read_and_their_problems_named(tmp_path: Path) -> None:
    """One server plays all replicas: the path before `/metrics` says which."""
    answers = {
        "/good/metrics": (200, metrics(3).encode()),
        "/good/users": (200, b'{"users": [{"user": "ann", "open": 2}]}'),
        "/page/metrics": (200, b"<html>{ this is = no metric</html>"),
        "/odd/metrics": (200, metrics(1).encode()),
        "/odd/users": (200, b'{"users": [1]}'),
        "/token/metrics": (401, b""),
        "/broken/metrics": (500, b""),
    }

    async def replica(scope, receive, send) -> None:
        status, body = answers.get(scope["path"], (404, b""))
        await reply(send, body, status)

    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_server(("127.0.0.1", 0)) as closed:
        base, refused = (f"http://127.0.0.1:{one.getsockname()[1]}" for one in (listener, closed))
        closed.close()
        async with uvicorn_server(replica, listener, HttpOptions("uvicorn")):
            urls = [f"{base}/{name}" for name in ("good", "page", "odd", "token", "broken", "none")]
            found = await asyncio.to_thread(read_all, [*urls, refused], None, 60.0)
            arguments = ["top", f"{base}/good/metrics", refused, "--once", "--interval", "0.1", "--timeout", "60"]
            result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert result.exit_code == 0, result.output
    assert "1 of 2 replicas" in result.output
    good, *bad, gone = found
    assert (good.problem, good.users) == (None, {"ann": 2})
    assert [(one.problem or "").partition(" (")[0] for one in bad] == [
        "answers with something else than metrics",
        "answers with something else than metrics",
        "needs a valid token",
        "answers with status 500",
        "has no metrics",
    ]
    assert (gone.problem or "").startswith("does not answer: ")
    only = CliRunner().invoke(app, ["top", refused, "--once", "--interval", "0.1"])
    assert only.exit_code == 1
    (tmp_path / "token").write_bytes(b"\xff")
    wrong = (["gw:9464"], ["--token-file", str(tmp_path / "absent")], ["--token-file", str(tmp_path / "token")])
    for arguments in wrong:
        refusal = CliRunner().invoke(app, ["top", *arguments])
        assert refusal.exit_code in {1, 2}
        assert "error: " in refusal.output


@cache
def values_of_many_operations() -> Values:
    values: Values = {}
    for which in range(7):
        for cluster in ("alps", "daint"):
            values |= parsed(metrics(40, route=f"/filesystem/{{system_name}}/ops/of-{which}", cluster=cluster))
    return values


@pytest.mark.parametrize("height", [16, 20, 24, 30, 60])
@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_low_screen_shows_fewer_rows_and_says_so(width: int, height: int) -> None:
    values = values_of_many_operations()
    before = [Reading("http://127.0.0.1:9464", 0.0, dict.fromkeys(values, 0.0))]
    after = [Reading("http://127.0.0.1:9464", 2.0, values, {f"user{which:02}": 1 for which in range(20)})]
    console = Console(file=io.StringIO(), width=width, height=height, highlight=False)
    with console.screen() as whole:
        whole.update(View(before, after))
    assert isinstance(console.file, io.StringIO)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert len(lines) == height  # a screen has no more lines: what does not fit would be lost
    operations, users = (sum(re.search(part, line) is not None for line in lines) for part in ("/of-", r"^user\d"))
    clusters = sum(line.startswith(("alps ", "daint ")) for line in lines)
    assert (clusters == 2) != ("and 1 more cluster" in lines)
    assert clusters == 2 or height < 24
    assert any(line.startswith(f"and {14 - operations} more operation") for line in lines) == (operations > 0)
    assert any(line.startswith(f"and {20 - users} more user") for line in lines) == (users > 0)
    assert operations >= 3 or height < 24
    assert users > 0 or height < 24
    assert height < 60 or operations == 12


def test_keys_end_the_view_and_a_pipe_has_none(tmp_path: Path) -> None:
    """In a terminal of its own, at an address where nothing listens."""
    refused = CliRunner().invoke(app, ["top"])
    assert (refused.exit_code, "--once" in refused.output) == (2, True)
    code = "import sys; sys.argv[1:] = ['top', 'http://127.0.0.1:9']; from flamecrest.cli.main import app; app()"
    master, slave = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", code], stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    seen = b""
    while b"q quits" not in seen:
        assert select.select([master], [], [], 50)[0], seen
        seen += os.read(master, 65536)
    os.write(master, b"xq")
    assert process.wait(50) == 0
    os.close(master)
    assert b"0 of 1 replica" in seen
    assert b"connection refused (does the gateway run" in seen
