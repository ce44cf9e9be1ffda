"""The application behind the real HTTP server, on the test's own event loop, and a raw socket client."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect
from starlette.routing import Mount

from flamecrest.cli.serving.options import HttpOptions
from flamecrest.cli.serving.run import running
from flamecrest.server.http.edge.application import Edge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from starlette.types import ASGIApp


@asynccontextmanager
async def serving(app: Edge, *, grace: float = 5.0, **options: Any) -> AsyncIterator[int]:
    """The port on which the application is served."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with running(app, listener, HttpOptions(**options), grace=grace):
            yield listener.getsockname()[1]


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


async def raw(port: int, *sent: bytes) -> bytes:
    """Send bytes and read until the server closes."""
    async with dialed(port) as (reader, writer):
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


def application(
    handler: ASGIApp, *, trusted_proxies: Sequence[str] = (), stall_timeout: float = 60.0, lifespan: Any = None
) -> Edge:
    """An application with one ASGI handler for all paths."""
    return Edge(
        prefix="",
        oauth2=None,
        logged_headers={},
        cors_origins=(),
        trusted_proxies=trusted_proxies,
        stall_timeout=stall_timeout,
        routes=[Mount("/", handler)],
        lifespan=lifespan,
        openapi_url=None,
    )


async def reply(send: Any, body: bytes = b"", status: int = 200, *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def body_of(receive: Any) -> bytes:
    """The body of a request; raises ClientDisconnect if it does not arrive whole."""
    data, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        data += message["body"]
        more = message["more_body"]
    return data
