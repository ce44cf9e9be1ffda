"""Bodies that end too early, go on too long, or come with an offer of another protocol.

A file is only there if its whole body has come (RFC 9112, 8: an incomplete request is never processed as complete),
in every way of writing.
"""

from __future__ import annotations

import base64
import io
import json
import tarfile
import time
from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import pytest

from .conftest import Gate, check_all, left_over, soon
from .raw import PATIENCE, Wire

BOUNDARY = b"----boundary"
Whole = tuple[bytes, bytes]  # the head without the framing of the body, and the body


def put(gate: Gate) -> Whole:
    return gate.head("PUT", gate.op("upload", "f"))[:-2], b"hello" * 1000


def form(gate: Gate) -> Whole:
    part = b'Content-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    body = b"--" + BOUNDARY + b"\r\n" + part + b"hello" * 1000 + b"\r\n--" + BOUNDARY + b"--\r\n"
    kind = b"Content-Type: multipart/form-data; boundary=" + BOUNDARY
    return gate.head("POST", gate.op("upload", "."), kind)[:-2], body


def mkdir(gate: Gate) -> Whole:
    body = json.dumps({"path": str(gate.work / "f")}).encode()
    return gate.head("POST", f"/filesystem/{gate.system}/ops/mkdir", b"Content-Type: application/json")[:-2], body


def bulk(gate: Gate) -> Whole:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        info = tarfile.TarInfo("f")
        info.size = 5000
        tar.addfile(info, io.BytesIO(b"hello" * 1000))
    target = f"/filesystem/{gate.system}/bulk/upload?path={gate.work}"
    return gate.head("POST", target, b"Content-Type: application/x-tar")[:-2], archive.getvalue()


def tus(gate: Gate) -> Whole:
    metadata = b"Upload-Metadata: path " + base64.b64encode(str(gate.work / "f").encode())
    lines = (
        b"Tus-Resumable: 1.0.0",
        b"Upload-Length: 5000",
        metadata,
        b"Content-Type: application/offset+octet-stream",
    )
    return gate.head("POST", f"/filesystem/{gate.system}/uploads", *lines)[:-2], b"hello" * 1000


WRITES: list[Callable[[Gate], Whole]] = [put, form, mkdir, bulk, tus]


def framed(whole: Whole, *, chunked: bool) -> tuple[bytes, bytes]:
    """Head and body as they are sent."""
    head, body = whole
    if chunked:
        return head + b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return head + b"Content-Length: %d\r\n\r\n" % len(body), body


class Sent(NamedTuple):
    """A way of writing, how its body is framed, and how many of its bytes are missing at the end."""

    write: Callable[[Gate], Whole]
    chunked: bool
    missing: int = 0


def test_a_whole_body_is_written(gate: Gate) -> None:
    """What the tests below send is right, but for its end."""
    whole = [Sent(*parts) for parts in product(WRITES, (False, True))]
    check_all(gate, {str(sent): sent for sent in whole}, written)


def written(gate: Gate, sent: Sent) -> None:
    with gate.dial() as wire:
        wire.send(*framed(sent.write(gate), chunked=sent.chunked))
        answer = wire.answer("PUT")
        assert answer is not None
        assert answer.status in {200, 201, 204}, answer.body
        assert [one.status for one in gate.finish(wire)] == [200]
    assert (gate.work / "f").is_dir() or gate.content("f") == b"hello" * 1000
    assert soon(lambda: not left_over(gate.work, resumable=True))


@pytest.mark.parametrize("how", ["end", "reset"])
def test_a_short_body_writes_nothing(gate: Gate, how: str) -> None:
    short = [Sent(*parts) for parts in product(WRITES, (False, True), (1, 6))]
    check_all(gate, {str(sent): sent for sent in short}, lambda inner, sent: not_written(inner, sent, how))


def not_written(gate: Gate, sent: Sent, how: str) -> None:
    head, body = framed(sent.write(gate), chunked=sent.chunked)
    # entries of an archive that were complete stay; this one is not
    missing = sent.missing + (10240 - 5000 if sent.write is bulk else 0)
    with gate.dial() as wire:
        wire.send(head + body[:-missing])
        if how == "reset":
            wire.reset()
        else:
            wire.end()
            assert all(answer.status >= 400 for answer in wire.answers(["PUT"]))
    with gate.dial() as wire:  # the same folder, so that what was to be written has been by now
        wire.send(gate.head("GET", gate.op("ls", "."), b"Connection: close"))
        assert wire.answer() is not None
    assert not (gate.work / "f").exists()


def test_bytes_behind_a_body_are_no_part_of_it(gate: Gate) -> None:
    """RFC 9112, 9.3.2: the request before them is answered; then 400."""
    check_all(gate, {write.__name__: write for write in WRITES}, with_bytes_behind)


def with_bytes_behind(gate: Gate, write: Callable[[Gate], Whole]) -> None:
    with gate.dial() as wire:
        wire.send(b"".join(framed(write(gate), chunked=False)) + b"more of it\r\n\r\n")
        answers = wire.answers(["PUT"])
    assert len(answers) == 2
    assert answers[0].status in {200, 201, 204}
    assert answers[1].status == 400
    assert (gate.work / "f").is_dir() or gate.content("f") == b"hello" * 1000


