"""The TCP connection under asyncssh, in pieces of the size that serves it best; it knows nothing of SSH.

In: uvloop reads up to 256 KiB at once, and asyncssh copies all that it still holds twice for every packet that it takes
off the front; in portions of a packet's size a big download costs a third less processor time.
Out: asyncssh writes every packet by itself; those of one turn of the event loop go out together.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PORTION = 32 * 1024  # bytes: most of what comes in bulk comes in packets a little larger than that


class Gathered(asyncio.Transport):
    """A transport that sends what is written in one turn of the event loop in one go. It has what asyncssh asks for."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._waiting: list[bytes | bytearray | memoryview] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writelines((bytes(data),))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send all of these; they must not change any more."""
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting += list_of_data

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting and not self._transport.is_closing():
            self._transport.writelines(waiting)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._waiting.clear()
        self._transport.abort()


class Portions(asyncio.Protocol):
    """Stands between a transport and the protocol that it is for."""

    def __init__(self, inner: asyncio.Protocol) -> None:
        self.inner = inner
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        # uvloop's transports are none by their class
        self.inner.connection_made(Gathered(cast("asyncio.Transport", transport)))

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
