"""Where a request's body ends: Content-Length and Transfer-Encoding (RFC 9112, sections 6 and 7; RFC 9110, 8.6).

Each case is a PUT of `f`; what follows its head is given. Whatever the answer is, no part of the body is taken for a
request (RFC 9112, 11.2), and after a refusal the connection is closed (6.3).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import pytest

from .conftest import Gate, check_all
from .raw import PATIENCE

HELLO = b"5\r\nhello\r\n0\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"
OK, BAD, REFUSED = {201}, {400}, {400, 501}
ENDED = {
    "huge",
    "two to the 64th and five",
    "size beyond 64 bits",
    "size of 64 bits",
    "line feeds alone",
    "carriage return alone",
}
INTRUDER = b"INTRUDER"  # in a body: a request that makes another file


@dataclass(frozen=True)
class Case:
    """Header lines, what follows the head, the statuses that are right, and the content of `f` after a 201."""

    section: str
    lines: tuple[bytes, ...]
    body: bytes
    statuses: set[int]
    content: bytes | None = b"hello"
    ended: bool = False  # the server may wait for more bytes: it must see that none will come, and need not answer then


def length(value: bytes, *, statuses: set[int], body: bytes = b"hello", section: str = "9110, 8.6") -> Case:
    return Case(section, (b"Content-Length:" + value,), body, statuses)


def coded(value: bytes, statuses: set[int], *, body: bytes = HELLO + INTRUDER, section: str = "9112, 6.1") -> Case:
    return Case(section, (b"Transfer-Encoding:" + value,), body, statuses)


def chunks(body: bytes, statuses: set[int], *, content: bytes | None = b"hello", section: str = "9112, 7.1") -> Case:
    return Case(section, (CHUNKED,), body, statuses, content)


CASES = {
    # --- Content-Length is 1*DIGIT
    "plain": length(b" 5", statuses=OK),
    "without a space": length(b"5", statuses=OK),
    "tabs around": length(b"\t5\t", statuses=OK),
    "leading zeros": length(b" 0005", statuses=OK),
    "zero": Case("9110, 8.6", (b"Content-Length: 0",), b"", OK, b""),
    "none": Case("9112, 6.3", (), b"", {201, 411}, b""),
    "plus": length(b" +5", statuses=BAD),
    "minus": length(b" -5", statuses=BAD),
    "minus zero": length(b" -0", statuses=BAD),
    "hexadecimal": length(b" 0x5", statuses=BAD),
    "letters": length(b" 5a", statuses=BAD),
    "space inside": length(b" 5 5", statuses=BAD),
    "decimal point": length(b" 5.0", statuses=BAD),
    "exponent": length(b" 1e1", statuses=BAD),
    "underscore": length(b" 1_0", statuses=BAD),
    "empty": length(b"", statuses=BAD),
    "quoted": length(b' "5"', statuses=BAD),
    "other digits": length(b" \xd9\xa5", statuses=BAD),
    "vertical tab": length(b" \x0b5", statuses=BAD),
    "huge": length(b" " + b"9" * 40, statuses={400, 413}),
    "two to the 64th and five": length(b" 18446744073709551621", statuses={400, 413}),
    "list of different": length(b" 5, 6", statuses=BAD, section="9112, 6.3"),
    "list of equal": length(b" 5, 5", statuses=OK | BAD, section="9110, 8.6"),
    "list with an empty element": length(b" 5,", statuses=OK | BAD, section="9110, 8.6"),
    "twice, equal": Case("9110, 8.6", (b"Content-Length: 5", b"Content-Length: 5"), b"hello", OK | BAD),
    "twice, different": Case("9112, 6.3", (b"Content-Length: 5", b"Content-Length: 6"), b"hello" + INTRUDER, BAD),
    "twice, different, short first": Case("9112, 6.3", (b"Content-Length: 0", b"Content-Length: 5"), INTRUDER, BAD),
    "twice, one invalid": Case("9112, 6.3", (b"Content-Length: 5", b"Content-Length: x"), b"hello", BAD),
    # --- Transfer-Encoding
    "chunked": coded(b" chunked", OK, body=HELLO),
    "chunked in capitals": coded(b" CHUNKED", OK, body=HELLO, section="9112, 7"),
    "gzip, chunked": coded(b" gzip, chunked", {501}),
    "gzip in one line, chunked in another": Case(
        "9112, 6.1", (b"Transfer-Encoding: gzip", CHUNKED), HELLO + INTRUDER, {501}
    ),
    "gzip": coded(b" gzip", REFUSED, body=INTRUDER, section="9112, 6.3"),
    "chunked, gzip": coded(b" chunked, gzip", REFUSED, section="9112, 6.3"),
    "identity": coded(b" identity", REFUSED, body=INTRUDER),
    "chunked, identity": coded(b" chunked, identity", REFUSED),
    "identity, chunked": coded(b" identity, chunked", REFUSED),
    "unknown coding": coded(b" xchunked", REFUSED),
    "chunked twice": coded(b" chunked, chunked", REFUSED),
    "chunked in two lines": Case("9112, 6.1", (CHUNKED, CHUNKED), HELLO + INTRUDER, REFUSED),
    "coding without a name": coded(b"", REFUSED, body=INTRUDER),
    "comma": coded(b" ,", REFUSED, body=INTRUDER),
    "chunked with a parameter": coded(b" chunked;q=1", REFUSED),
    "vertical tab before chunked": coded(b" \x0bchunked", REFUSED),
    "NUL after chunked": coded(b" chunked\x00", REFUSED),
    "chunked in quotes": coded(b' "chunked"', REFUSED),
    "other letters": coded(b" chun\xe2\x84\xaaed", REFUSED),  # lower() of some languages makes a k of it
    # --- both: the server may refuse; else chunked counts, and it must close (9112, 6.1)
    "both": Case("9112, 6.1", (b"Content-Length: 5", CHUNKED), HELLO, OK | BAD),
    "both, chunks end early": Case("9112, 6.1", (b"Content-Length: 500", CHUNKED), HELLO + INTRUDER, OK | BAD),
    "both, length ends early": Case("9112, 6.1", (CHUNKED, b"Content-Length: 3"), HELLO + INTRUDER, OK | BAD),
    "both, length zero": Case("9112, 6.1", (b"Content-Length: 0", CHUNKED), HELLO + INTRUDER, OK | BAD),
    # --- white space around names and in folded lines (9112, 5.1 and 5.2)
    "space before the colon": Case("9112, 5.1", (b"Transfer-Encoding : chunked",), HELLO + INTRUDER, BAD),
    "space before the colon of a length": Case("9112, 5.1", (b"Content-Length : 5",), b"hello", BAD),
    "folded coding": Case("9112, 5.2", (b"Transfer-Encoding:\r\n chunked",), HELLO, OK | BAD),
    "folded length": Case("9112, 5.2", (b"Content-Length:\r\n 5",), b"hello", OK | BAD),
    "coding in the fold of another": Case(
        "9112, 5.2", (b"X-A: b\r\n Transfer-Encoding: chunked", b"Content-Length: 5"), b"hello", OK | BAD
    ),
    "line feed alone before a coding": Case(
        "9112, 2.2", (b"X-A: b\nTransfer-Encoding: chunked", b"Content-Length: 5"), HELLO + INTRUDER, OK | BAD
    ),
    "carriage return alone before a coding": Case(
        "9112, 2.2", (b"X-A: b\rTransfer-Encoding: chunked", b"Content-Length: 5"), b"hello", OK | BAD
    ),
    # --- chunks
    "several chunks": chunks(b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", OK),
    "size with zeros": chunks(b"0005\r\nhello\r\n000\r\n\r\n", OK),
    "size in capitals": chunks(b"A\r\nhellohello\r\n0\r\n\r\n", OK, content=b"hellohello"),
    "extension": chunks(b"5;a=b;c\r\nhello\r\n0;d\r\n\r\n", OK, section="9112, 7.1.1"),
    "quoted extension": chunks(b'5;a="b; c\\""\r\nhello\r\n0\r\n\r\n', OK, section="9112, 7.1.1"),
    "space before an extension": chunks(b"5 ;a=b\r\nhello\r\n0\r\n\r\n", OK | BAD, section="9112, 7.1.1"),
    "line feed in an extension": chunks(b"5;a\nb\r\nhello\r\n0\r\n\r\n", BAD, section="9112, 7.1.1"),
    "carriage return in an extension": chunks(b"5;a\rb\r\nhello\r\n0\r\n\r\n", OK | BAD, section="9112, 2.2"),
    "trailer": chunks(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", OK, section="9112, 7.1.2"),
    "length in a trailer": chunks(b"5\r\nhello\r\n0\r\nContent-Length: 500\r\n\r\n", OK | BAD, section="9110, 6.5.1"),
    "coding in a trailer": chunks(
        b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", OK | BAD, section="9110, 6.5.1"
    ),
    "no size": chunks(b"\r\nhello\r\n0\r\n\r\n", BAD),
    "size that is none": chunks(b"g\r\nhello\r\n0\r\n\r\n", BAD),
    "size with 0x": chunks(b"0x5\r\nhello\r\n0\r\n\r\n", BAD),
    "size with a plus": chunks(b"+5\r\nhello\r\n0\r\n\r\n", BAD),
    "size with a minus": chunks(b"-5\r\nhello\r\n0\r\n\r\n", BAD),
    "size with a space before": chunks(b" 5\r\nhello\r\n0\r\n\r\n", BAD),
    "size with a comma": chunks(b"5,5\r\nhello\r\n0\r\n\r\n", BAD),
    "size with an underscore": chunks(b"0_5\r\nhello\r\n0\r\n\r\n", BAD),
    "size beyond 64 bits": chunks(b"10000000000000005\r\nhello\r\n0\r\n\r\n" + INTRUDER, {400, 413}),
    "size of 64 bits": chunks(b"FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n" + INTRUDER, {400, 413}),
    "data longer than its size": chunks(b"4\r\nhello\r\n0\r\n\r\n", BAD),
    "data without its line end": chunks(b"5\r\nhello0\r\n\r\n", BAD),
    "line feeds alone": chunks(b"5\nhello\n0\n\n", OK | BAD, section="9112, 2.2"),
    "line feed behind the data": chunks(b"5\r\nhello\n0\r\n\r\n", OK | BAD, section="9112, 2.2"),
    "carriage return alone": chunks(b"5\rhello\r0\r\r", BAD),
    "trailer that is none": chunks(b"5\r\nhello\r\n0\r\nno colon\r\n\r\n", OK | BAD, section="9112, 5"),
}  # fmt: skip


def test_framing(gate: Gate) -> None:
    check_all(gate, {name: replace(case, ended=name in ENDED) for name, case in CASES.items()}, framed)


def framed(gate: Gate, case: Case) -> None:
    with gate.dial() as wire:
        head = gate.head("PUT", gate.op("upload", "f"), *case.lines)
        wire.send(head + case.body.replace(INTRUDER, gate.intruder()))
        if case.ended:
            wire.end()
        first = wire.answer("PUT")
        if first is None and case.ended:
            return
        assert first is not None, "closed without an answer"
        assert first.status in case.statuses, f"{first.status} is not as RFC {case.section}"
        rest = gate.finish(wire)
    if first.status == 201:
        assert gate.content("f") == case.content
        assert [answer.status for answer in rest] in ([200], [])
    else:
        assert gate.content("f") is None
        assert [answer.status for answer in rest] == ([200] if first.status == 411 else [])  # 411: no body was begun


@pytest.mark.parametrize("name", ["both", "both, chunks end early", "both, length zero"])
def test_both_lengths_end_the_connection(gate: Gate, name: str) -> None:
    """RFC 9112, 6.1: the server MUST close the connection after it has answered."""
    case = CASES[name]
    with gate.dial() as wire:
        wire.send(gate.head("PUT", gate.op("upload", "f"), *case.lines) + case.body.replace(INTRUDER, gate.intruder()))
        assert wire.answer("PUT") is not None
        assert wire.answers() == []


@pytest.mark.parametrize("length", [b"", b"Content-Length: 5\r\n"])
def test_chunked_in_http_1_0_is_faulty(gate: Gate, length: bytes) -> None:
    """RFC 9112, 6.1: the framing is faulty, even beside a Content-Length; the connection MUST be closed."""
    head = gate.head("PUT", gate.op("upload", "f"), CHUNKED, b"Connection: keep-alive").replace(
        b"HTTP/1.1", b"HTTP/1.0"
    )
    with gate.dial() as wire:
        wire.send(head[:-2] + length + b"\r\n" + HELLO + gate.intruder())
        first = wire.answer("PUT")
        assert first is not None
        assert wire.answers() == []
    assert gate.content("f") in ({None, b"hello"} if first.status == 201 else {None})


@pytest.mark.parametrize("field", [b"Authorization: Bearer ", b"Proxy-Authorization: Bearer "])
def test_a_trailer_does_not_authenticate(gate: Gate, field: bytes) -> None:
    """RFC 9110, 6.5.1: fields of authentication are ignored in trailers."""
    with gate.dial() as wire:
        head = gate.head("PUT", gate.op("upload", "f"), b"Host: gateway", CHUNKED, bare=True)
        wire.send(head + b"5\r\nhello\r\n0\r\n" + field + gate.token.encode() + b"\r\n\r\n")
        answer = wire.answer("PUT")
        assert answer is not None
        assert answer.status in {400, 401}
    assert gate.content("f") is None


@pytest.mark.parametrize("what", ["trailer", "trailers", "extension", "size"])
def test_endless_parts_of_chunks_are_cut(gate: Gate, what: str) -> None:
    """Memory is bounded, and time (RFC 9112, 7.1.1: the length of extensions is limited)."""
    begin = {"trailer": b"0\r\nX-A: ", "trailers": b"0\r\n", "extension": b"5;a=", "size": b""}[what]
    more = {"trailers": b"X-A: b\r\n" * 4096, "size": b"0" * 32768}.get(what, b"a" * 32768)
    before = gate.memory()
    with gate.dial() as wire:
        wire.send(gate.head("PUT", gate.op("upload", "f"), CHUNKED) + begin)
        until = time.monotonic() + PATIENCE
        while wire.send(more):
            assert time.monotonic() < until, "the server takes it without end"
            time.sleep(0.002)
    assert gate.memory() - before < 16 * 1024 * 1024
    assert gate.content("f") is None
