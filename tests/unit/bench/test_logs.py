"""Access logs and SSH counters: valid lines are added up, all others are skipped."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bench.measure import counters, logs
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.anyio

SPLIT = {"ms": 10.0, "auth_ms": 1.0, "queue_ms": 2.0, "ssh_ms": 4.0}
ANSWERING = """
import json, signal, sys
def answer(*_):
    for cluster, opened in (("one", 2), ("two", 5)):
        line = {"logger": "flamecrest.pool", "message": "pool", "cluster": cluster, "opened": opened, "idle": 1}
        print(json.dumps(line), file=sys.stderr, flush=True)
signal.signal(signal.SIGUSR1, answer)
print("ready", flush=True)
while True:
    signal.pause()
"""


def line(**fields: Any) -> bytes:
    route = "/filesystem/{system_name}/ops/stat"
    whole = {"logger": "flamecrest.access", "method": "GET", "route": route, "status": 200, **SPLIT, **fields}
    return json.dumps(whole).encode()


def test_time_outside_the_measured_parts_is_the_servers() -> None:
    (call,) = logs.calls([line()])
    assert call == logs.LoggedCall("GET ops/stat", 10.0, {"auth": 1.0, "queue": 2.0, "ssh": 4.0, "server": 3.0})


def test_part_missing_in_the_log_took_no_time() -> None:
    (call,) = logs.calls([b'{"logger": "flamecrest.access", "method": "GET", "route": "/x", "status": 200, "ms": 7}'])
    assert call.parts == {"auth": 0.0, "queue": 0.0, "ssh": 0.0, "server": 7.0}


def test_rounding_gives_no_negative_time() -> None:
    (call,) = logs.calls([line(ms=7.0, ssh_ms=4.001)])
    assert call.parts["server"] == 0.0


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"Traceback (most recent call last):",
        line()[:-5],
        line() + b"}",
        b"\xff\xfe" + line(),
        b"null",
        b"[1, 2]",
        b'"flamecrest.access"',
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b"1" * 60_000,
        line(padding="x" * logs.MAX_LINE),
        line(logger="flamecrest.pool"),
        line(logger=["flamecrest.access"]),
        line(status=500),
        line(status="200"),
        line(status=None),
        line(ms=None),
        line(ms="10"),
        line(ms=True),
        line(ms=-1),
        line(ms=float("nan")),
        line(ms=float("inf")),
        line(ms=10**400),
        line(ssh_ms="4"),
        line(ssh_ms=-4),
        line(queue_ms=float("nan")),
        line(auth_ms={"ms": 1}),
    ],
)
def test_invalid_access_line_is_skipped(broken: bytes) -> None:
    assert len(logs.calls([line(), broken, line()])) == 2


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_skipped(text: bytes) -> None:
    assert logs.calls([text]) == []
    assert counters.counted([text]) is None


ODD = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.none(), max_size=2)


@given(st.dictionaries(st.sampled_from(["method", "route", "status", *SPLIT]), ODD))
def test_times_are_finite_and_not_negative_for_any_field_values(fields: dict[str, Any]) -> None:
    for call in logs.calls([line(**fields)]):
        assert math.isfinite(call.total)
        assert all(math.isfinite(part) and part >= 0 for part in call.parts.values())


def test_calls_are_grouped_by_operation() -> None:
    found = logs.calls([line(), line(method="POST", route="/filesystem/{system_name}/bulk/stat"), line(route=7)])
    assert [*logs.by_operation(found)] == ["GET ops/stat", "POST bulk/stat", "unknown"]


@given(st.lists(st.floats(0, 1e6), min_size=1), st.sampled_from([0.0, 0.5, 0.99, 1.0]))
def test_percentile_is_the_nearest_rank(values: list[float], share: float) -> None:
    found = logs.percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)


def test_percentiles_of_known_values() -> None:
    assert logs.percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert logs.percentile([float(number) for number in range(1, 101)], 0.99) == 99.0


def pool(**fields: Any) -> bytes:
    return json.dumps({"logger": "flamecrest.pool", "message": "pool", "cluster": "one", **fields}).encode()


def test_last_counters_of_each_cluster_are_added() -> None:
    lines = [pool(opened=1, idle=3), pool(opened=2, bytes_sent=10), pool(cluster="two", opened=5), line()]
    assert counters.counted(lines) == {"opened": 7, "bytes_sent": 10}


def test_counters_that_are_not_integers_are_ignored() -> None:
    broken = pool(opened="5", channels_opened=None, messages_sent=[1], bytes_sent=True, bytes_received=float("nan"))
    assert counters.counted([broken, pool(cluster=["two"], opened=3)]) == {"opened": 3}


async def test_counters_are_read_after_a_signal(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-c", ANSWERING], stdout=subprocess.PIPE, stderr=file)
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            assert await counters.read_counters(process.pid, log) == {"opened": 7}
        finally:
            process.kill()


async def test_process_without_a_signal_handler_gets_no_signal(tmp_path: Path) -> None:
    program = ["import sys; print(flush=True); sys.stdin.read()"]
    with subprocess.Popen([sys.executable, "-c", *program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert not counters.handles(process.pid, signal.SIGUSR1)
        assert await counters.read_counters(process.pid, tmp_path / "log") is None
        assert process.poll() is None


def test_incomplete_line_is_not_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"one\ntwo\nthr")
    assert counters.since(log, 4) == [b"two"]
    assert counters.since(log, log.stat().st_size) == []
