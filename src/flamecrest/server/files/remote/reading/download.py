"""Downloads over SFTP in bounded memory: reads ahead, and proves that all bytes are of one state of one file.

SFTP version 3 tells neither inode nor ctime of an open file, and modification times in seconds only. So the agent is
asked for the attributes of the path: after the file was opened, which ties them to the open file, and after the last
byte. Where they prove nothing (the path leads to another file by now, or there is no agent), the bytes are read twice:
if they are the same, they were in the file together between the two.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import deque
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import Invalid, NotFound, Upstream
from flamecrest.server.files.remote.writing import IN_FLIGHT_BYTES, require_regular, within_stall_timeout
from flamecrest.server.files.values import CLOCK_STEP, Stat

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files.read_ahead import Window
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.channels.sftp_packets import Attrs

UNSIZED_LIMIT = 1024 * 1024  # the most bytes that are read of a file whose reported size is wrong (/proc)
UNSIZED: Final = frozenset({0, 4096})  # sizes that /proc and /sys report
OPEN_ATTEMPTS: Final = 5  # for a file that is replaced or written continuously
RECENT: Final = 600.0  # seconds; a file that was changed within this time may be changed again while it is read
OLD: Final = 10.0  # seconds; a modification time before that changes with the next write, whatever clock it is from
READ_TWICE: Final = 64 * 1024 * 1024  # bytes; more are not read a second time


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
    """The Reader of an open file. Its first bytes are requested while it is being checked.

    `found` are the attributes of the path, `look` asks for them again; without an agent they have no inode.
    """

    def __init__(
        self, sftp: Sftp, handle: bytes, found: Stat, look: Callable[[], Awaitable[Stat]], window: Window
    ) -> None:
        self._sftp = sftp
        self._handle = handle
        self._look = look
        self._window = window
        self._ahead: tuple[int, asyncio.Future[bytes]] | None = None
        self._ahead_end = 0  # behind the bytes that were read ahead
        self._by_agent = found.ino != 0
        self._dev = found.dev  # /proc and /sys have no device: its major number is 0
        self._proven_ahead = False  # the bytes that were read ahead are known to be of the state in `stat`
        self._size = found.size  # of the open file, also if that is not what can be read
        self.content: bytes | None = None  # of a file whose reported size is wrong
        self.stat = found

    async def begin(self, prefix: str, start: int, deadline: Deadline, *, last: bool) -> Stat | None:
        """Request the first bytes, and make sure that `stat` is of the open file.

        Returns other attributes if the path has them now: the file is to be opened again. After the `last` attempt
        the open file is taken, and `stat` has what SFTP knows of it: no inode.
        """
        async with deadline.enforce("Opening the file"):
            self._read_ahead(start)
            now, path = await self._looked()
            opened = require_regular(prefix, now)
            same = (opened.size, opened.mtime) == (self.stat.size, self.stat.mtime)
            if not (same and self._proven_by(path)):
                retry = not same if path is None else path.ino != 0
                if retry and not last and self._size:
                    return path or opened
                # ctime without inode: it is known on this cluster, and is not that of the open file
                self.stat, self._size, self._proven_ahead = opened._replace(ctime=self.stat.ctime), opened.size, False
            if start == 0 and self._size in UNSIZED:
                await self._read_unsized()
        return None

    async def _looked(self) -> tuple[Attrs, Stat | None]:
        """The attributes of the open file, and those of the path (None: not known).

        If all bytes are read ahead, both are asked for after the bytes have arrived, so that they prove them.
        """
        asked = self._sftp.fstat(self._handle)  # answered after the bytes
        if self._ahead is not None and self._ahead_end >= self._size:
            now = await asked
            self._proven_ahead = self._by_agent
            return now, await self._path()
        return await asyncio.gather(asked, self._path())

    async def _path(self) -> Stat | None:
        """The attributes of the path, without inode if nothing is there any more; None if they prove nothing."""
        if not self.stat.ino:
            return None
        try:
            return await self._look()
        except NotFound:
            return Stat()

    def _proven_by(self, path: Stat | None) -> bool:
        """Whether the open file is the one at the path, and nothing has changed since its attributes were read."""
        found = self.stat
        return path is not None and path.version == found.version and found.settles_in(time.time()) <= 0

    async def _read_unsized(self) -> None:
        """Read a whole file whose reported size may be wrong (/proc, /sys), to learn its size."""
        size, ahead = self._size, self._ahead
        data = await within_stall_timeout(self._sftp, ahead[1]) if ahead is not None else b""
        if len(data) == size:
            return
        while data and len(data) <= UNSIZED_LIMIT and len(data) != size:
            more = await self._sftp.read(self._handle, len(data), self._sftp.read_size)
            if not more:
                break
            data += more
        if len(data) > UNSIZED_LIMIT:
            raise Invalid("The file has no size and does not end")
        now = await within_stall_timeout(self._sftp, self._sftp.fstat(self._handle))
        if (now.size or 0) != size or os.major(self._dev):  # an ordinary file that was empty for a moment
            raise Upstream("The file is being changed")
        self.content = data
        if len(data) != size:
            found = self.stat
            self.stat = Stat(
                mode=found.mode, uid=found.uid, gid=found.gid, size=len(data), atime=found.atime, mtime=found.mtime
            )

    def _read_ahead(self, start: int) -> None:
        step = self._piece(self._window.grow(2 * self._sftp.read_size))
        length = min(step, self._size - start) if self._size else step
        self._ahead_end = start + length
        self._ahead = (start, self._sftp.read(self._handle, start, length)) if length > 0 else None

    def _piece(self, window: int) -> int:
        """The size of one read in bytes: two fit into the window."""
        return min(self._sftp.read_size, window // 2)

    async def _taken(self, start: int) -> bytes:
        """Return the bytes that were read ahead, if they begin at `start`."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return b""
        if ahead[0] != start:
            self._sftp.forget(ahead[1])
            return b""
        return await within_stall_timeout(self._sftp, ahead[1])

    def close(self) -> None:
        """Ignore the answer to the read ahead, and give the window back."""
        self._window.close()
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
        digest = self._digest(end - start)
        last = b""  # one chunk is kept back until all are proven to be of one state
        if start < end:
            last = (await self._taken(start))[: end - start]
        if start + len(last) != end or not self._proven_ahead:
            if digest is not None:
                digest.update(last)
            async with aclosing(self._rest(start + len(last), end)) as rest:
                async for data in rest:
                    if last:
                        yield last
                    last = data
                    if digest is not None:
                        digest.update(data)
            await self._check_unchanged(start, end, digest)
        if last:
            yield last

    def _digest(self, size: int) -> hashlib._Hash | None:
        """A digest of the bytes if they may have to be read a second time."""
        found = self.stat
        recent = time.time() - found.mtime <= OLD or self._by_agent
        if found.ino:
            recent = found.now(time.time()) - found.ctime <= RECENT
        if size > READ_TWICE or not recent:
            return None
        return hashlib.sha1(usedforsecurity=False)

    async def _rest(self, position: int, end: int) -> AsyncGenerator[bytes]:
        """Yield the bytes from `position` on in order, with several reads in flight."""
        pending: deque[tuple[int, int, asyncio.Future[bytes]]] = deque()
        sent = asked = 0
        try:
            while position < end or pending:
                # The window grows with the transfer: a small file costs no memory, a large one is read far ahead.
                # It is refilled when it is half empty, as requests made together go out in one write.
                window = self._window.grow(min(IN_FLIGHT_BYTES, max(2 * self._sftp.read_size, sent)))
                step, half_empty = self._piece(window), asked <= window // 2
                while half_empty and position < end and asked + step <= window:
                    length = min(step, end - position)
                    pending.append((position, length, self._sftp.read(self._handle, position, length)))
                    position += length
                    asked += length
                offset, length, future = pending.popleft()
                data = await within_stall_timeout(self._sftp, future)
                if not data:
                    raise Upstream("The file became shorter while it was read")
                if len(data) < length:  # a short answer is allowed: request the rest, in order
                    rest = self._sftp.read(self._handle, offset + len(data), length - len(data))
                    pending.appendleft((offset + len(data), length - len(data), rest))
                sent += len(data)
                asked -= len(data)
                yield data
        finally:
            for _, _, future in pending:
                self._sftp.forget(future)

    async def _check_unchanged(self, start: int, end: int, digest: hashlib._Hash | None) -> None:
        """Raise Upstream if the bytes from `start` to `end` may not have been in the file together."""
        now, path = await asyncio.gather(within_stall_timeout(self._sftp, self._sftp.fstat(self._handle)), self._path())
        found = self.stat
        if self._proven_by(path):
            return
        same = (now.size, now.mtime) == (found.size, found.mtime)
        # a file that grew may have been written anew: nothing proves that it was appended to
        if not same or (path is not None and path.ino == found.ino):
            size = now.size or 0
            happened = "became shorter" if size < end else "grew" if size > found.size else "was changed"
            raise Upstream(f"The file {happened} while it was read")
        if not self._by_agent and time.time() - found.mtime > OLD:
            return
        if digest is not None:
            await asyncio.sleep(CLOCK_STEP)  # a write that is half done would be the same twice
            again = hashlib.sha1(usedforsecurity=False)
            async with aclosing(self._rest(start, end)) as rest:
                async for data in rest:
                    again.update(data)
            if again.digest() == digest.digest():
                return
        elif found.ino:
            return  # replaced or removed long after its last change
        raise Upstream("The file was changed while it was read")
