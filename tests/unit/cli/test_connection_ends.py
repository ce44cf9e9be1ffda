"""Responses and ends of connections: framing, slow readers, lost clients, failing applications, shutdown."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from flamecrest.cli.connection import MAX_WAITING

from .served import Server, answer, connected, raw, reply, serving

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops: their transports differ."""
    return "asyncio", {"use_uvloop": request.param}


GET = b"GET / HTTP/1.1\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nConnection: close\r\n\r\n"
MEGABYTE = b"\xa5" * 2**20


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def piece(body: bytes | memoryview = b"", *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


def fixed_response(*messages: dict[str, Any]) -> Any:
    """An application that sends these messages for every request."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return app


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def test_body_without_content_length_is_chunked() -> None:
    app = fixed_response(
        start(),
        piece(b"abc", more=True),
        piece(more=True),
        piece(b"d" * 17),
    )
    async with serving(app) as server:
        said = await raw(server, CLOSE)
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"\r\ntransfer-encoding: chunked" in head
    assert body == b"3\r\nabc\r\n11\r\n" + b"d" * 17 + b"\r\n0\r\n\r\n"


async def test_empty_body_without_content_length() -> None:
    async with serving(fixed_response(start(), piece())) as server:
        said = await raw(server, CLOSE)
    assert said.endswith(b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n")


@pytest.mark.parametrize("length", [(), ((b"Content-Length", b"3"),)])
async def test_head_has_no_body(length: tuple[tuple[bytes, bytes], ...]) -> None:
    async with serving(fixed_response(start(200, *length), piece(b"abc"))) as server:
        said = await raw(server, HEAD)
    assert said.endswith(b"connection: close\r\n\r\n")
    assert (b"\r\ncontent-length: 3\r\n" in said) == bool(length)
    assert b"chunked" not in said


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body(status: int) -> None:
    async with serving(fixed_response(start(status), piece())) as server:
        said = await raw(server, CLOSE)
    assert said.startswith(b"HTTP/1.1 %d " % status)
    assert said.endswith(b"connection: close\r\n\r\n")


async def test_nonstandard_status() -> None:
    async with serving(fixed_response(start(460, (b"content-length", b"0")), piece())) as server:
        assert (await raw(server, CLOSE)).startswith(b"HTTP/1.1 460 \r\n")


async def test_head_is_sent_before_the_body() -> None:
    go_on = asyncio.Event()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(start(200, (b"content-length", b"2")))
        await go_on.wait()
        await send(piece(b"ok"))

    async with serving(app) as server, connected(server) as (reader, writer):
        writer.write(GET)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        go_on.set()
        assert await reader.readexactly(2) == b"ok"


@pytest.mark.parametrize("size", [0, 1, 2**15, 2**15 + 1, 2**22])
async def test_bodies_of_any_size(size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    app = fixed_response(start(200, (b"content-length", b"%d" % size)), piece(memoryview(body)))
    async with serving(app) as server, connected(server) as (reader, writer):
        for _ in range(2):
            writer.write(GET)
            assert (await answer(reader))[2] == body


async def test_slow_reader_pauses_the_application() -> None:
    sent = 0

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        nonlocal sent
        await send(start(200, (b"content-length", b"%d" % (64 * 2**20))))
        for number in range(64):
            await send(piece(MEGABYTE, more=number < 63))
            sent += 1

    async with serving(app) as server, connected(server) as (reader, writer):
        writer.write(GET)
        await until(lambda: server.connections and server.connections[0].paused)
        await asyncio.sleep(0.05)
        assert sent < 40
        _, _, body = await answer(reader)
        assert len(body) == 64 * 2**20
        writer.write(GET)
        assert (await answer(reader))[0] == 200


async def test_disconnect_resumes_a_paused_application() -> None:
    ended = asyncio.Event()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(start())
        for _ in range(200):
            await send(piece(MEGABYTE, more=True))
        ended.set()

    async with serving(app) as server:
        async with connected(server) as (_, writer):
            writer.write(GET)
            await until(lambda: server.connections and server.connections[0].paused)
        await ended.wait()  # after a disconnect, sends return at once and nothing is buffered


async def test_unread_body_pauses_reading_from_the_socket() -> None:
    go_on = asyncio.Event()
    size = 8 * 2**20
    largest = total = 0

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        nonlocal largest, total
        await go_on.wait()
        while total < size:
            body = (await receive())["body"]
            largest, total = max(largest, len(body)), total + len(body)
        await reply(send, b"all of it")

    async with serving(app) as server, connected(server) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size + MEGABYTE * 8)
        await until(lambda: server.connections and not server.connections[0].transport.is_reading())
        go_on.set()
        assert (await answer(reader))[2] == b"all of it"
    assert total == size
    assert largest <= MAX_WAITING + 2**18  # the high-water mark and one read


async def test_disconnect_drops_pipelined_requests() -> None:
    began = asyncio.Event()
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        began.set()
        seen.append(scope["path"])
        seen.append((await receive())["type"])
        seen.append((await receive())["type"])
        await reply(send, b"unsent")

    async with serving(app) as server:
        async with connected(server) as (_, writer):
            writer.write(b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n")
            await began.wait()
        await until(lambda: not server.server_state.tasks)
    assert seen == ["/1", "http.request", "http.disconnect"]


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [piece(b"a body first")],
        [start(200, (b"x", b"a\r\nset-cookie: b"))],
        [start(200, (b"x", b"a\nb"))],
        [start(200, (b"x\r\ny", b"a"))],
        [start(200, (b"x", b"a\0b"))],
        [start(9999)],
    ],
)
async def test_application_error_before_the_response_gives_500(messages: list[dict[str, Any]]) -> None:
    async with serving(fixed_response(*messages, piece())) as server, connected(server) as (reader, writer):
        writer.write(GET)
        status, headers, body = await answer(reader)
        assert await reader.read() == b""
    assert (status, headers[b"connection"]) == (500, b"close")
    assert b"transfer-encoding" not in headers
    assert json.loads(body)["message"] == "Internal Server Error"


@pytest.mark.parametrize(
    ("messages", "body"),
    [
        ([start(), piece(b"abc", more=True)], b"3\r\nabc\r\n"),
        ([start(), piece(b"abc", more=True), start()], b"3\r\nabc\r\n"),
        ([start(200, (b"content-length", b"5")), piece(b"abc", more=True), piece(b"def")], b"abc"),
        ([start(200, (b"content-length", b"5")), piece(b"abc")], b""),
        ([start(200, (b"content-length", b"5"))], b""),
    ],
)
async def test_incomplete_response_aborts_the_connection(messages: list[dict[str, Any]], body: bytes) -> None:
    async with serving(fixed_response(*messages)) as server:
        said = await raw(server, GET)
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert said.partition(b"\r\n\r\n")[2] == body


async def test_data_after_the_response_is_dropped() -> None:
    app = fixed_response(start(200, (b"content-length", b"1")), piece(b"a"), piece(b"b"))
    async with serving(app) as server, connected(server) as (reader, writer):
        for _ in range(2):
            writer.write(GET)
            assert (await answer(reader))[2] == b"a"


async def test_idle_connections_are_closed() -> None:
    async with serving(fixed_response(start(204), piece()), idle_timeout=0.05) as server:
        assert (await raw(server, GET)).startswith(b"HTTP/1.1 204")


async def test_active_request_is_not_idle() -> None:
    late, go_on = asyncio.Event(), asyncio.Event()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await asyncio.sleep(0.3)  # longer than both timeouts
        late.set()
        await go_on.wait()
        await reply(send, b"late")

    slow = GET + b"GET"  # the next request starts here; its rest arrives during this one
    async with serving(app, idle_timeout=0.05, head_timeout=0.15) as server, connected(server) as (reader, writer):
        writer.write(slow)
        await late.wait()
        writer.write(b" /2 HTTP/1.1\r\n\r\n")
        await until(lambda: server.connections and not server.connections[0].transport.is_reading())
        go_on.set()
        for _ in range(2):
            assert (await answer(reader))[2] == b"late"


async def test_shutdown_waits_for_responses_and_closes_idle_connections() -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        began.set()
        await go_on.wait()
        await reply(send, b"in time")

    async def asked(server: Server, sent: bytes) -> bytes:
        return await raw(server, sent)

    async with serving(app) as server, connected(server) as (idle, _):
        waiting = asyncio.create_task(asked(server, GET))
        await began.wait()
        server.should_exit = True
        assert await idle.read() == b""
        go_on.set()
        said = await waiting
    assert b"\r\nconnection: close\r\n" in said
    assert said.endswith(b"in time")


async def test_shutdown_timeout_cancels_requests() -> None:
    ended = asyncio.Event()

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    began = asyncio.Event()
    async with serving(app) as server:
        server.config.timeout_graceful_shutdown = 0
        waiting = asyncio.create_task(raw(server, GET))
        await began.wait()
    assert ended.is_set()
    assert (await waiting).startswith(b"HTTP/1.1 500 ")


async def test_finished_requests_leave_no_tasks() -> None:
    async with serving(fixed_response(start(204), piece())) as server, connected(server) as (reader, writer):
        for _ in range(50):
            writer.write(GET)
            await reader.readuntil(b"\r\n\r\n")
        await until(lambda: not server.server_state.tasks)
        assert server.server_state.total_requests == 50
        assert len(server.connections) == 1
    assert not server.connections
