"""Request lines, Host, header fields, and what is no HTTP/1.1 at all (RFC 9112, sections 2, 3 and 5)."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass

import pytest

from .conftest import LIVENESS, Gate, check_all
from .raw import Malformed

HOST = b"Host: gateway\r\n"
OK, BAD = {200}, {400}


@dataclass(frozen=True)
class Case:
    section: str
    request: bytes  # up to the end of the head
    statuses: set[int]


def line(first: bytes, statuses: set[int], section: str = "9112, 3") -> Case:
    return Case(section, first + b"\r\n" + HOST + b"\r\n", statuses)


def target(value: bytes, statuses: set[int], section: str, method: bytes = b"GET") -> Case:
    return line(method + b" " + value + b" HTTP/1.1", statuses, section)


def host(lines: bytes, statuses: set[int], version: bytes = b"1.1", section: str = "9112, 3.2") -> Case:
    return Case(section, b"GET " + LIVENESS + b" HTTP/" + version + b"\r\n" + lines + b"\r\n", statuses)


def field(value: bytes, statuses: set[int], section: str = "9112, 5") -> Case:
    return Case(section, b"GET " + LIVENESS + b" HTTP/1.1\r\n" + HOST + value + b"\r\n\r\n", statuses)


CASES = {
    # --- targets
    "origin form": target(LIVENESS, OK, "9112, 3.2.1"),
    "query": target(LIVENESS + b"?a=b?c/d", OK, "9112, 3.2.1"),
    "absolute form": target(b"http://gateway" + LIVENESS, OK, "9112, 3.2.2"),
    "absolute form of another host": target(b"http://other:81" + LIVENESS, OK, "9112, 3.2.2"),
    "absolute form, scheme in capitals": target(b"HTTP://gateway" + LIVENESS, OK, "9112, 3.2.2"),
    "absolute form without a path": target(b"http://gateway", OK, "9112, 3.2.2"),
    "authority form": target(b"gateway:80", {400, 404}, "9112, 3.2.3"),
    "CONNECT": target(b"gateway:80", {400, 404, 405, 501}, "9110, 9.3.6", b"CONNECT"),
    "asterisk for GET": target(b"*", {400, 404}, "9112, 3.2.4"),
    "asterisk": target(b"*", {200, 204}, "9112, 3.2.4", b"OPTIONS"),
    "absolute form of the asterisk": target(b"http://gateway", {200, 204}, "9112, 3.2.4", b"OPTIONS"),
    "empty target": target(b"", BAD, "9112, 3.2"),
    "target without a slash": target(b"status/liveness", {400, 404}, "9112, 3.2"),
    "fragment": target(LIVENESS + b"#x", {200, 400, 404}, "9112, 3.2.1"),
    "space in the target": target(b"/a b", BAD, "9112, 3.2"),
    "tab in the target": target(b"/a\tb", {400, 404}, "9112, 3.2"),
    "NUL in the target": target(b"/a\0b", BAD, "9112, 3.2"),
    "raw bytes in the target": target(b"/\xff\xfe", {400, 404}, "9112, 3.2"),
    "dot segments": target(b"/../../etc/passwd", {400, 404}, "9110, 4.2.3"),
    "percent of nothing": target(b"/%zz%", {400, 404}, "9110, 4.2"),
    "target of 100,000 bytes": target(b"/" + b"a" * 100_000, {400, 404, 414, 431}, "9112, 3"),
    # --- request lines
    "line of method and target": line(b"GET " + LIVENESS, {400, 505}),
    "two spaces": line(b"GET  " + LIVENESS + b" HTTP/1.1", OK | BAD),
    "space before the method": line(b" GET " + LIVENESS + b" HTTP/1.1", BAD),
    "space behind the version": line(b"GET " + LIVENESS + b" HTTP/1.1 ", OK | BAD),
    "two versions": line(b"GET " + LIVENESS + b" HTTP/1.1 HTTP/1.1", BAD),
    "method in lower case": line(b"get " + LIVENESS + b" HTTP/1.1", {400, 405, 501}, "9110, 9.1"),
    "unknown method": line(b"BREW " + LIVENESS + b" HTTP/1.1", {400, 405, 501}, "9110, 9.1"),
    "method that is no token": line(b"GE(T) " + LIVENESS + b" HTTP/1.1", BAD, "9110, 5.6.2"),
    "method of 10,000 bytes": line(b"G" * 10_000 + b" / HTTP/1.1", {400, 404, 405, 414, 431, 501}),
    "empty line before": Case("9112, 2.2", b"\r\nGET " + LIVENESS + b" HTTP/1.1\r\n" + HOST + b"\r\n", OK | BAD),
    # --- versions
    "HTTP/1.2": line(b"GET " + LIVENESS + b" HTTP/1.2", {200, 400, 505}, "9110, 2.5"),
    "HTTP/2.0": line(b"GET " + LIVENESS + b" HTTP/2.0", {400, 505}, "9110, 15.6.6"),
    "HTTP/0.9": line(b"GET " + LIVENESS + b" HTTP/0.9", {400, 505}, "9110, 15.6.6"),
    "version in lower case": line(b"GET " + LIVENESS + b" http/1.1", {400, 505}, "9112, 2.3"),
    "version with more digits": line(b"GET " + LIVENESS + b" HTTP/1.10", {400, 505}, "9112, 2.3"),
    "version without a number": line(b"GET " + LIVENESS + b" HTTP/", {400, 505}, "9112, 2.3"),
    "RTSP": line(b"OPTIONS * RTSP/1.0", {400, 505}, "9112, 2.3"),
    "SIP": line(b"OPTIONS sip:a@b SIP/2.0", {400, 505}, "9112, 2.3"),
    # --- Host
    "no Host": host(b"", BAD),
    "no Host, HTTP/1.0": host(b"", OK, b"1.0"),
    "two Hosts": host(HOST + b"Host: other\r\n", BAD),
    "two equal Hosts": host(HOST + HOST, BAD),
    "two Hosts, HTTP/1.0": host(HOST + HOST, BAD, b"1.0"),
    "empty Host": host(b"Host:\r\n", OK | BAD),
    "Host with a port": host(b"Host: gateway:8000\r\n", OK),
    "Host of IPv6": host(b"Host: [::1]:8000\r\n", OK),
    "Host with a space": host(b"Host: gate way\r\n", BAD),
    "Host with a path": host(b"Host: gateway/x\r\n", BAD),
    "Host with a user": host(b"Host: user@gateway\r\n", BAD),
    "Host with a query": host(b"Host: gateway?x\r\n", BAD),
    "Host with two ports": host(b"Host: gateway:80:80\r\n", BAD),
    "Host with a port that is none": host(b"Host: gateway:http\r\n", BAD),
    "list of Hosts": host(b"Host: gateway, other\r\n", BAD),
    "Host with a backslash": host(b"Host: gateway\\x\r\n", BAD),
    "Host with raw bytes": host(b"Host: gate\xffway\r\n", BAD),
    "Host with a quote": host(b'Host: gateway"x\r\n', BAD),
    # --- fields
    "value with a tab": field(b"X-A: b\tc", OK),
    "empty value": field(b"X-A:", OK),
    "value of raw bytes": field(b"X-A: \x80\xff", OK | BAD, "9110, 5.5"),
    "NUL in a value": field(b"X-A: b\0c", OK | BAD, "9110, 5.5"),
    "carriage return in a value": field(b"X-A: b\rc", OK | BAD, "9112, 2.2"),
    "control character in a value": field(b"X-A: b\x01c", OK | BAD, "9110, 5.5"),
    "space before the colon": field(b"X-A : b", BAD, "9112, 5.1"),
    "tab before the colon": field(b"X-A\t: b", BAD, "9112, 5.1"),
    "no name": field(b": b", BAD, "9112, 5"),
    "no colon": field(b"X-A", BAD, "9112, 5"),
    "name that is no token": field(b"X(A): b", BAD, "9110, 5.1"),
    "NUL in a name": field(b"X\0A: b", BAD, "9110, 5.1"),
    "raw byte in a name": field(b"X\xffA: b", BAD, "9110, 5.1"),
    "folded line": field(b"X-A: b\r\n c", OK | BAD, "9112, 5.2"),
    "white space before the first field": Case(
        "9112, 2.2", b"GET " + LIVENESS + b" HTTP/1.1\r\n X-A: b\r\n" + HOST + b"\r\n", OK | BAD
    ),
    "Host in a line that begins with white space": Case(
        "9112, 2.2", b"GET " + LIVENESS + b" HTTP/1.1\r\n " + HOST + b"\r\n", BAD
    ),
    "line feeds alone": Case("9112, 2.2", b"GET " + LIVENESS + b" HTTP/1.1\nHost: gateway\n\n", OK | BAD),
    "field of 1 MB": field(b"X-A: " + b"a" * 1_000_000, {400, 413, 431}, "9110, 5.4"),
    "100,000 fields": field(b"\r\n".join([b"X-A: b"] * 100_000), {400, 413, 431}, "9110, 5.4"),
    "name of 1 MB": field(b"X" * 1_000_000 + b": b", {400, 413, 431}, "9110, 5.4"),
    "unknown expectation": field(b"Expect: 200-maybe", {200, 417}, "9110, 10.1.1"),
}


def test_heads(gate: Gate) -> None:
    check_all(gate, CASES, answered)


def answered(gate: Gate, case: Case) -> None:
    with gate.dial() as wire:
        wire.send(case.request)
        answer = wire.answer()
        assert answer is not None, "closed without an answer"
        assert answer.status in case.statuses, f"{answer.status} is not as RFC {case.section}"
        rest = gate.finish(wire)
    if answer.status in {400, 413, 431, 505} and not answer.body.startswith(b'{"errorType"'):
        assert rest == []  # an error of the server itself: it has lost the place where the next request begins
    else:
        assert [one.status for one in rest] in ([200], [])


OTHER_PROTOCOLS = {
    "HTTP/0.9": b"GET /\r\n",
    "HTTP/0.9 with an empty line": b"GET " + LIVENESS + b"\r\n\r\n",
    "NUL": b"\0" * 100,
    "empty lines": b"\r\n" * 100,
    "SMTP": b"EHLO gateway\r\nQUIT\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "JSON": b"{}\n",
    "a method alone": b"GET",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0",  # RFC 9113, 3.4, with empty SETTINGS
}


def test_other_protocols_are_refused(gate: Gate) -> None:
    """An error of HTTP/1.1 (RFC 9110, 15.6.6: 505; RFC 9112, 3: 400), or the end of the connection."""
    check_all(gate, OTHER_PROTOCOLS, refused)


def refused(gate: Gate, sent: bytes) -> None:
    with gate.dial() as wire:
        wire.send(sent)
        wire.end()
        data = wire.rest()
    assert data == b"" or data[:12] in {b"HTTP/1.1 400", b"HTTP/1.1 408", b"HTTP/1.1 505", b"HTTP/1.0 400"}


def test_tls_on_the_plain_port_is_refused(gate: Gate) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="gateway")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    with gate.dial() as wire:
        wire.send(outgoing.read())
        wire.end()
        data = wire.rest()
    assert data == b"" or data.startswith(b"HTTP/1.1 400")


def test_random_bytes_are_refused(gate: Gate) -> None:
    for _ in range(20):
        with gate.dial() as wire:
            wire.send(os.urandom(1000))
            wire.end()
            try:
                answers = wire.answers()
            except Malformed as error:
                pytest.fail(str(error))
        assert {answer.status for answer in answers} <= {400, 431, 505}


def test_http_1_0(gate: Gate) -> None:
    """No chunks and no 100-continue for a client of HTTP/1.0 (RFC 9112, 6.1; RFC 9110, 10.1.1); closed (9112, 9.3)."""
    (gate.work / "f").write_bytes(b"x" * 100_000)
    head = gate.head("GET", gate.op("download", "f")).replace(b"HTTP/1.1", b"HTTP/1.0")
    listing = gate.head("GET", gate.op("ls", "."), b"Accept: application/x-ndjson").replace(b"HTTP/1.1", b"HTTP/1.0")
    put = gate.head("PUT", gate.op("upload", "g"), b"Expect: 100-continue", b"Content-Length: 5")
    for request, status in ((head, 200), (listing, 200), (put.replace(b"HTTP/1.1", b"HTTP/1.0") + b"hello", 201)):
        with gate.dial() as wire:
            wire.send(request)
            answers = wire.answers(["GET"])
        assert [answer.status for answer in answers] == [status]
        assert "transfer-encoding" not in answers[0].headers
        assert answers[0].interim == ()
    assert gate.content("g") == b"hello"


def test_expect_100_continue(gate: Gate) -> None:
    """RFC 9110, 10.1.1: 100 before the body is read; a final status instead of it; nothing without a body."""
    for value in (b"100-continue", b"100-Continue"):
        with gate.dial() as wire:
            wire.send(gate.head("PUT", gate.op("upload", "f"), b"Expect: " + value, b"Content-Length: 5"))
            assert wire.interim() == 100
            wire.send(b"hello")
            answer = wire.answer("PUT")
            assert answer is not None
            assert answer.status in {201, 204}
            assert [one.status for one in gate.finish(wire)] == [200]
    assert gate.content("f") == b"hello"


@pytest.mark.parametrize("sends", [False, True])
def test_expect_100_continue_is_refused_early(gate: Gate, sends: bool) -> None:
    """The final status comes instead of 100; the body that comes nevertheless is no request (RFC 9110, 10.1.1)."""
    intruder = gate.intruder()
    with gate.dial() as wire:
        lines = (b"Host: gateway", b"Expect: 100-continue", b"Content-Length: %d" % len(intruder))
        wire.send(gate.head("PUT", gate.op("upload", "f"), *lines, bare=True))
        answer = wire.answer("PUT")
        assert answer is not None
        assert (answer.status, answer.interim) == (401, ())
        if sends:
            wire.send(intruder)
        wire.end()
        assert all(one.status == 400 for one in wire.answers())
    assert gate.content("f") is None


def test_a_head_in_single_bytes(gate: Gate) -> None:
    with gate.dial() as wire:
        request = gate.request("PUT", gate.op("upload", "f"), body=b"hello")
        wire.send_apart(request[at : at + 1] for at in range(len(request)))
        answer = wire.answer("PUT")
        assert answer is not None
        assert answer.status == 201
    assert gate.content("f") == b"hello"
