"""Files on their way out over SFTP, in bounded memory: read ahead, and checked to be the file that was looked at."""

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

UNSIZED_LIMIT = 1024 * 1024  # bytes that are read of a file whose size is not what it says (/proc)
TRIES = 3  # to find a file that stays what it is while it is opened


class UnopenedReader:
    """The Reader of a file that was looked at and not opened."""

    def __init__(self, found: Stat) -> None:
        self.stat = found
        self.held: bytes | None = None

    async def chunks(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:  # noqa: ARG002 -- the port
        """Nothing, as was agreed."""
        nothing: tuple[bytes, ...] = ()
        for chunk in nothing:
            yield chunk


class SftpReader:
    """The Reader port: an open file whose first bytes are asked for already."""

    def __init__(self, sftp: Sftp, handle: bytes, found: Stat) -> None:
        self._sftp = sftp
        self._handle = handle
        self._ahead: tuple[int, asyncio.Future[bytes]] | None = None
        self._is = (found.size, found.mtime)  # as seen last
        self.held: bytes | None = None  # what there is of a file that does not say how long it is
        self.stat = found

    async def begin(self, words: str, start: int, again: Callable[[Stat], int | None], deadline: Deadline) -> None:
        """Ask for the first bytes and, in the same turn, whether this is the file that was looked at.

        Where it is not, `again` is told what it is; a file that changes all the time is Upstream, unless it grows.
        """
        async with deadline.enforce("Opening the file"):
            for _ in range(TRIES):
                self._ask_ahead(start)
                # asked after the bytes and answered after them: what it says holds for them too
                now = require_regular(words, await self._sftp.fstat(self._handle))
                same, grown = (now.size, now.mtime) == self._is, now.size > self._is[0]
                if same:
                    break
                self.close()
                self._is, self.stat = (now.size, now.mtime), now
                start = again(now) or 0
            else:
                if not grown:
                    raise Upstream(f"{words}: The file is being changed")
            if start == 0 and self.stat.size <= self._sftp.read_size:
                await self._read_odd()

    async def _read_odd(self) -> None:
        """Find out how long a file is that has not as many bytes as it says (/proc, /sys), by reading all of it."""
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
        self.held = data
        if len(data) != size:
            found = self.stat
            self.stat = Stat(found.mode, found.uid, found.gid, len(data), found.atime, found.mtime)

    def _ask_ahead(self, start: int) -> None:
        size, step = self.stat.size, self._sftp.read_size
        length = min(step, size - start) if size else step
        self._ahead = (start, self._sftp.read(self._handle, start, length)) if length > 0 else None

    async def _taken(self, start: int) -> bytes:
        """The bytes that were asked for ahead, if they begin at `start`."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return b""
        if ahead[0] != start:
            self._sftp.forget(ahead[1])
            return b""
        return await within_stall_timeout(ahead[1])

    def close(self) -> None:
        """Let go of what was asked for ahead."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            self._sftp.forget(ahead[1])

    async def chunks(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` to `end`, several reads ahead of who takes them."""
        end = self.stat.size if end is None else end
        if self.held is not None:
            if part := self.held[start:end]:
                yield part
            return
        held = b""
        if start < end:
            held = (await self._taken(start))[: end - start]
        checked = start + len(held) == end  # one read did: what was asked behind it holds
        if not checked:
            async with aclosing(self._rest(start + len(held), end)) as rest:
                async for data in rest:
                    if held:
                        yield held
                    held = data
            await self._unchanged()
        if held:
            yield held

    async def _rest(self, position: int, end: int) -> AsyncGenerator[bytes]:
        """The bytes from `position` on, in order, several reads under way."""
        asked: deque[tuple[int, int, asyncio.Future[bytes]]] = deque()
        sent, step = 0, self._sftp.read_size
        try:
            while position < end or asked:
                # the window opens with the transfer: a small one costs no memory, a big one is read well ahead;
                # what is asked for together goes out together, so it is filled when it is half empty
                window = min(IN_FLIGHT_BYTES, max(2 * step, sent)) // step
                half_empty = len(asked) <= window // 2
                while half_empty and position < end and len(asked) < window:
                    length = min(step, end - position)
                    asked.append((position, length, self._sftp.read(self._handle, position, length)))
                    position += length
                offset, length, future = asked.popleft()
                data = await within_stall_timeout(future)
                if not data:
                    raise Upstream("The file became shorter while it was read")
                if len(data) < length:  # a short answer is allowed: ask for the rest, in order
                    rest = self._sftp.read(self._handle, offset + len(data), length - len(data))
                    asked.appendleft((offset + len(data), length - len(data), rest))
                sent += len(data)
                yield data
        finally:
            for _, _, future in asked:
                self._sftp.forget(future)

    async def _unchanged(self) -> None:
        """Raise Upstream if the file was written while it was read, unless it only grew."""
        now = await within_stall_timeout(self._sftp.fstat(self._handle))
        size, mtime = self._is
        if (now.size or 0) < size or ((now.size or 0) == size and now.mtime != mtime):
            raise Upstream("The file was changed while it was read")
