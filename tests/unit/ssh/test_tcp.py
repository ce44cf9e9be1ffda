"""What stands between the TCP connection and asyncssh: the same bytes in the same order, and nothing after the end."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.ssh.accelerate.tcp import PORTION, Portions, Tcp

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both loops: their transports differ, and the gateway runs on the second."""
    return "asyncio", {"use_uvloop": request.param}


class Reader(asyncio.Protocol):
    def __init__(self, enough: int = 2**30) -> None:
        self.pieces: list[bytes] = []
        self.enough = enough
        self.over = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)
        if len(self.pieces) == self.enough:
            assert self.transport is not None
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set_result(exc)


@given(st.lists(st.integers(0, 3 * PORTION + 7), max_size=4))
def test_the_same_bytes_in_order(sizes):
    async def main() -> None:
        reader = Reader()
        between = Portions(reader)
        sent = [bytes([at + 1]) * size for at, size in enumerate(sizes)]
        for data in sent:
            between.data_received(data)
        assert b"".join(reader.pieces) == b"".join(sent)
        assert all(0 < len(piece) <= PORTION for piece in reader.pieces)

    asyncio.run(main())


@pytest.mark.parametrize(("enough", "least"), [(1, 1), (2**30, 4)])
async def test_over_a_real_connection(enough, least):
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * (4 * PORTION))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        _, reader = await Tcp().create_connection(lambda: Reader(enough), "127.0.0.1", port)
        assert reader.transport is not None
        assert reader.transport.get_extra_info("peername")[1] == port
        assert await reader.over is None
    if enough == 1:
        assert len(reader.pieces) == 1, "nothing comes after the end"
    else:
        assert len(reader.pieces) >= least
        assert sum(map(len, reader.pieces)) == 4 * PORTION


async def test_what_is_written_goes_out_in_order_and_before_the_end():
    got = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.set_result(await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        _, reader = await Tcp().create_connection(Reader, "127.0.0.1", port)
        for number in range(100):
            reader.transport.write(b"%d," % number)
            if number % 10 == 0:
                await asyncio.sleep(0)
        reader.transport.write(bytearray(b"x" * 300_000))
        reader.transport.close()
        assert reader.transport.is_closing()
        assert await got == b"".join(b"%d," % number for number in range(100)) + b"x" * 300_000
        await reader.over
        reader.transport.write(b"too late")


async def test_what_is_aborted_is_not_sent():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        _, reader = await Tcp().create_connection(Reader, "127.0.0.1", server.sockets[0].getsockname()[1])
        reader.transport.write(b"x")
        reader.transport.abort()
        assert await reader.over is None
