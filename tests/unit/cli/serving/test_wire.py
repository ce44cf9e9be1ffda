"""HTTP as clients see it, over real sockets and both HTTP servers: framing, clocks, limits, the orderly stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from flamecrest.server.http.core.responses import RESUMABLE
from flamecrest.server.telemetry.trace import current_trace
from tests.certificates import write_certificate
from tests.unit.cli.served import answer, application, body_of, dialed, raw, reply, serving
from tests.unit.http.world import logged

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

pytestmark = pytest.mark.anyio

SERVERS = ("granian", "uvicorn")
HOST = b"Host: gateway\r\n"
GET = b"GET /a%20b?q=%41&r HTTP/1.1\r\n" + HOST + b"\r\n"
CLOSE = b"GET /last HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
CHUNKED = b"POST /c HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n"
MEGABYTE = b"\xa5" * 2**20


@pytest.fixture(params=SERVERS)
def serve(request: pytest.FixtureRequest) -> Callable[..., AbstractAsyncContextManager[int]]:
    """Serves a handler with one of the servers."""

    def serve(handler: Any = mirror, *, stall_timeout: float = 60.0, trusted: Any = (), **options: Any) -> Any:
        app = application(handler, stall_timeout=stall_timeout, trusted_proxies=trusted)
        return serving(app, http=request.param, stall_timeout=stall_timeout, **options)

    return serve


async def mirror(scope: Any, receive: Any, send: Any) -> None:
    """Respond with the received request as JSON."""
    body = await body_of(receive)
    names = ("method", "path", "scheme")
    seen = {name: scope[name] for name in names} | {
        "query": scope["query_string"].decode(),
        "headers": [[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]],
        "body": body.decode("latin-1"),
        "client": scope["client"][0],
    }
    await reply(send, json.dumps(seen).encode())


def post(body: bytes, *headers: bytes, length: int | None = None) -> bytes:
    lines = [
        b"POST /p HTTP/1.1",
        b"Host: x",
        *headers,
        b"Content-Length: %d" % (len(body) if length is None else length),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


async def test_simple_request(serve: Any) -> None:
    async with serve() as port, dialed(port) as (reader, writer):
        for _ in range(3):  # on one connection
            writer.write(GET)
            status, headers, body = await answer(reader)
            assert status == 200
            assert headers[b"date"].endswith(b"GMT")
            assert headers[b"server"] == b"flamecrest"
            seen = json.loads(body)
            assert (seen["method"], seen["path"], seen["query"], seen["body"]) == ("GET", "/a b", "q=%41&r", "")


async def test_offered_upgrade_is_ignored_and_loses_no_body(serve: Any) -> None:
    async with serve() as port:
        for upgrade, apart in product((b"h2c", b"websocket", b"TLS/1.0"), (False, True)):
            offer = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + upgrade, b"HTTP2-Settings: AAMAAABk")
            request = post(b"hello", *offer)
            async with dialed(port) as (reader, writer):
                writer.write(request[:-5] if apart else request)
                if apart:
                    await writer.drain()
                    await asyncio.sleep(0.05)
                    writer.write(b"hello")
                status, _, body = await answer(reader)
                assert (status, json.loads(body)["body"]) == (200, "hello"), upgrade
                writer.write(GET)  # nothing is left over
                assert json.loads((await answer(reader))[2])["path"] == "/a b"


async def test_pipelined_requests_are_answered_in_order(serve: Any) -> None:
    requests = [b"POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" % number for number in range(100)]
    async with serve() as port, dialed(port) as (reader, writer):
        writer.write(b"".join(requests) + b"\x00junk\r\n\r\n")
        for number in range(100):
            assert json.loads((await answer(reader))[2])["path"] == f"/{number}"
        assert (await answer(reader))[0] == 400  # after the good ones
        assert await reader.read() == b""


HOSTS = [
    (b"GET / HTTP/1.1\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a b\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a/b\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a:b\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost:\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n", 200),
    (b"GET / HTTP/1.1\r\nHost: a.example:\r\n", 200),
    (b"GET / HTTP/1.0\r\n", 200),
    (b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n", 400),
]


async def test_one_valid_host(serve: Any) -> None:
    async with serve() as port:
        for head, status in HOSTS:
            said = await raw(port, head + b"Connection: close\r\n\r\n")
            assert said.split()[1] == b"%d" % status, head


async def test_heads_above_64_kib_are_refused(serve: Any) -> None:
    accepted, refused = ([60_000], [600] * 95), ([70_000], [35_000, 35_000], [800] * 95, [2**20])
    async with serve() as port:
        for lengths in (*accepted, *refused):
            head = b"".join(b"X-Field-%d: %b\r\n" % (at, b"v" * length) for at, length in enumerate(lengths))
            async with dialed(port) as (reader, writer):
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n")
                assert int((await reader.readline()).split()[1]) == (200 if lengths in accepted else 431), lengths[:2]


async def test_other_transfer_codings_are_refused(serve: Any) -> None:
    async with serve() as port:
        for coding in (b"gzip, chunked", b"gzip", b"identity", b"chunked, chunked", b"chunked\r\nTransfer-Encoding: x"):
            head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: %b\r\n\r\n" % coding
            async with dialed(port) as (reader, writer):
                writer.write(head + b"5\r\nhello\r\n0\r\n\r\n")
                assert (await answer(reader))[0] in {400, 501}, coding


@pytest.mark.parametrize(
    "sent", [post(b"hello", length=6), CHUNKED + b"\r\n5\r\nhello\r\n", CHUNKED + b"\r\n9\r\nhello"]
)
async def test_body_that_ends_too_early_is_a_disconnect(serve: Any, sent: bytes) -> None:
    with logged() as lines:
        async with serve() as port, dialed(port) as (reader, writer):
            writer.write(sent)
            writer.write_eof()
            await reader.read()
    assert [line["status"] for line in lines if line["logger"] == "flamecrest.access"] in ([499], [])


async def test_what_is_no_http_is_refused(serve: Any) -> None:
    async with serve() as port:
        for form in (b"GET /\r\n\r\n", b"GET / RTSP/1.0\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"):
            assert (await raw(port, form)).split()[1] in {b"400", b"505"}, form


async def test_endless_trailers_are_cut(serve: Any) -> None:
    async with serve() as port, dialed(port) as (reader, writer):
        writer.write(CHUNKED + b"\r\n1\r\na\r\n0\r\nX: ")
        answered = b""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(60):
                for _ in range(64):
                    writer.write(MEGABYTE)
                    await writer.drain()
                answered = await reader.read()
        assert not answered.startswith(b"HTTP/1.1 200")


async def test_http_1_0_gets_no_chunks(serve: Any) -> None:
    async def stream(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    async with serve(stream) as port:
        said = await raw(port, b"GET / HTTP/1.0\r\n\r\n")
    assert b"chunked" not in said
    assert said.endswith(b"\r\n\r\nonetwo")


async def test_100_continue_only_when_the_body_is_read(serve: Any) -> None:
    async def handler(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/p":
            await mirror(scope, receive, send)
        else:
            await reply(send, b"", 413)

    waits = post(b"", b"Expect: 100-continue", length=2)
    async with serve(handler) as port, dialed(port) as (reader, writer):
        writer.write(waits)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n" or await reader.readline()
        writer.write(b"ab")
        assert json.loads((await answer(reader))[2])["body"] == "ab"
        writer.write(waits.replace(b"/p", b"/no"))
        status, headers, _ = await answer(reader)
        assert (status, headers[b"connection"]) == (413, b"close")


async def test_early_response_reaches_a_client_that_is_still_sending(serve: Any) -> None:
    async def refuse(_scope: Any, _receive: Any, send: Any) -> None:
        await reply(send, b"no", 401)

    async with serve(refuse) as port, dialed(port) as (reader, writer):
        writer.write(post(b"", length=900_000))
        for _ in range(9):
            writer.write(b"x" * 100_000)
            await writer.drain()
            await asyncio.sleep(0.01)
        assert (await answer(reader))[0] == 401


async def test_refused_body_that_never_ends_is_cut(serve: Any) -> None:
    async def refuse(_scope: Any, _receive: Any, send: Any) -> None:
        await reply(send, b"no", 401)

    async with serve(refuse, header_timeout=1.0) as port, dialed(port) as (reader, writer):
        writer.write(post(b"x", length=10**12))
        assert (await answer(reader))[0] == 401
        assert await reader.read() == b""


async def test_body_that_stalls_is_408_and_ends(serve: Any) -> None:
    async with serve(stall_timeout=0.3) as port, dialed(port) as (reader, writer):
        writer.write(post(b"x", length=10**6))
        assert (await answer(reader))[0] == 408
        assert await reader.read() == b""


async def test_response_that_is_not_read_ends_the_request(serve: Any) -> None:
    ended = asyncio.Event()

    async def endless(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": MEGABYTE, "more_body": True})
                await asyncio.sleep(0)  # granian's `send` does not wait when the system has closed the connection
        finally:
            ended.set()

    async with serve(endless, stall_timeout=0.3) as port, dialed(port) as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GET)
        async with asyncio.timeout(20):
            await ended.wait()


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n", GET])
async def test_slow_heads_and_idle_connections_are_closed(serve: Any, sent: bytes) -> None:
    async with serve(header_timeout=0.3) as port:
        said = await raw(port, sent)
    assert said.startswith(b"HTTP/1.1 200") == (sent == GET)


@pytest.mark.parametrize(
    ("trusted", "client", "scheme"),
    [(["127.0.0.0/8"], "192.0.2.7", "https"), (["*"], "198.51.100.1", "https"), ([], "127.0.0.1", "http")],
)
async def test_forwarded_headers_only_from_trusted_proxies(serve: Any, trusted: Any, client: str, scheme: str) -> None:
    head = GET[:-2] + b"X-Forwarded-For: 198.51.100.1, 192.0.2.7, 127.0.0.2\r\nX-Forwarded-Proto: https\r\n\r\n"
    async with serve(trusted=trusted) as port, dialed(port) as (reader, writer):
        writer.write(head)
        seen = json.loads((await answer(reader))[2])
    assert (seen["client"], seen["scheme"]) == (client, scheme)


async def test_more_connections_than_allowed_wait_or_are_refused(serve: Any) -> None:
    async with serve(max_connections=2) as port:
        async with dialed(port) as (first, writing), dialed(port):
            writing.write(GET)
            await answer(first)
            async with dialed(port) as (third, other):
                other.write(GET)
                with pytest.raises((TimeoutError, OSError, EOFError)):
                    async with asyncio.timeout(0.3):
                        await answer(third)
        async with dialed(port) as (reader, writer):
            writer.write(GET)
            assert (await answer(reader))[0] == 200


async def test_stop_ends_resumable_streams_at_once_and_refuses_new_requests(serve: Any) -> None:
    began, go_on, tailing = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handler(scope: Any, _receive: Any, send: Any) -> None:
        if scope["path"] == "/tail":
            scope[RESUMABLE] = True
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"line", "more_body": True})
            tailing.set()
            await asyncio.Event().wait()
        began.set()
        await go_on.wait()
        await reply(send, b"in time")

    serving = serve(handler)
    port = await serving.__aenter__()
    tail = asyncio.create_task(raw(port, CLOSE.replace(b"/last", b"/tail")))
    async with dialed(port) as (reader, writer), dialed(port) as (other, asking):
        writer.write(GET)
        await began.wait()
        await tailing.wait()
        stopping = asyncio.create_task(serving.__aexit__(None, None, None))
        assert (await tail).endswith(b"4\r\nline\r\n0\r\n\r\n")
        asking.write(GET)
        status, headers, _ = await answer(other)
        assert status == 503
        assert b"retry-after" in headers
        go_on.set()
        assert (await answer(reader))[2] == b"in time"
    await stopping


async def test_requests_past_the_grace_time_clean_up_and_get_503(serve: Any) -> None:
    began, cleaned = asyncio.Event(), asyncio.Event()

    async def upload(_scope: Any, receive: Any, _send: Any) -> None:
        began.set()
        try:
            await body_of(receive)
        finally:
            await asyncio.sleep(0.05)
            cleaned.set()

    serving = serve(upload, grace=0.1)
    port = await serving.__aenter__()
    async with dialed(port) as (reader, writer):
        writer.write(post(b"x", length=100))
        await began.wait()
        stopping = asyncio.create_task(serving.__aexit__(None, None, None))
        assert (await answer(reader))[0] == 503
        assert cleaned.is_set()
    await stopping


@pytest.mark.parametrize("stall_timeout", [0.5, 60.0])
async def test_clients_that_read_nothing_make_room_for_others(serve: Any, stall_timeout: float) -> None:
    """The responses are small enough for the application to hand them over whole: only the system sees the stall.

    Without a connection to spare, the stall timeout is not awaited.
    """

    async def handler(_scope: Any, _receive: Any, send: Any) -> None:
        await reply(send, MEGABYTE[: 2**18])

    async with serve(handler, stall_timeout=stall_timeout, max_connections=1) as port:
        with socket.socket() as idle:
            idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            idle.connect(("127.0.0.1", port))
            idle.sendall(GET * 30)
            status = 0
            while status != 200:
                async with dialed(port) as (reader, writer):
                    with contextlib.suppress(OSError, EOFError):
                        writer.write(GET)
                        status = (await answer(reader))[0]


async def test_what_uvicorn_refuses_has_a_request_id_of_its_own_and_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Granian's own refusals have neither."""

    async def handler(_scope: Any, receive: Any, send: Any) -> None:
        trace = current_trace.get()
        assert trace is not None
        trace.user = "ann"
        await body_of(receive)
        await reply(send, b"done")

    junk = b"JUNK\x00\r\n\r\n"
    for sent, statuses in ((GET + junk, [200, 400]), (CHUNKED + b"\r\n0\r\nX\r\n\r\n", [400])):
        with logged() as lines:
            async with serving(application(handler), http="uvicorn") as port, dialed(port) as (reader, writer):
                writer.write(sent)
                answers = [await answer(reader) for _ in statuses]
                assert await reader.read() == b""
        assert [status for status, _, _ in answers] == statuses
        ids = {line["request_id"]: line["status"] for line in lines if line["logger"] == "flamecrest.access"}
        assert ids[answers[-1][1][b"x-request-id"].decode()] == 400
        assert len(ids) == 2
        assert json.loads(answers[-1][2])["user"] is None
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_idle_connections_make_room_for_others(serve: Any) -> None:
    """One client can open as many connections as are allowed; the time limit for heads is long. Open requests stay."""
    go_on = asyncio.Event()

    async def handler(scope: Any, _receive: Any, send: Any) -> None:
        if scope["path"] == "/last":
            await go_on.wait()
        await reply(send, b"done")

    async with (
        serve(handler, max_connections=4) as port,
        dialed(port),
        dialed(port) as (_, half),
        dialed(port) as (used, idle),
        dialed(port) as (last, busy),
    ):
        half.write(GET[:20])
        idle.write(GET)
        await answer(used)
        busy.write(CLOSE)
        status = 0
        while status != 200:
            async with dialed(port) as (reader, writer):
                with contextlib.suppress(OSError, EOFError):
                    writer.write(GET)
                    status = (await answer(reader))[0]
        go_on.set()
        assert (await answer(last))[2] == b"done"


async def test_https(serve: Any, tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    context = ssl.create_default_context(cafile=certificate)
    async with serve(tls=(str(certificate), str(key))) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(post(b"secret"))
        status, _, body = await answer(reader)
        writer.close()
        assert (status, json.loads(body)["body"], json.loads(body)["scheme"]) == (200, "secret", "https")
