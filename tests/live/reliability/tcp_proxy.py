"""A TCP proxy before a server of a test, which refuses, cuts, and closes connections after some bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.live.process import free_port

PIECE = 65536  # bytes


class _Proxy:
    """Listens on `port` of loopback and passes bytes on. `limit`: bytes to the client, after which it closes."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self.limit: int | None = None
        self.closed = 0  # connections that the limit has closed
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def refuse(self) -> None:
        """Reset all connections and listen no more."""
        if self._server is not None:
            self._server.close()
        self._server = None
        await self.cut()

    async def cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(OSError):
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(back)
            up, down = self._pump(reader, back, None), self._pump(there, writer, self.limit)
            pumps = [asyncio.create_task(up), asyncio.create_task(down)]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for one in pumps:
                one.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._writers.discard(back)
            back.transport.abort()
        self._writers.discard(writer)
        writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None) -> None:
        passed = 0
        while piece := await reader.read(PIECE):
            if limit is not None and passed + len(piece) > limit:
                writer.write(piece[: limit - passed])
                self.closed += 1
                return
            passed += len(piece)
            writer.write(piece)
            await writer.drain()


class TcpProxy:
    """The proxy for the thread of a test."""

    def __init__(self, proxy: _Proxy, portal: BlockingPortal) -> None:
        self.port = proxy.port
        self._proxy = proxy
        self._portal = portal

    def refuse(self) -> None:
        self._portal.call(self._proxy.refuse)

    def listen(self) -> None:
        self._portal.call(self._proxy.listen)

    def limit(self, most: int | None) -> None:
        """Reset all connections; new ones are closed after as many bytes to the client."""
        self._proxy.limit = most
        self._portal.call(self._proxy.cut)

    @property
    def closed(self) -> int:
        """How many connections the limit has closed."""
        return self._proxy.closed


@contextmanager
def tcp_proxy(target: int) -> Iterator[TcpProxy]:
    """Run a proxy before a port of loopback."""
    with start_blocking_portal("asyncio") as portal:
        made = TcpProxy(_Proxy(free_port(), target), portal)
        made.listen()
        try:
            yield made
        finally:
            made.refuse()
