"""Follow a file as it grows, through truncation and rotation, by polling: SFTP has no notifications."""

from __future__ import annotations

import asyncio
import codecs
import errno
import os
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, Literal

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Upstream
from flamecrest.server.files.remote.errors import operation_error
from flamecrest.server.files.remote.reading.text import TextFile
from flamecrest.server.files.remote.writing import require_regular, stall_timeout
from flamecrest.server.files.values import FollowEvent, FollowPosition, Stat
from flamecrest.server.ssh.channels.sftp_packets import FLAG_READ, Attrs, SftpError
from flamecrest.server.ssh.errors import StatError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.port import Session

MIN_INTERVAL: Final = 0.2  # seconds until the next poll after the file has grown
MAX_INTERVAL: Final = 2.0  # the longest interval
INTERVAL_GROWTH: Final = 1.4  # factor by which the interval grows while nothing changes
PIECE: Final = 64 * 1024  # bytes per event
MAX_FIRST_LINES: Final = 1024 * 1024  # the most bytes of the first lines
OPEN_ATTEMPTS: Final = 5  # attempts to open a file that is replaced meanwhile


class Follower:
    """Follows one file."""

    def __init__(self, session: Session, sftp: Sftp, path: str, recalled: asyncio.Event) -> None:
        self._session = session
        self._sftp = sftp
        self._path = path
        self._recalled = recalled  # the connection is wanted for another user
        self._prefix = f"tail: cannot open '{path}' for reading"
        self._handle: bytes | None = None
        self._ino = 0
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    async def begin(self, lines: int, after: FollowPosition | None) -> FollowEvent | None:
        """Open the file at `lines` before its end or at `after`; return the change that happened since `after`."""
        found = await self._open()
        if after is None:
            text = TextFile(self._sftp, self._handle or b"", found.size, MAX_FIRST_LINES)
            self._offset = found.size - len(await text.tail_lines(lines, skip=False))
            return None
        if found.ino != after.ino:
            return FollowEvent("rotated", "", 0, FollowPosition(self._ino, 0))
        if found.size < after.offset:
            return FollowEvent("truncated", "", 0, FollowPosition(self._ino, 0))
        self._offset = after.offset
        return None

    async def pieces(self) -> AsyncGenerator[FollowEvent | None, None]:
        """Yield changes; None after each poll without one. Ends when the connection is wanted for another user."""
        pause = MIN_INTERVAL
        while not self._recalled.is_set():
            read = False
            async with aclosing(self._rest()) as rest:
                async for piece in rest:
                    read = True
                    yield piece
            found = await self._look()
            if found is not None and (found.ino != self._ino or found.size < self._offset):
                event: Literal["rotated", "truncated"] = "rotated" if found.ino != self._ino else "truncated"
                async with aclosing(self._anew(event)) as pieces:
                    async for piece in pieces:
                        yield piece
                read = True
            else:
                yield None
            pause = MIN_INTERVAL if read else min(MAX_INTERVAL, pause * INTERVAL_GROWTH)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._recalled.wait()

    def close(self) -> None:
        """Close the file without waiting for the answer."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._sftp.forget(self._sftp.close_handle(handle))

    async def _rest(self) -> AsyncGenerator[FollowEvent, None]:
        """Yield the rest of the open file."""
        while data := await self._read():
            start = self._offset - len(self._decoder.getstate()[0])
            self._offset += len(data)
            text = self._decoder.decode(data)
            if text:  # else the character is incomplete
                yield FollowEvent("added", text, start, self._position())

    async def _anew(self, event: Literal["rotated", "truncated"]) -> AsyncGenerator[FollowEvent, None]:
        """Yield the rest of the old file, then the event; reading continues at the start of the new one."""
        if event == "rotated":
            async with aclosing(self._rest()) as rest:
                async for piece in rest:
                    yield piece
        start = self._position()
        if left := self._decoder.decode(b"", final=True):
            yield FollowEvent("added", left, start.offset, FollowPosition(self._ino, self._offset))
        self._decoder.reset()
        if event == "rotated":
            self.close()
            await self._open()
            yield FollowEvent("rotated", "", 0, FollowPosition(self._ino, 0))
        else:
            self._offset = 0
            yield FollowEvent("truncated", "", 0, FollowPosition(self._ino, 0))

    def _position(self) -> FollowPosition:
        return FollowPosition(self._ino, self._offset - len(self._decoder.getstate()[0]))

    async def _open(self) -> Stat:
        """Open the file at the path, at its start, and make sure of its inode."""
        for _ in range(OPEN_ATTEMPTS):
            before = await self._look(must=True)
            assert before is not None  # noqa: S101 -- because of `must`
            require_regular(self._prefix, Attrs(mode=before.mode))
            opening = self._sftp.open_file(os.fsencode(self._path), FLAG_READ)
            try:
                async with stall_timeout(self._sftp):
                    self._handle = await opening
            except SftpError as error:
                raise operation_error(error, self._prefix) from None
            after = await self._look()
            if after is not None and after.ino == before.ino:
                self._ino, self._offset = after.ino, 0
                return after
            self.close()
        raise Upstream(f"{self._prefix}: it is replaced continuously")

    async def _look(self, *, must: bool = False) -> Stat | None:
        """Return the attributes of the path; None if it does not exist and `must` is not set."""
        try:
            numbers = await self._session.stat(self._path, Deadline.after(self._session.stall_timeout), follow=True)
        except StatError as error:
            if error.errno == errno.ENOENT and not must:  # a log that is being rotated
                return None
            raise operation_error(error, self._prefix) from None
        return Stat(*numbers)

    async def _read(self) -> bytes:
        try:
            async with stall_timeout(self._sftp):
                return await self._sftp.read(self._handle or b"", self._offset, min(PIECE, self._sftp.read_size))
        except SftpError as error:
            raise operation_error(error, f"tail: error reading '{self._path}'") from None


@asynccontextmanager
async def follow(
    session: Session, path: str, deadline: Deadline, *, lines: int, after: FollowPosition | None
) -> AsyncIterator[AsyncIterator[FollowEvent | None]]:
    """Open a file to follow it; the deadline limits the opening."""
    recalled = asyncio.Event()
    async with session.open_sftp(deadline, on_recall=recalled.set) as sftp:
        follower = Follower(session, sftp, path, recalled)
        try:
            async with deadline.enforce("Opening the file"):
                happened = await follower.begin(lines, after)
            async with aclosing(_all(follower, happened)) as pieces:
                yield pieces
        finally:
            follower.close()


async def _all(follower: Follower, happened: FollowEvent | None) -> AsyncGenerator[FollowEvent | None, None]:
    if happened is not None:
        yield happened
    async with aclosing(follower.pieces()) as pieces:
        async for piece in pieces:
            yield piece
