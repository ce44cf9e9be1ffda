"""Uploads over SFTP in bounded memory into a temporary file beside the target.

Also the time limit on transfers that make no progress, which downloads use as well.
"""

from __future__ import annotations

import asyncio
import secrets
import stat as stat_bits
import time
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from flamecrest.server.errors import Invalid, Upstream
from flamecrest.server.files.paths import IsFolder
from flamecrest.server.files.remote.errors import operation_error
from flamecrest.server.files.remote.replacement import moved
from flamecrest.server.files.remote.replacement.questions import made
from flamecrest.server.files.values import Stat
from flamecrest.server.ssh.channels.sftp_packets import (
    FAILURE,
    FLAG_CREATE,
    FLAG_EXCLUSIVE,
    FLAG_WRITE,
    PERMISSION_DENIED,
    Attrs,
    SftpError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from flamecrest.server.files.remote.replacement.questions import Made, Target
    from flamecrest.server.files.values import WriteOptions
    from flamecrest.server.ssh.channels.sftp import Sftp

T = TypeVar("T")

IN_FLIGHT_BYTES = 4 * 1024 * 1024  # bytes requested or sent and not yet answered, for one transfer


def require_regular(prefix: str, attrs: Attrs) -> Stat:
    """Return the Stat of a regular file; raises Invalid for anything else: opening a FIFO blocks the whole channel."""
    mode = attrs.mode or 0
    if stat_bits.S_ISDIR(mode):
        raise IsFolder(f"{prefix}: Is a directory")
    if not stat_bits.S_ISREG(mode):
        raise Invalid(f"{prefix}: Not a regular file")
    return Stat(
        mode=mode,
        uid=attrs.uid or 0,
        gid=attrs.gid or 0,
        size=attrs.size or 0,
        atime=attrs.atime or 0,
        mtime=attrs.mtime or 0,
    )


def temporary_beside(path: bytes) -> bytes:
    """Return a random name for the temporary file of an upload, in the directory of its target."""
    return path.rpartition(b"/")[0] + b"/.flamecrest-upload-" + secrets.token_hex(8).encode()


class TemporaryFile:
    """The temporary file of an upload. Its owner calls `write` and `finish`, or `discard`."""

    def __init__(self, sftp: Sftp, handle: bytes, path: bytes, prefix: str) -> None:
        self.path = path
        self._sftp = sftp
        self._handle = handle
        self._prefix = prefix
        self._closed = False
        self._size = 0  # bytes that were sent
        self._writes: deque[tuple[int, asyncio.Future[None]]] = deque()

    @classmethod
    async def create(cls, sftp: Sftp, target: Target, options: WriteOptions, prefix: str) -> TemporaryFile:
        """Create the file beside `target`, or in the home directory if the folder of an existing file takes no new one.

        Who may not read the final file may not read this one either: that of an existing file is its owner's only.
        """
        path = temporary_beside(target.path)
        if target.existing is not None:
            attrs = Attrs(mode=0o600)
        elif options.mode is not None:
            attrs = Attrs(mode=options.mode & 0o777 | 0o200)
        else:
            attrs = Attrs(mode=target.new_mode)
        try:
            try:
                handle = await cls._open(sftp, path, attrs)
            except SftpError as error:
                if error.code != PERMISSION_DENIED or target.existing is None:
                    raise
                path = path.rpartition(b"/")[2]  # a relative path begins in the home directory
                handle = await cls._open(sftp, path, attrs)
        except SftpError as error:
            if error.code == FAILURE:
                raise Upstream(
                    f"{prefix}: the file could not be created (disk full, quota, or a read-only file system)"
                ) from None
            raise operation_error(error, prefix) from None
        return cls(sftp, handle, path, prefix)

    @staticmethod
    async def _open(sftp: Sftp, path: bytes, attrs: Attrs) -> bytes:
        try:
            return await sftp.open_file(path, FLAG_WRITE | FLAG_CREATE | FLAG_EXCLUSIVE, attrs)
        except asyncio.CancelledError:
            sftp.forget(sftp.remove(path))  # the server answers it after the pending open request
            raise

    async def write(self, chunks: AsyncIterator[bytes]) -> None:
        """Send all chunks. On return the last writes may still be unanswered."""
        sftp, writes = self._sftp, self._writes
        pieces = Rechunker(sftp.write_size)
        offset = pending = 0
        ended = False
        while not ended:
            chunk = await anext(chunks, None)
            ended = chunk is None
            for size, parts in pieces.rest() if chunk is None else pieces.add(chunk):
                while pending + size > IN_FLIGHT_BYTES and writes:
                    pending -= writes[0][0]
                    await self._written()
                await sftp.room()
                writes.append((size, sftp.write(self._handle, offset, *parts)))
                offset += size
                pending += size
        self._size = offset

    async def finish(self, target: Target, options: WriteOptions) -> Made:
        """Set mode and time, and close the file. It gets the rights of an existing file later (replacement/landing.py).

        Returns what identifies it: in a folder that others may write, its path can lead to another file from now on.
        All requests are sent without waiting for the last writes, so that a small file takes one round trip.
        """
        sftp, handle = self._sftp, self._handle
        if self._size > IN_FLIGHT_BYTES:  # it took so long that its folder may have been renamed
            await self._require_path()
        mode = options.mode if options.mode is not None else target.new_mode
        pending: list[asyncio.Future[None]] = []
        if target.existing is None and mode is not None:
            pending.append(sftp.fsetstat(handle, Attrs(mode=mode)))
        if options.mtime is not None:  # last, as every other change sets the time
            # by its atime the file is not taken for one that was left behind (sweeping.py)
            pending.append(sftp.fsetstat(handle, Attrs(atime=int(time.time()), mtime=options.mtime)))
        if options.sync:
            pending.append(sftp.fsync(handle))
        looking = sftp.fstat(handle)
        self._closed = True
        closing = sftp.close_handle(handle)  # network file systems report a full disk here
        try:
            while self._writes:
                await self._written()
            async with stall_timeout(self._sftp):
                for future in pending:
                    await future
                attrs = await looking
                await self._checked(closing)
        finally:
            for future in (*pending, closing):
                sftp.forget(future)
            sftp.forget(looking)
        return made(self.path, attrs)

    async def _require_path(self) -> None:
        """Raise NotFound if the path does not lead to the file any more: while it is open, it can still be removed."""
        try:
            await within_stall_timeout(self._sftp, self._sftp.lstat(self.path))
        except SftpError as error:
            raise operation_error(error, self._prefix) from None

    async def _written(self) -> None:
        await self._checked(self._writes.popleft()[1])

    async def _checked(self, future: asyncio.Future[None]) -> None:
        try:
            await within_stall_timeout(self._sftp, future)
        except SftpError as error:
            if error.code == FAILURE:
                full = f"{self._prefix}: writing failed (disk full or quota exceeded?)"
                raise Upstream(full, detail=error.message) from None
            raise operation_error(error, self._prefix) from None

    def discard(self) -> None:
        """Remove the file. Does not wait for the answers, as the caller may be cancelled."""
        for _, future in self._writes:
            self._sftp.forget(future)
        if self._closed:  # never twice: the server may have reused the handle for another file
            self._sftp.forget(self._sftp.remove(self.path))
        else:
            self._closed = True
            moved.remove(self._sftp, self.path, self._handle)


class Rechunker:
    """Regroups chunks of any size into pieces of one size without copying: each piece costs the server system calls."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._parts: list[bytes | memoryview] = []
        self._missing = size

    def add(self, chunk: bytes) -> Iterator[tuple[int, list[bytes | memoryview]]]:
        """Yield the pieces that this chunk completes: the size and the parts of each."""
        if len(chunk) < self._missing:
            if chunk:
                self._parts.append(chunk)
                self._missing -= len(chunk)
            return
        view, start = memoryview(chunk), 0
        while len(view) - start >= self._missing:
            end = start + self._missing
            self._parts.append(view[start:end])
            yield self._size, self._parts
            start, self._parts, self._missing = end, [], self._size
        if start < len(view):
            self._parts.append(view[start:])
            self._missing -= len(view) - start

    def rest(self) -> Iterator[tuple[int, list[bytes | memoryview]]]:
        """Yield the last, shorter piece if there is one."""
        if self._parts:
            yield self._size - self._missing, self._parts


@asynccontextmanager
async def stall_timeout(sftp: Sftp) -> AsyncIterator[None]:
    """For steps that end soon where all is well: Upstream when they take more than `stall_timeout` of the client."""
    try:
        async with asyncio.timeout(sftp.stall_timeout):
            yield
    except TimeoutError:
        raise Upstream("The cluster's file system stopped answering") from None


async def within_stall_timeout(sftp: Sftp, future: asyncio.Future[T]) -> T:
    """What a request that is under way brings; Upstream when nothing comes for `stall_timeout` of the client."""
    if future.done():
        return future.result()
    async with stall_timeout(sftp):
        return await future
