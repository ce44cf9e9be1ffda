"""Downloads over SFTP in bounded memory: reads ahead, and detects files that change meanwhile."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing
from typing import TYPE_CHECKING

from flamecrest.server.errors import Invalid, Upstream
from flamecrest.server.files.remote.writing import IN_FLIGHT_BYTES, require_regular, within_stall_timeout
from flamecrest.server.files.values import Stat

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.channels.sftp import Sftp

UNSIZED_LIMIT = 1024 * 1024  # the most bytes that are read of a file whose reported size is wrong (/proc)
OPEN_ATTEMPTS = 3  # for a file that is replaced between stat and open


class UnopenedReader:
    """The Reader of a file that was not opened."""

    def __init__(self, found: Stat) -> None:
        self.stat = found
        self.content: bytes | None = None

    async def chunks(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:  # noqa: ARG002 -- the port
        """Yield nothing."""
        no_chunks: tuple[bytes, ...] = ()
        for chunk in no_chunks:
            yield chunk


class SftpReader:
    """The Reader of an open file. Its first bytes are requested while it is being checked."""

    def __init__(self, sftp: Sftp, handle: bytes, found: Stat) -> None:
        self._sftp = sftp
        self._handle = handle
        self._ahead: tuple[int, asyncio.Future[bytes]] | None = None
        self._version = (found.size, found.mtime)  # as seen last
        self.content: bytes | None = None  # of a file whose reported size is wrong
        self.stat = found

    async def begin(
        self, prefix: str, start: int, choose_start: Callable[[Stat], int | None], deadline: Deadline
    ) -> None:
        """Request the first bytes and the attributes at once, to detect a file that was replaced before it was opened.

        `choose_start` is then called again. Raises Upstream for a file that keeps changing, unless it only grows.
        """
        async with deadline.enforce("Opening the file"):
            for _ in range(OPEN_ATTEMPTS):
                self._read_ahead(start)
                # requested and answered after the bytes, so these attributes are valid for them
                now = require_regular(prefix, await self._sftp.fstat(self._handle))
                same, grown = (now.size, now.mtime) == self._version, now.size > self._version[0]
                if same:
                    break
                self.close()
                self._version, self.stat = (now.size, now.mtime), now
                start = choose_start(now) or 0
            else:
                if not grown:
                    raise Upstream(f"{prefix}: The file is being changed")
            if start == 0 and self.stat.size <= self._sftp.read_size:
                await self._read_unsized()

    async def _read_unsized(self) -> None:
        """Read a whole file whose reported size is wrong (/proc, /sys), to learn its size."""
        size, ahead = self.stat.size, self._ahead
        data = await within_stall_timeout(ahead[1]) if ahead is not None else b""
        if len(data) == size:
            return
        while data and len(data) <= UNSIZED_LIMIT and len(data) != size:
            more = await self._sftp.read(self._handle, len(data), self._sftp.read_size)
            if not more:
                break
            data += more
        if len(data) > UNSIZED_LIMIT:
            raise Invalid("The file has no size and does not end")
        self.content = data
        if len(data) != size:
            found = self.stat
            self.stat = Stat(
                mode=found.mode, uid=found.uid, gid=found.gid, size=len(data), atime=found.atime, mtime=found.mtime
            )

    def _read_ahead(self, start: int) -> None:
        size, step = self.stat.size, self._sftp.read_size
        length = min(step, size - start) if size else step
        self._ahead = (start, self._sftp.read(self._handle, start, length)) if length > 0 else None

    async def _taken(self, start: int) -> bytes:
        """Return the bytes that were read ahead, if they begin at `start`."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return b""
        if ahead[0] != start:
            self._sftp.forget(ahead[1])
            return b""
        return await within_stall_timeout(ahead[1])

    def close(self) -> None:
        """Ignore the answer to the read ahead."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            self._sftp.forget(ahead[1])

    async def chunks(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` to `end`, several reads ahead of the consumer."""
        end = self.stat.size if end is None else end
        if self.content is not None:
            if part := self.content[start:end]:
                yield part
            return
        last = b""  # one chunk is kept back until the file is known to be unchanged
        if start < end:
            last = (await self._taken(start))[: end - start]
        if start + len(last) != end:  # else one read was enough, and `begin` checked the file after it
            async with aclosing(self._rest(start + len(last), end)) as rest:
                async for data in rest:
                    if last:
                        yield last
                    last = data
            await self._check_unchanged()
        if last:
            yield last

    async def _rest(self, position: int, end: int) -> AsyncGenerator[bytes]:
        """Yield the bytes from `position` on in order, with several reads in flight."""
        pending: deque[tuple[int, int, asyncio.Future[bytes]]] = deque()
        sent, step = 0, self._sftp.read_size
        try:
            while position < end or pending:
                # The window grows with the transfer: a small file costs no memory, a large one is read far ahead.
                # It is refilled when it is half empty, as requests made together go out in one write.
                window = min(IN_FLIGHT_BYTES, max(2 * step, sent)) // step
                half_empty = len(pending) <= window // 2
                while half_empty and position < end and len(pending) < window:
                    length = min(step, end - position)
                    pending.append((position, length, self._sftp.read(self._handle, position, length)))
                    position += length
                offset, length, future = pending.popleft()
                data = await within_stall_timeout(future)
                if not data:
                    raise Upstream("The file became shorter while it was read")
                if len(data) < length:  # a short answer is allowed: request the rest, in order
                    rest = self._sftp.read(self._handle, offset + len(data), length - len(data))
                    pending.appendleft((offset + len(data), length - len(data), rest))
                sent += len(data)
                yield data
        finally:
            for _, _, future in pending:
                self._sftp.forget(future)

    async def _check_unchanged(self) -> None:
        """Raise Upstream if the file was modified while it was read, unless it only grew."""
        now = await within_stall_timeout(self._sftp.fstat(self._handle))
        size, mtime = self._version
        if (now.size or 0) < size or ((now.size or 0) == size and now.mtime != mtime):
            raise Upstream("The file was changed while it was read")
