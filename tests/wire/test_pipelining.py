"""Several requests on one connection: order, errors between them, and clients that never read (RFC 9112, 9.3)."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from flamecrest.sandbox.centre import Centre
from tests.live.process import PROGRAMS

from .conftest import LIVENESS, SERVERS, USER, Gate, Gateways, soon
from .raw import Wire

MIB = 1024 * 1024


def test_answers_come_in_order(gate: Gate) -> None:
    """RFC 9112, 9.3.2: in the order of the requests, however long each takes."""
    (gate.work / "f").write_bytes(b"x" * 300_000)
    targets = ["/status/systems", gate.op("checksum", "f"), LIVENESS.decode(), gate.op("download", "f"), "/no"] * 3
    with gate.dial() as wire:
        wire.send(b"".join(gate.head("GET", one, b"X-Request-ID: r%d" % at) for at, one in enumerate(targets)))
        answers = [wire.answer() for _ in targets]
        assert [answer.headers["x-request-id"] for answer in answers if answer] == [f"r{at}" for at in range(15)]
        assert [answer.status for answer in answers if answer] == [200, 200, 200, 200, 404] * 3
        assert [one.status for one in gate.finish(wire)] == [200]


def test_changes_are_made_in_order(gate: Gate) -> None:
    """Each sees what those before it have done (RFC 9112, 9.3.2: unsafe methods are not run side by side)."""
    requests = [
        gate.request("PUT", gate.op("upload", "f"), body=b"first"),
        gate.request("PUT", gate.op("upload", "f"), body=b"second"),
        gate.request("GET", gate.op("download", "f")),
        gate.request("DELETE", gate.op("rm", "f")),
        gate.request("GET", gate.op("download", "f")),
        gate.request("PUT", gate.op("upload", "f"), body=b"third"),
    ]
    with gate.dial() as wire:
        wire.send(b"".join(requests))
        answers = [wire.answer() for _ in requests]
    assert [answer.status for answer in answers if answer] == [201, 204, 200, 204, 404, 201]
    assert [answer.body for answer in answers if answer][2] == b"second"
    assert gate.content("f") == b"third"


@pytest.mark.parametrize(
    "junk", [b"\0\1\2\r\n\r\n", b"junk\r\n\r\n", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", b"\x16\x03\x01"]
)
def test_junk_behind_a_request(gate: Gate, junk: bytes) -> None:
    """The request is answered for what it is; then 400 and the end (RFC 9112, 9.3.2 and 2.2)."""
    (gate.work / "f").write_bytes(b"x")
    with gate.dial() as wire:
        wire.send(gate.request("DELETE", gate.op("rm", "f")) + junk)
        wire.end()
        answers = wire.answers(["DELETE"])
    assert answers, "closed without an answer"
    assert answers[0].status == 204
    assert [answer.status for answer in answers[1:]] in ([400], [])
    assert gate.content("f") is None


def test_close_ends_the_pipeline(gate: Gate) -> None:
    """RFC 9112, 9.6: a server MUST NOT process requests behind one with the option `close`."""
    with gate.dial() as wire:
        wire.send(gate.head("GET", LIVENESS, b"Connection: close") + gate.intruder())
        assert [answer.status for answer in wire.answers()] == [200]


def test_an_error_does_not_end_the_connection(gate: Gate) -> None:
    """RFC 9112, 9.3: connections persist, whatever the status, while the framing is known."""
    with gate.dial() as wire:
        for target, status in (("/no", 404), (gate.op("stat", "none"), 404), ("/status/systems", 200)) * 3:
            wire.send(gate.head("GET", target))
            answer = wire.answer()
            assert answer is not None
            assert answer.status == status


def flood(gate: Gate, request: bytes, size: int) -> Wire:
    """A connection whose client sends requests, as many bytes as the server takes up to `size`, and never reads."""
    wire = gate.dial(receive_buffer=4096)
    wire.socket.setblocking(False)
    data = memoryview(request * (size // len(request)))
    idle = 0
    while data and idle < 20:
        try:
            data = data[wire.socket.send(data) :]
            idle = 0
        except BlockingIOError:
            time.sleep(0.005)  # leave the processor to the server
            idle += 1
        except (ConnectionResetError, BrokenPipeError):
            break
    return wire


@pytest.mark.parametrize(
    ("target", "size"), [(b"/openapi.json", 3_000), (LIVENESS, 250_000)], ids=["large answers", "250 kB of heads"]
)
def test_clients_that_never_read(gate: Gate, target: bytes, size: int) -> None:
    """Memory stays bounded, others are served, and the connections are cut in the end."""
    request = gate.head("GET", target, b"Host: gateway", bare=True)
    with gate.dial() as wire:  # what is made once for all requests
        wire.send(request)
        assert wire.answer() is not None
    before = gate.memory()
    with ExitStack() as stack:
        wires = [stack.enter_context(flood(gate, request, size)) for _ in range(10)]
        assert gate.serves()
        assert gate.memory() - before < 48 * MIB
        assert len(wires) == 10
        assert soon(lambda: gate.connections() == 0), "clients that never read keep their connections"


@pytest.mark.live
@pytest.mark.parametrize("server", SERVERS)
def test_clients_that_never_read_take_no_descriptors_from_others(
    gateways: Gateways, centre: Centre, tmp_path: Path, server: str
) -> None:
    """A process with 64 descriptors serves others soon. uvicorn refuses them until a connection has been ended."""
    program = tmp_path / "few descriptors" / "flamecrest"
    program.parent.mkdir()
    program.write_text(f'#!/bin/bash\nulimit -n 64\nexec {PROGRAMS}/flamecrest "$@"\n')
    program.chmod(0o755)
    gate = gateways.gate(server, centre.home(USER), program.parent)
    request = gate.head("GET", "/openapi.json", b"Host: gateway", bare=True)
    with ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(gate.dial(receive_buffer=4096)).send(request * 30)
        assert soon(gate.serves)
        assert soon(lambda: gate.connections() == 0)
    assert gate.serves()


def test_many_connections_that_send_nothing(gate: Gate) -> None:
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(gate.dial())
        assert gate.serves()
        assert soon(lambda: gate.connections() == 0), "idle connections are not closed"


def test_no_descriptor_is_lost_by_broken_requests(gate: Gate) -> None:
    before = gate.descriptors()
    put = gate.head("PUT", gate.op("upload", "f"), b"Content-Length: 100")
    for sent in (b"junk\r\n\r\n", put, put + b"hello", gate.head("GET", gate.op("ls", ".")), b"GET"):
        for how in ("reset", "end", "close"):
            for _ in range(5):
                with gate.dial() as wire:
                    wire.send(sent)
                    if how == "reset":
                        wire.reset()
                    elif how == "end":
                        wire.end()
                        wire.rest()
    assert soon(lambda: gate.descriptors() <= before + 4)
    assert gate.content("f") is None