UPGRADES = {
    "h2c": (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),
    "h2c without settings": (b"Connection: Upgrade", b"Upgrade: h2c"),
    "websocket": (
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ),
    "several": (b"Connection: keep-alive, upgrade", b"Upgrade: HTTP/2.0, SHTTP/1.3, IRC/6.9"),
    "TLS": (b"Connection: Upgrade", b"Upgrade: TLS/1.0"),
    "without Connection": (b"Upgrade: h2c",),
}


def pieces(request: bytes, body: bytes, how: str) -> list[bytes]:
    match how:
        case "together":
            return [request + body]
        case "apart":
            return [request, body]
        case _:
            return [request, *(body[at : at + 1] for at in range(len(body)))]


def test_an_offered_upgrade_is_ignored(gate: Gate) -> None:
    """RFC 9110, 7.8: a server MAY ignore it; the request is then served as without it, with its body."""
    offers = product(UPGRADES, ("together", "apart", "in bytes"))
    check_all(gate, {f"{name}, {how}": (UPGRADES[name], how) for name, how in offers}, with_an_offer)


def with_an_offer(gate: Gate, offer: tuple[tuple[bytes, ...], str]) -> None:
    upgrade, how = offer
    intruder = gate.intruder()
    for file, body, framing in (
        ("f", b"hello", b"Content-Length: 5"),
        ("g", b"5\r\nhello\r\n0\r\n\r\n", b"Transfer-Encoding: chunked"),
        ("h", intruder, b"Content-Length: %d" % len(intruder)),
    ):
        with gate.dial() as wire:
            wire.send_apart(pieces(gate.head("PUT", gate.op("upload", file), *upgrade, framing), body, how))
            answer = wire.answer("PUT")
            assert answer is not None
            assert answer.status == 201
            assert [one.status for one in gate.finish(wire)] == [200]
        assert gate.content(file) == (intruder if file == "h" else b"hello")


def test_an_offered_upgrade_of_a_get_is_ignored(gate: Gate) -> None:
    check_all(gate, UPGRADES, a_get_with_an_offer)


def a_get_with_an_offer(gate: Gate, upgrade: tuple[bytes, ...]) -> None:
    with gate.dial() as wire:
        wire.send(gate.head("GET", gate.op("ls", "."), *upgrade))
        answer = wire.answer()
        assert answer is not None
        assert answer.status == 200
        assert [one.status for one in gate.finish(wire)] == [200]


UNREAD = [
    ("GET", "/status/liveness", {200}),
    ("HEAD", "/status/systems", {200}),
    ("OPTIONS", "/status/systems", {204}),
    ("GET", "/no/such", {404}),
    ("PUT", "/status/systems", {405}),
    ("DELETE", "/filesystem/none/ops/rm?path=/x", {404}),
    ("POST", "/filesystem/none/ops/upload?path=/x", {404}),
    ("PATCH", "/filesystem/none/uploads/x", {404}),
]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_nobody_reads_is_no_request(gate: Gate, chunked: bool) -> None:
    """RFC 9112, 9.3: the server reads the whole body, or closes after its answer."""
    intruder = gate.intruder()
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(intruder)
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(intruder), intruder) if chunked else intruder

    def unread(gate: Gate, request: tuple[str, str, set[int]]) -> None:
        method, target, statuses = request
        with gate.dial() as wire:
            wire.send(gate.head(method, target, framing) + body)
            answer = wire.answer(method)
            assert answer is not None
            assert answer.status in statuses
            assert [one.status for one in gate.finish(wire)] in ([200], [])

    check_all(gate, {f"{method} {target}": (method, target, statuses) for method, target, statuses in UNREAD}, unread)


def refused_early(gate: Gate, wire: Wire, length: int) -> None:
    lines = (b"Host: gateway", b"Content-Length: %d" % length)
    wire.send(gate.head("PUT", gate.op("upload", "f"), *lines, bare=True))
    answer = wire.answer("PUT")
    assert answer is not None
    assert answer.status == 401


@pytest.mark.live
def test_an_endless_body_behind_a_refusal_is_cut(gate: Gate) -> None:
    """After an early refusal the rest of the body is not taken without end (RFC 9112, 9.6)."""
    with gate.dial() as wire:
        refused_early(gate, wire, 10**12)
        until = time.monotonic() + PATIENCE
        while wire.send(b"x" * 1_000_000):
            assert time.monotonic() < until
            time.sleep(0.01)


def test_a_body_of_another_request_is_not_awaited(gate: Gate) -> None:
    """A small body that was refused early is skipped, or the connection is closed; both are answered in order."""
    intruder = gate.intruder()
    with gate.dial() as wire:
        refused_early(gate, wire, len(intruder))
        wire.send(intruder)
        assert [one.status for one in gate.finish(wire)] in ([200], [])
