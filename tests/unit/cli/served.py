"""An ASGI application behind the real server, on the test's own loop, and a raw socket client."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

import uvicorn

from flamecrest.cli.reception import Reception

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from flamecrest.cli.connection import HttpConnection


class Server(uvicorn.Server):
    """A uvicorn server that signals when it has started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @property
    def connections(self) -> list[HttpConnection]:
        return list(self.server_state.connections)  # type: ignore[arg-type]


@asynccontextmanager
async def serving(app: Any, *, lifespan: Literal["on", "off"] = "off", **options: Any) -> AsyncIterator[Server]:
    reception = Reception(**{"head_timeout": 30.0} | options)
    config = uvicorn.Config(
        app,
        port=0,
        lifespan=lifespan,
        log_config=None,
        http=reception,  # type: ignore[arg-type]
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    server = Server(config)
    task = asyncio.create_task(server.serve())
    await server.up.wait()
    try:
        yield server
    finally:
        server.should_exit = True
        await task


def port_of(server: Server) -> int:
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port


@asynccontextmanager
async def dialed(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a separate connection; it is aborted at the end of the block."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def connected(server: Server) -> AbstractAsyncContextManager[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    return dialed(port_of(server))


async def raw(server: Server, *sent: bytes) -> bytes:
    """Send bytes and read until the server closes."""
    async with connected(server) as (reader, writer):
        for piece in sent:
            writer.write(piece)
            await writer.drain()
        return await reader.read()


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[bytes, bytes], bytes]:
    """Read one response that has a Content-Length."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head[:-4].split(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in lines)
    assert len(headers) == len(lines)
    return int(first.split()[1]), headers, await reader.readexactly(int(headers.get(b"content-length", b"0")))


async def reply(send: Any, body: bytes = b"", status: int = 200, *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def body_of(receive: Any) -> bytes:
    data, more = b"", True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        data += message["body"]
        more = message["more_body"]
    return data
