"""Clients that send or read slowly, or stop: the gateway waits as long as is configured, and then cuts.

Where the RFC names a status it is 408 (RFC 9110, 15.5.9); closing without one is right, too. All cases of a server run
at the same time, because each is nothing but waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from .conftest import HEADER_TIMEOUT, LIVENESS, STALL_TIMEOUT, Gate, soon
from .raw import PATIENCE, Wire

CHUNKED = b"Transfer-Encoding: chunked"
CASES: list[Callable[[Gate], None]] = []


def case(test: Callable[[Gate], None]) -> Callable[[Gate], None]:
    """Register a case."""
    CASES.append(test)
    return test


def cut(wire: Wire, more: bytes, pause: float) -> bool:
    """Whether the server cuts a client that sends some bytes now and then."""
    wire.socket.settimeout(0.01)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if not wire.send(more):
            return True
        try:
            if not wire.socket.recv(65536):
                return True
        except TimeoutError:
            time.sleep(pause)
        except ConnectionResetError:
            return True
    return False


@case
def nothing_is_sent(gate: Gate) -> None:
    with gate.dial() as wire:
        assert cut(wire, b"", HEADER_TIMEOUT / 10)


@case
def a_method_without_end(gate: Gate) -> None:
    with gate.dial() as wire:
        assert cut(wire, b"G", HEADER_TIMEOUT / 10)


@case
def a_target_without_end(gate: Gate) -> None:
    with gate.dial() as wire:
        wire.send(b"GET /")
        assert cut(wire, b"a", HEADER_TIMEOUT / 10)


@case
def fields_without_end(gate: Gate) -> None:
    with gate.dial() as wire:
        wire.send(b"GET " + LIVENESS + b" HTTP/1.1\r\nHost: gateway\r\n")
        assert cut(wire, b"X-A: b\r\n", HEADER_TIMEOUT / 10)


@case
def a_slow_head_behind_a_request(gate: Gate) -> None:
    with gate.dial() as wire:
        wire.send(gate.head("GET", LIVENESS))
        assert wire.answer() is not None
        wire.send(b"GET /")
        assert cut(wire, b"a", HEADER_TIMEOUT / 10)


def stops(gate: Gate, name: str, framing: bytes, body: bytes) -> None:
    """A body that stops is 408, or the end of the connection, and no file."""
    with gate.dial() as wire:
        wire.send(gate.head("PUT", gate.op("upload", name), framing) + body)
        assert [answer.status for answer in wire.answers(["PUT"])] in ([408], [])
    assert gate.content(name) is None


@case
def a_body_that_does_not_begin(gate: Gate) -> None:
    stops(gate, "a", b"Content-Length: 100000", b"")


@case
def a_body_that_stops(gate: Gate) -> None:
    stops(gate, "b", b"Content-Length: 100000", b"hello")


@case
def chunks_that_do_not_begin(gate: Gate) -> None:
    stops(gate, "c", CHUNKED, b"")


@case
def chunks_that_stop(gate: Gate) -> None:
    stops(gate, "d", CHUNKED, b"5\r\nhello\r\n")


@case
def a_trailer_that_stops(gate: Gate) -> None:
    stops(gate, "e", CHUNKED, b"5\r\nhello\r\n0\r\nX-A: ")


@case
def a_body_that_does_not_begin_after_100_continue(gate: Gate) -> None:
    with gate.dial() as wire:
        wire.send(gate.head("PUT", gate.op("upload", "f"), b"Expect: 100-continue", b"Content-Length: 5"))
        assert [answer.status for answer in wire.answers(["PUT"])] in ([408], [])
    assert gate.content("f") is None


@case
def a_body_in_drops(gate: Gate) -> None:
    """A byte now and then is no progress (slow POST)."""
    with gate.dial() as wire:
        wire.send(gate.head("PUT", gate.op("upload", "g"), b"Content-Length: 1000000000000"))
        assert cut(wire, b"x", STALL_TIMEOUT / 10)
    assert gate.content("g") is None


@case
def a_trailer_in_drops(gate: Gate) -> None:
    with gate.dial() as wire:
        wire.send(gate.head("PUT", gate.op("upload", "h"), CHUNKED) + b"5\r\nhello\r\n0\r\nX-A: ")
        assert cut(wire, b"x", STALL_TIMEOUT / 10)
    assert gate.content("h") is None


@pytest.mark.live
def test_a_body_behind_a_refusal_in_drops(gate: Gate) -> None:
    """What nobody reads is not awaited for ever."""
    with gate.dial() as wire:
        lines = (b"Host: gateway", b"Content-Length: 1000000000000")
        wire.send(gate.head("PUT", gate.op("upload", "i"), *lines, bare=True))
        answer = wire.answer("PUT")
        assert answer is not None
        assert answer.status == 401
        assert cut(wire, b"x", STALL_TIMEOUT / 10)


@case
def a_slow_body_that_goes_on(gate: Gate) -> None:
    """It is taken: the time limit is for each step, not for the whole."""
    body, steps = bytes(range(256)) * 512, 8
    size = len(body) // steps
    with gate.dial() as wire:
        wire.send(gate.head("PUT", gate.op("upload", "j"), b"Content-Length: %d" % len(body)))
        wire.send_apart((body[at * size : (at + 1) * size] for at in range(steps)), pause=STALL_TIMEOUT / steps * 1.5)
        answer = wire.answer("PUT")
        assert answer is not None
        assert answer.status == 201
    assert gate.content("j") == body


@case
def a_client_that_stops_reading(gate: Gate) -> None:
    with (gate.work / "k").open("wb") as file:
        file.truncate(8_000_000)
    with gate.dial(receive_buffer=4096) as wire:
        wire.send(gate.head("GET", gate.op("download", "k")))
        assert soon(lambda: not gate.holds(wire)), "the connection stays"


@case
def a_client_that_reads_slowly(gate: Gate) -> None:
    """It is served."""
    content = bytes(range(256)) * 8192
    (gate.work / "l").write_bytes(content)
    with gate.dial(receive_buffer=65536) as wire:
        wire.send(gate.head("GET", gate.op("download", "l"), b"Connection: close"))
        data, steps = b"", 0
        while piece := wire.socket.recv(65536):
            data += piece
            if (steps := steps + 1) < 20:
                time.sleep(STALL_TIMEOUT / 12)
    assert data.endswith(content)


def test_slow_clients(gate: Gate) -> None:
    with ThreadPoolExecutor(len(CASES)) as pool:
        runs = {one.__name__: pool.submit(one, gate) for one in CASES}
        assert gate.serves()
        failures = {name: run.exception() for name, run in runs.items()}
    if failed := {name: error for name, error in failures.items() if error is not None}:
        pytest.fail("\n".join(f"{name}: {error!r}" for name, error in failed.items()))
