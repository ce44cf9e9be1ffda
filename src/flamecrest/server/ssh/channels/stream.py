"""One command whose input and output are streams: bounded memory both ways, ended with its whole process group.

It knows a channel and nothing of what flows through it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING

import asyncssh

from flamecrest.server.errors import Upstream
from flamecrest.server.ssh.command import Output

from .process import RemoteProcess

if TYPE_CHECKING:
    from flamecrest.server.ssh.pool.connection import Connection

HIGH = 1024 * 1024  # bytes of output that may wait for their reader before the channel is paused
MAX_ERRORS = 256 * 1024  # bytes of standard error that are kept


class RemoteStream(RemoteProcess):
    """A running program. Read `chunks`, `write` and `write_eof`, then `wait` for its end.

    Its standard error is kept up to a limit; what is beyond is dropped, the program goes on.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, MAX_ERRORS)
        self._waiting: deque[bytes] = deque()
        self._held = 0
        self._paused = False
        self._ended = False
        self._more = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    @classmethod
    async def open(cls, connection: Connection, line: bytes) -> RemoteStream:
        """Run a shell line. ChannelRefused when there is no room."""
        stream = cls(connection)
        await stream.opened(line)
        return stream

    # --- its output

    async def chunks(self, stall: float) -> AsyncIterator[bytes]:
        """Standard output as it comes; Upstream when nothing comes for `stall` seconds."""
        while True:
            while self._waiting:
                data = self._waiting.popleft()
                self._held -= len(data)
                if self._paused and self._held < HIGH // 2 and self._channel is not None:
                    self._paused = False
                    self._channel.resume_reading()
                yield data
            if self._ended:
                return
            self._more.clear()
            await self._wait_for(self._more, stall)

    def data_received(self, data: bytes, datatype: int | None) -> None:
        data = self._own(data, datatype)
        if not data:
            return
        if datatype is not None:
            if self._left > 0:
                self._left -= len(data)
                self._stderr.append(data)
            return
        self._waiting.append(data)
        self._held += len(data)
        if self._held >= HIGH and not self._paused and self._channel is not None:
            self._paused = True
            self._channel.pause_reading()
        self._more.set()

    # --- its input

    async def write(self, data: bytes, stall: float) -> None:
        """Send to standard input; waits while the program does not read. Lost or Upstream when it never will."""
        await self._wait_for(self._writable, stall)
        if self._ended or self._channel is None:
            return  # it reads no more: `wait` says how it ended
        try:
            self._connection.send(self._channel, data)
        except (OSError, asyncssh.Error):
            self._ended = True

    def write_eof(self) -> None:
        """End standard input."""
        if self._channel is not None and not self._ended:
            with suppress(OSError, asyncssh.Error):
                self._channel.write_eof()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # --- its end

    async def wait(self, stall: float) -> Output:
        """How it ended: exit status and standard error. Raises Lost when the connection went first."""
        try:
            async with asyncio.timeout(stall):
                return await asyncio.shield(self.finished)
        except TimeoutError:
            raise Upstream("The program on the cluster stopped answering") from None

    def eof_received(self) -> bool:
        self._ended = True
        self._more.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._more.set()
        self._writable.set()
        super().connection_lost(exc)
        if self.finished.done() and not self.finished.cancelled():
            self.finished.exception()  # who streams may never ask for it

    @staticmethod
    async def _wait_for(event: asyncio.Event, stall: float) -> None:
        try:
            async with asyncio.timeout(stall):
                await event.wait()
        except TimeoutError:
            raise Upstream("The program on the cluster stopped answering") from None
