"""One command with its input and output as streams, in bounded memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress

import asyncssh

from flamecrest.server.errors import Upstream
from flamecrest.server.ssh.command import Output
from flamecrest.server.ssh.start_line import may_end, whole_end

from .process import LINGER, RemoteProcess, Shell

MAX_UNREAD = 1024 * 1024  # bytes of output that may wait for the reader before the channel is paused
MAX_ERRORS = 256 * 1024  # bytes of standard error that are kept


class RemoteStream(RemoteProcess):
    """A running program. Read `chunks`, `write` and `send_eof`, then `wait` for its end.

    Its output ends with the end mark: what a start-up file has left running may keep the channel open, and print.
    Standard error is kept up to MAX_ERRORS; the rest is dropped, and the program goes on.
    """

    def __init__(self, shell: Shell, max_output: int) -> None:
        super().__init__(shell, max_output)
        self._waiting: deque[bytes] = deque()
        self._unread = 0
        self._paused = False
        self._ended = False
        self._dropping = False
        self._held = b""  # the end mark, or output that may be its beginning
        self._marked = False  # the end mark has come whole
        self._first = asyncio.Event()
        self._more = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    async def begun(self) -> bool:
        """Wait until the program is being started; False if its login ended before that."""
        await self._first.wait()
        return self._preambles[0].ended

    # --- its output

    async def chunks(self, stall: float) -> AsyncIterator[bytes]:
        """Standard output as it comes; Upstream when nothing comes for `stall` seconds."""
        while True:
            while self._waiting:
                data = self._waiting.popleft()
                self._unread -= len(data)
                if self._paused and self._unread < MAX_UNREAD // 2:
                    self._paused = False
                    self._channel.resume_reading()
                yield data
            if self._ended:
                return
            self._more.clear()
            await self._wait_for(self._more, stall)

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self._transport.received(len(data))
        data = self._preambles[datatype is not None].strip(data)
        if self._preambles[0].ended:
            self._first.set()
        if not data:
            return
        if datatype is not None:
            if self._left > 0:
                self._left -= len(data)
                self._stderr.append(data)
            return
        if self._dropping or self._marked:
            return
        if self._held:
            data = self._held + data
        at = may_end(data)
        data, self._held = data[:at], data[at:]
        if data:
            self._deliver(data)
        if self._held and (end := whole_end(self._held)):
            self._held, self._marked = end, True  # what follows was printed by something that start-up files left
            asyncio.get_running_loop().call_later(LINGER, self._finish_at_mark)

    def _deliver(self, data: bytes) -> None:
        self._waiting.append(data)
        self._unread += len(data)
        if self._unread >= MAX_UNREAD and not self._paused:
            self._paused = True
            self._channel.pause_reading()
        self._more.set()

    # --- its input

    async def write(self, data: bytes, stall: float) -> None:
        """Send to standard input; waits while the program does not read. Upstream after `stall` seconds of that."""
        await self._wait_for(self._writable, stall)
        if self._ended:
            return  # the program has ended: `wait` gives its status
        try:
            self._transport.send(self._channel, data)
        except (OSError, asyncssh.Error):
            self._ended = True

    def send_eof(self) -> None:
        """End standard input."""
        if not self._ended:
            with suppress(OSError, asyncssh.Error):
                self._channel.write_eof()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # --- its end

    def drop(self) -> None:
        """Drop unread output, so that the channel can close."""
        self._dropping = True
        self._waiting.clear()
        if self._paused:
            self._paused = False
            with suppress(OSError, asyncssh.Error):
                self._channel.resume_reading()

    async def wait(self, stall: float) -> Output:
        """Exit status and standard error. Lost if the channel closed first, Upstream after `stall` seconds."""
        try:
            async with asyncio.timeout(stall):
                return await asyncio.shield(self.finished)
        except TimeoutError:
            raise Upstream("The program on the cluster stopped answering") from None

    def eof_received(self) -> bool:
        self._end_output()
        return True

    def _finish_at_mark(self) -> None:
        self._end_output()
        super()._finish_at_mark()

    def _end_output(self) -> None:
        """Keep the end mark, which has the exit status; deliver what has been held back and is none."""
        if not self._ended:
            self._ended = True
            if self._held and not self._marked:
                self._deliver(self._held)
            else:
                self._stdout = [self._held]
        self._more.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_output()
        self._first.set()
        self._writable.set()
        super().connection_lost(exc)

    @staticmethod
    async def _wait_for(event: asyncio.Event, stall: float) -> None:
        try:
            async with asyncio.timeout(stall):
                await event.wait()
        except TimeoutError:
            raise Upstream("The program on the cluster stopped answering") from None
