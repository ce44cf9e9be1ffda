"""Listening for a disconnect, tested with single ASGI messages."""

from __future__ import annotations

import asyncio
import sys
import weakref
from typing import TYPE_CHECKING

import pytest

from flamecrest.server.http.edge.disconnect import RequestMonitor
from flamecrest.server.http.edge.exchange import Exchange

if TYPE_CHECKING:
    from starlette.types import Message

    from tests.unit.http.world import World

pytestmark = pytest.mark.anyio

MORE = {"type": "http.request", "body": b"a", "more_body": True}
LAST = {"type": "http.request", "body": b"b", "more_body": False}
GONE = {"type": "http.disconnect"}


class Server:
    """A server that says what it is told to."""

    def __init__(self, *messages: Message) -> None:
        self.said: asyncio.Queue[Message] = asyncio.Queue()
        for message in messages:
            self.said.put_nowait(message)

    async def receive(self) -> Message:
        return await self.said.get()


async def settle() -> None:
    """Let everything that can go on go on."""
    for _ in range(10):
        await asyncio.sleep(0)


async def begun(server: Server, method: str = "GET") -> tuple[Exchange, asyncio.Task[bool]]:
    """An exchange of a task that never ends; it listens from the start."""
    exchanges: list[Exchange] = []

    async def work() -> bool:
        headers = {"PUT": [(b"transfer-encoding", b"chunked")], "POST": [(b"content-length", b"2")]}.get(method, [])
        scope = {"type": "http", "http_version": "1.1", "method": method, "headers": headers}
        exchanges.append(Exchange(scope, server.receive, ignored, RequestMonitor(), 60.0))
        await asyncio.Event().wait()
        return True

    task = asyncio.create_task(work())
    await settle()
    exchanges[0].check(0.0)
    await settle()
    return exchanges[0], task


async def ignored(message: Message) -> None:
    """Send nothing."""


async def test_disconnect_cancels_the_task() -> None:
    server = Server(LAST, GONE)
    found, task = await begun(server)
    assert found.ended == "disconnected"
    assert task.cancelled()
    assert await found.receive() == GONE
    found.close("/")


async def test_task_runs_while_the_client_is_connected() -> None:
    server = Server(LAST)
    found, task = await begun(server)
    assert found.ended == ""
    assert not task.done()
    server.said.put_nowait(GONE)
    assert await found.receive() == {**LAST, "body": b""}
    assert await found.receive() == GONE
    await settle()
    assert task.cancelled()
    found.close("/")


async def test_a_handler_that_reads_late_gets_the_end_of_an_empty_body() -> None:
    """The listener has received it. Without it the handler would wait until the client goes."""
    server = Server({**LAST, "body": b""})
    found, task = await begun(server)
    async with asyncio.timeout(30):
        assert await found.receive() == {**LAST, "body": b""}
    waiting = asyncio.create_task(found.receive())
    await settle()
    assert not waiting.done()
    server.said.put_nowait(GONE)
    assert await waiting == GONE
    await settle()
    assert task.cancelled()
    found.close("/")


async def test_disconnect_after_the_response_cancels_nothing() -> None:
    """Servers say http.disconnect when the answer is complete as well."""
    server = Server()
    found, task = await begun(server)
    await found.send({"type": "http.response.body"})
    server.said.put_nowait(GONE)
    await settle()
    assert found.ended == ""
    assert not task.done()
    task.cancel()
    found.close("/")


async def test_listening_starts_after_the_body_was_read() -> None:
    server = Server(MORE, LAST, GONE)
    found, task = await begun(server, "PUT")
    assert [await found.receive(), await found.receive()] == [MORE, LAST]
    assert not task.done()
    found.check(0.0)
    await settle()
    assert found.ended == "disconnected"
    assert task.cancelled()
    found.close("/")


async def test_a_body_is_complete_with_its_length() -> None:
    """granian has a message of its own for the end, which need not be waited for."""
    server = Server(MORE, {**MORE, "body": b"b"})
    found, task = await begun(server, "POST")
    assert [(message["body"], message["more_body"]) for message in [await found.receive(), await found.receive()]] == [
        (b"a", True),
        (b"b", False),
    ]
    assert not found.unread
    found.check(0.0)
    for message in ({**LAST, "body": b""}, GONE):
        assert found.ended == ""
        server.said.put_nowait(message)
        await settle()
    assert found.ended == "disconnected"
    assert task.cancelled()
    found.close("/")


async def test_lingering_ends_quietly_when_the_server_stops() -> None:
    """granian logs an error for a request that is cancelled."""

    async def work() -> str:
        scope = {"type": "http", "http_version": "1.1", "method": "POST", "headers": [(b"content-length", b"2")]}
        found = Exchange(scope, Server().receive, ignored, RequestMonitor(), 60.0)
        await found.send({"type": "http.response.body"})
        await found.linger()
        return "ended"

    task = asyncio.create_task(work())
    await settle()
    task.cancel()
    assert await task == "ended"


async def test_closed_exchange_does_not_listen() -> None:
    server = Server()
    found, task = await begun(server)
    found.close("/")
    await settle()
    server.said.put_nowait(GONE)
    await settle()
    assert not task.done()
    task.cancel()


async def test_only_a_client_that_is_waited_for_stalls() -> None:
    """A handler that waits for its cluster, or for a disconnect, waits for no data of the client."""
    for method, ended in (("PUT", "stalled"), ("GET", "")):
        found, task = await begun(Server(), method)
        waiting = asyncio.create_task(found.receive())
        await settle()
        found.check(1.0)
        found.check(100.0)
        await settle()
        assert found.ended == ended
        waiting.cancel()
        task.cancel()
        found.close("/")


async def test_trickle_of_bytes_is_a_stall() -> None:
    server = Server()
    found, task = await begun(server, "PUT")
    for now in range(1, 70):
        waiting = asyncio.create_task(found.receive())
        await settle()
        found.check(float(now))
        server.said.put_nowait(MORE)
        await waiting
    await settle()
    assert found.ended == "stalled"
    task.cancel()
    found.close("/")


async def test_an_error_that_is_kept_keeps_no_connection(world: World) -> None:
    """granian closes the connection of a body that was not read when nothing refers to its protocol any more."""
    kept: list[BaseException | None] = []

    class Protocol:
        async def receive(self) -> Message:
            return GONE

        async def send(self, _message: Message) -> None:
            kept.append(sys.exception())

    protocol = Protocol()
    seen = weakref.ref(protocol)
    headers = [(b"host", b"gateway"), (b"transfer-encoding", b"chunked")]
    scope = {"type": "http", "http_version": "1.1", "method": "PUT", "path": "/nope", "headers": headers}
    await world.app()({**scope, "query_string": b"", "root_path": ""}, protocol.receive, protocol.send)
    assert kept[0] is not None
    assert kept[0].__traceback__ is not None
    del protocol
    assert seen() is None
