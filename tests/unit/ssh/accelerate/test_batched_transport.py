"""The transport that batches writes: the same bytes in the same order, and nothing after the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from flamecrest.server.ssh.accelerate.fast_send import BatchedTransport

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both loops: their transports differ, and the gateway runs on the second."""
    return "asyncio", {"use_uvloop": request.param}


class Client(asyncio.Protocol):
    def __init__(self) -> None:
        self.closed = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(exc)


@asynccontextmanager
async def connected(received: asyncio.Future[bytes]) -> AsyncIterator[tuple[BatchedTransport, Client]]:
    """A transport to a server that reads to the end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.set_result(await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        transport, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", port)
        batched = BatchedTransport(transport)
        assert batched.get_extra_info("peername")[1] == port
        yield batched, client


async def test_writes_arrive_in_order_and_before_the_end():
    received = asyncio.get_running_loop().create_future()
    async with connected(received) as (transport, client):
        for number in range(100):
            transport.write(b"%d," % number)
            if number % 10 == 0:
                await asyncio.sleep(0)
        changing = bytearray(b"x" * 300_000)
        transport.write(changing)
        changing[:] = b"y" * 300_000
        transport.close()
        assert transport.is_closing()
        assert await received == b"".join(b"%d," % number for number in range(100)) + b"x" * 300_000
        await client.closed
        transport.write(b"too late")


async def test_pending_data_is_not_sent_after_an_abort():
    received = asyncio.get_running_loop().create_future()
    async with connected(received) as (transport, client):
        transport.write(b"x")
        transport.abort()
        assert await client.closed is None
        assert await received == b""
