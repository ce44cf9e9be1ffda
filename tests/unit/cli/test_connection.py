"""The HTTP server's parsing of requests and its responses, over a real socket."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from flamecrest.cli.connection import MAX_HEAD

from .served import answer, body_of, connected, raw, reply, serving

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops: their transports differ."""
    return "asyncio", {"use_uvloop": request.param}


GET = b"GET /a%20b/%C3%A9?q=%41&r HTTP/1.1\r\nHost: x\r\nX-Two: 1\r\nx-two: 2\r\n\r\n"
CLOSE = b"GET /last HTTP/1.1\r\nConnection: close\r\n\r\n"


async def mirror(scope: Any, receive: Any, send: Any) -> None:
    """Respond with the received request as JSON."""
    body = await body_of(receive)
    names = ("method", "path", "http_version", "scheme", "root_path")
    seen = {name: scope[name] for name in names} | {
        "raw_path": scope["raw_path"].decode(),
        "query": scope["query_string"].decode(),
        "headers": [[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]],
        "body": body.decode("latin-1"),
        "client": scope["client"][0],
    }
    await reply(send, json.dumps(seen).encode())


async def one(*sent: bytes, app: Any = mirror, **options: Any) -> tuple[int, dict[bytes, bytes], bytes]:
    async with serving(app, **options) as server, connected(server) as (reader, writer):
        for piece in sent:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        return await answer(reader)


async def test_simple_request() -> None:
    status, headers, body = await one(GET)
    assert status == 200
    assert headers[b"date"].endswith(b"GMT")
    assert b"server" not in headers
    assert b"connection" not in headers
    assert json.loads(body) == {
        "method": "GET",
        "path": "/a b/é",
        "raw_path": "/a%20b/%C3%A9",
        "query": "q=%41&r",
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
        "headers": [["host", "x"], ["x-two", "1"], ["x-two", "2"]],
        "body": "",
        "client": "127.0.0.1",
    }


async def test_request_sent_byte_by_byte() -> None:
    request = b"POST /p HTTP/1.1\r\nContent-Length: 5\r\nAn-Header:  v\r\n\r\nhello"
    _, _, body = await one(*[request[place : place + 1] for place in range(len(request))])
    seen = json.loads(body)
    assert (seen["path"], seen["body"]) == ("/p", "hello")
    assert seen["headers"] == [["content-length", "5"], ["an-header", "v"]]


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", ""),
        (b"/?", "/", ""),
        (b"//x/y", "//x/y", ""),
        (b"/a#b?c", "/a", ""),
        (b"/a?b#c", "/a", "b"),
        (b"/a?b?c", "/a", "b?c"),
        (b"http://h.example:1/z?y", "/z", "y"),
        (b"*", "*", ""),
        (b"/%2F%ff%00", "//\ufffd\0", ""),
    ],
)
async def test_request_targets(target: bytes, path: str, query: str) -> None:
    _, _, body = await one(b"OPTIONS %b HTTP/1.1\r\n\r\n" % target)
    seen = json.loads(body)
    assert (seen["path"], seen["query"]) == (path, query)


@pytest.mark.parametrize("target", [b"http://h.example", b"/\xc3\xa9", b"nonsense", b""])
async def test_invalid_request_targets(target: bytes) -> None:
    status, headers, _ = await one(b"GET %b HTTP/1.1\r\n\r\n" % target)
    assert (status, headers[b"connection"]) == (400, b"close")


async def test_keep_alive() -> None:
    async with serving(mirror) as server, connected(server) as (reader, writer):
        for number in range(20):
            writer.write(b"POST /%d HTTP/1.1\r\nContent-Length: 1\r\n\r\n%d" % (number, number % 10))
            seen = json.loads((await answer(reader))[2])
            assert (seen["path"], seen["body"]) == (f"/{number}", str(number % 10))


async def test_pipelined_requests_are_answered_in_order() -> None:
    running: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        running.append(scope["path"])
        assert len(running) == 1
        await asyncio.sleep(0.001 if scope["path"].endswith("0") else 0)
        body = await body_of(receive)
        running.clear()
        await reply(send, scope["path"].encode() + body)

    requests = [b"POST /%d HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc" % number for number in range(300)]
    async with serving(app) as server, connected(server) as (reader, writer):
        writer.write(b"".join(requests))
        for number in range(300):
            assert (await answer(reader))[2] == b"/%dabc" % number


async def test_requests_after_connection_close_are_ignored() -> None:
    async with serving(mirror) as server:
        said = await raw(server, CLOSE + GET)
    assert said.count(b"HTTP/1.1 ") == 1
    assert b"\r\nconnection: close\r\n" in said


