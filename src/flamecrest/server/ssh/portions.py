"""The TCP connection under asyncssh, which hands it what arrives in portions; it knows nothing of SSH.

uvloop reads up to 256 KiB at once, and asyncssh copies all that it still holds twice for every packet that it takes
off the front: with portions of a packet's size a big download costs half the processor time.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PORTION = 32 * 1024  # bytes: most of what comes in bulk comes in packets a little larger than that


class Portions(asyncio.Protocol):
    """Stands between a transport and the protocol that it is for."""

    def __init__(self, inner: asyncio.Protocol) -> None:
        self.inner = inner
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), PORTION):
            if start and self._transport is not None and self._transport.is_closing():
                return
            self.inner.data_received(data[start : start + PORTION])

    def eof_received(self) -> bool | None:
        return self.inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self.inner.resume_writing()


class Tcp:
    """Where asyncssh's `tunnel` is asked for: the way to the host, here a TCP connection."""

    async def create_connection(
        self, session_factory: Callable[[], Any], remote_host: str, remote_port: int
    ) -> tuple[Any, Any]:
        """Connect; the transport and the protocol that the factory made."""
        loop = asyncio.get_running_loop()
        transport, between = await loop.create_connection(lambda: Portions(session_factory()), remote_host, remote_port)
        return transport, between.inner
