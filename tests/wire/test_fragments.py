"""The answer to a request does not depend on how TCP has cut it (RFC 9112, 2.1: a message is a sequence of octets)."""

from __future__ import annotations

import random
import secrets
import time

import pytest

from .conftest import LIVENESS, Gate
from .raw import Answer, Malformed

FAST, MANY, TOO_MANY = 300, 2000, 10_000
VARYING = {"date", "f7t-timestamp", "x-request-id", "x-correlation-id", "etag", "last-modified", "content-length"}

Shape = tuple[int, tuple[tuple[str, str], ...], bytes]


def streams(gate: Gate) -> list[tuple[str, bytes, list[str]]]:
    """Name, bytes and methods of what is sent over one connection; the last answer ends it."""
    last = gate.head("GET", LIVENESS, b"Connection: close")
    chunked = gate.head("PUT", gate.op("upload", "g"), b"Transfer-Encoding: chunked")
    put = gate.request("PUT", gate.op("upload", "f"), body=b"hello\r\n\r\nGET / HTTP/1.1\r\n\r\n")
    download = gate.head("GET", gate.op("download", "there"))
    upgrade = gate.head("PUT", gate.op("upload", "h"), b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 5")
    return [
        ("head", last, ["GET"]),
        ("lengths", put + download + last, ["PUT", "GET", "GET"]),
        (
            "chunks",
            chunked + b"5;a=b\r\nhello\r\n000e\r\n, GET / HTTP/1\r\n0\r\nX-Sum: 1\r\n\r\n" + last,
            ["PUT", "GET"],
        ),
        ("upgrade", upgrade + b"hello" + last, ["PUT", "GET"]),
        ("refused", gate.head("GET", "/no") + last, ["GET", "GET"]),
        ("bad length", gate.head("PUT", gate.op("upload", "i"), b"Content-Length: 5x") + b"hello", ["PUT"]),
        (
            "bad chunk",
            gate.head("PUT", gate.op("upload", "i"), b"Transfer-Encoding: chunked") + b"5\r\nhello0\r\n\r\n",
            ["PUT"],
        ),
        ("bad field", gate.head("GET", LIVENESS, b"X A: b"), ["GET"]),
        ("no Host", gate.head("GET", LIVENESS, b"Connection: close", bare=True), ["GET"]),
    ]


def shape(answer: Answer) -> Shape:
    """What must be the same each time."""
    headers = tuple(sorted((name, value) for name, value in answer.headers.items() if name not in VARYING))
    return answer.status, headers, b"" if answer.status in {400, 404} else answer.body


def cuts(size: int, random_: random.Random) -> list[int]:
    """Where to cut: a few places, many, or everywhere in a part of the bytes."""
    match random_.randrange(3):
        case 0:
            return sorted(random_.sample(range(1, size), min(size - 1, random_.randint(1, 3))))
        case 1:
            return sorted(random_.sample(range(1, size), min(size - 1, random_.randint(4, 30))))
        case _:
            start = random_.randrange(1, size)
            return list(range(start, min(size, start + 40)))


def exchange(gate: Gate, sent: bytes, methods: list[str], at: list[int], random_: random.Random) -> list[Shape]:
    with gate.dial() as wire:
        for begin, end in zip([0, *at], [*at, len(sent)], strict=True):
            if not wire.send(sent[begin:end]):
                break
            if random_.random() < 0.1:
                time.sleep(random_.random() * 0.002)  # so that the next piece is a packet of its own
        return [shape(answer) for answer in wire.answers(methods)]


def tried(gate: Gate, count: int) -> None:
    seed = secrets.randbits(32)
    random_ = random.Random(seed)
    (gate.work / "there").write_bytes(bytes(range(256)) * 10)
    given = streams(gate)
    for name, sent, methods in given:  # now what is written is there, and is 204 in both runs
        exchange(gate, sent, methods, [], random_)
        assert sent, name
    expected = {name: exchange(gate, sent, methods, [], random_) for name, sent, methods in given}
    for turn in range(count):
        name, sent, methods = given[turn % len(given)]
        at = cuts(len(sent), random_)
        where = f"seed {seed}, turn {turn}: {name} cut at {at}"
        try:
            found = exchange(gate, sent, methods, at, random_)
        except Malformed as error:
            pytest.fail(f"{where}: {error}")
        if found and ("connection", "close") in found[-1][1]:  # an end that RFC 9112 9.6 allows at any time
            continue
        assert found == expected[name], where
    assert gate.content("f") == b"hello\r\n\r\nGET / HTTP/1.1\r\n\r\n"
    assert gate.content("g") == b"hello, GET / HTTP/1"
    assert gate.content("h") == b"hello"
    assert gate.content("i") is None


def test_fragments(gate: Gate) -> None:
    tried(gate, FAST)


@pytest.mark.live
@pytest.mark.timeout(300)
def test_thousands_of_fragments(gate: Gate) -> None:
    tried(gate, MANY)


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_ten_thousand_fragments(gate: Gate) -> None:
    tried(gate, TOO_MANY)