async def test_http_1_0_closes_the_connection() -> None:
    async with serving(mirror) as server:
        said = await raw(server, b"GET / HTTP/1.0\r\n\r\n")
    assert b'"http_version": "1.0"' in said
    assert b"\r\nconnection: close\r\n" in said


async def test_application_sets_connection_close() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await reply(send, b"x", 200, (b"Connection", b"close"))

    async with serving(app) as server:
        said = await raw(server, GET)
    assert said.count(b"connection: close\r\n") == 1
    assert said.endswith(b"\r\n\r\nx")


@pytest.mark.parametrize("whole", [True, False])
async def test_chunked_body(whole: bool) -> None:
    pieces = [
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"3\r\nabc\r\n",
        b"2;x=y\r\nde\r\n",
        b"0\r\n\r\n",
    ]
    _, _, body = await one(*([b"".join(pieces)] if whole else pieces))
    assert json.loads(body)["body"] == "abcde"


async def test_trailers_are_not_headers() -> None:
    first = b"POST /1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nAuthorization: Bearer x\r\n\r\n"
    async with serving(mirror) as server, connected(server) as (reader, writer):
        writer.write(first + GET)
        for path in ("/1", "/a b/é"):
            seen = json.loads((await answer(reader))[2])
            assert seen["path"] == path
            assert "authorization" not in dict(seen["headers"])


@pytest.mark.parametrize("rest", [b"zz\r\nabc\r\n", b"-1\r\n\r\n", b"3\r\nabcd\r\n", b"ffffffffffffffffff\r\n"])
async def test_invalid_chunk_gives_400_and_disconnects(rest: bytes) -> None:
    seen: list[str] = []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        while not seen or seen[-1] != "http.disconnect":
            seen.append((await receive())["type"])

    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
    async with serving(app) as server:
        said = await raw(server, head, rest)
    assert said.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert said.count(b"HTTP/1.1") == 1
    assert seen[-1] == "http.disconnect"


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 1\r\nContent-Length: 2\r\n",
        b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 1x\r\n",
        b"Bad Name: x\r\n",
        b"X: a\r\n b\r\n",
        b"X: a\nY: b\r\n\r\nGET / HTTP/1.1\r\n",
    ],
)
async def test_ambiguous_framing_is_refused(head: bytes) -> None:
    async with serving(mirror) as server:
        said = await raw(server, b"POST / HTTP/1.1\r\n" + head + b"\r\nabc")
    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(b"HTTP/1.1") == 1


async def test_garbage_after_a_request_gives_400() -> None:
    async with serving(mirror) as server, connected(server) as (reader, writer):
        writer.write(GET)
        status, _, _ = await answer(reader)
        writer.write(b"\x00\x01\x02\r\n\r\n")
        assert status == 200
        assert (await answer(reader))[0] == 400
        assert await reader.read() == b""


async def test_upgrade_header_is_ignored() -> None:
    for upgrade in (b"websocket", b"h2c"):
        request = b"GET /w HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" % upgrade
        status, _, body = await one(request)
        assert status == 200
        assert json.loads(body)["path"] == "/w"


async def test_100_continue_when_the_body_is_read() -> None:
    async with serving(mirror) as server, connected(server) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ab")
        assert json.loads((await answer(reader))[2])["body"] == "ab"


async def test_no_100_continue_for_a_refused_body() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "POST":
            await reply(send, b"", 413)
        else:
            await mirror(scope, receive, send)

    async with serving(app) as server, connected(server) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: 200000\r\nExpect: 100-continue\r\n\r\n")
        assert (await answer(reader))[0] == 413
        writer.write(b"x" * 200_000 + GET)  # the body is discarded, and the connection stays usable
        assert json.loads((await answer(reader))[2])["body"] == ""


@pytest.mark.parametrize(("trusted", "client"), [(["127.0.0.1"], "192.0.2.7"), ([], "127.0.0.1")])
async def test_forwarded_headers_only_from_trusted_proxies(trusted: list[str], client: str) -> None:
    head = b"GET / HTTP/1.1\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\r\n"
    seen = json.loads((await one(head, trusted=trusted))[2])
    assert (seen["client"], seen["scheme"]) == (client, "https" if trusted else "http")


async def test_body_does_not_count_towards_the_next_head_limit() -> None:
    size = 4 * MAX_HEAD
    async with serving(mirror) as server, connected(server) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size + GET[:20])
        assert len(json.loads((await answer(reader))[2])["body"]) == size
        writer.write(GET[20:])
        assert (await answer(reader))[0] == 200
