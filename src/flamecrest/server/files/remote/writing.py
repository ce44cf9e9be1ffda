"""Uploads over SFTP in bounded memory: a temporary file beside the target, then an atomic rename.

Also the time limit on transfers that make no progress, which downloads use as well.
"""

from __future__ import annotations

import asyncio
import secrets
import stat as stat_bits
from collections import deque
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from flamecrest.server.errors import Conflict, Invalid, PreconditionFailed, Upstream
from flamecrest.server.files.remote.errors import operation_error
from flamecrest.server.files.values import Stat, WriteOptions
from flamecrest.server.ssh.channels.sftp_packets import (
    FAILURE,
    FLAG_CREATE,
    FLAG_EXCLUSIVE,
    FLAG_WRITE,
    NO_ATTRS,
    NO_SUCH_FILE,
    Attrs,
    SftpError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from flamecrest.server.ssh.channels.sftp import Sftp

T = TypeVar("T")

IN_FLIGHT_BYTES = 4 * 1024 * 1024  # bytes requested or sent and not yet answered, for one transfer
STALL_TIMEOUT = 30.0  # seconds without progress after which a transfer fails


def require_regular(prefix: str, attrs: Attrs) -> Stat:
    """Return the Stat of a regular file; raises Invalid for anything else: opening a FIFO blocks the whole channel."""
    mode = attrs.mode or 0
    if stat_bits.S_ISDIR(mode):
        raise Invalid(f"{prefix}: Is a directory")
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
        self._writes: deque[tuple[int, asyncio.Future[None]]] = deque()

    @classmethod
    async def create(
        cls, sftp: Sftp, target: bytes, existing: Attrs | None, options: WriteOptions, prefix: str
    ) -> TemporaryFile:
        """Create the file beside `target`. Who may not read the final file may not read this one either."""
        path = temporary_beside(target)
        mode = _final_mode(existing, options)
        attrs = NO_ATTRS if mode is None else Attrs(mode=mode & 0o777 | 0o200)
        try:
            handle = await sftp.open_file(path, FLAG_WRITE | FLAG_CREATE | FLAG_EXCLUSIVE, attrs)
        except asyncio.CancelledError:
            sftp.forget(sftp.remove(path))  # the server answers it after the pending open request
            raise
        except SftpError as error:
            if error.code == FAILURE:
                raise Upstream(
                    f"{prefix}: the file could not be created (disk full, quota, or a read-only file system)"
                ) from None
            raise operation_error(error, prefix) from None
        return cls(sftp, handle, path, prefix)

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

    async def finish(self, existing: Attrs | None, options: WriteOptions) -> None:
        """Set mode, time and group, and close the file.

        All requests are sent without waiting for the last writes, so that a small file takes one round trip.
        """
        sftp, handle = self._sftp, self._handle
        mode = _final_mode(existing, options)
        later = [Attrs(mode=mode)] if mode is not None else []
        if options.mtime is not None:  # last, as every other change sets the time
            later.append(Attrs(atime=options.mtime, mtime=options.mtime))
        mine = sftp.fstat(handle) if existing is not None else None
        pending = [sftp.fsetstat(handle, attrs) for attrs in later]
        if options.sync:
            pending.append(sftp.fsync(handle))
        self._closed = True
        closing = sftp.close_handle(handle)  # network file systems report a full disk here
        try:
            while self._writes:
                await self._written()
            async with stall_timeout():
                if mine is not None and existing is not None:
                    await self._take_group(await mine, existing, later)
                for future in pending:
                    await future
                await self._checked(closing)
        finally:
            for future in (*pending, closing, *((mine,) if mine is not None else ())):
                sftp.forget(future)

    async def _take_group(self, mine: Attrs, existing: Attrs, later: Sequence[Attrs]) -> None:
        """Set the group of the replaced file where that is allowed, then the attributes that chown(2) resets."""
        group = _other_group(mine, existing)
        if group is None:
            return
        with suppress(SftpError):
            await self._sftp.setstat(self.path, group)
        for attrs in later:
            await self._sftp.setstat(self.path, attrs)

    async def _written(self) -> None:
        await self._checked(self._writes.popleft()[1])

    async def _checked(self, future: asyncio.Future[None]) -> None:
        try:
            await within_stall_timeout(future)
        except SftpError as error:
            if error.code == FAILURE:
                full = f"{self._prefix}: writing failed (disk full or quota exceeded?)"
                raise Upstream(full, detail=error.message) from None
            raise operation_error(error, self._prefix) from None

    def discard(self) -> None:
        """Remove the file. Does not wait for the answers, as the caller may be cancelled."""
        for _, future in self._writes:
            self._sftp.forget(future)
        if not self._closed:  # never twice: the server may have reused the handle for another file
            self._sftp.forget(self._sftp.close_handle(self._handle))
        self._sftp.forget(self._sftp.remove(self.path))


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


def _final_mode(existing: Attrs | None, options: WriteOptions) -> int | None:
    """Return the mode that the finished file must have; None: as the umask has it."""
    if options.mode is None and existing is not None:
        return stat_bits.S_IMODE(existing.mode or 0)
    return options.mode


async def rename_into_place(
    sftp: Sftp, temporary: bytes, target: bytes, existing: Attrs | None, options: WriteOptions, prefix: str
) -> None:
    """Rename a temporary file to its target.

    With `options.exclusive` by the request that refuses to replace a file (OpenSSH makes a hard link: no race).
    """
    if not options.exclusive:
        await rename_replacing(sftp, temporary, target, prefix, replace=existing is not None)
        return
    try:
        await sftp.rename_new(temporary, target)
    except SftpError as error:
        if error.code == FAILURE:
            with suppress(SftpError):
                await sftp.lstat(target)
                raise PreconditionFailed(f"{prefix}: File exists") from None
        raise operation_error(error, prefix) from None


async def resolve_target(sftp: Sftp, path: bytes, prefix: str) -> tuple[bytes, Attrs | None]:
    """Return the path to replace (the target of a link instead of the link) and its attributes, None if it is new."""
    itself, followed = await asyncio.gather(sftp.lstat(path), sftp.stat(path), return_exceptions=True)
    if isinstance(itself, SftpError):
        if itself.code == NO_SUCH_FILE:
            return path, None
        raise operation_error(itself, prefix)
    if isinstance(itself, BaseException):
        raise itself
    if isinstance(followed, SftpError):
        raise Conflict(f"{prefix}: the target is a symbolic link that leads nowhere")
    if isinstance(followed, BaseException):
        raise followed
    require_regular(prefix, followed)
    if stat_bits.S_ISLNK(itself.mode or 0):
        path = (await sftp.realpath(path))[0].name
    return path, followed


async def copy_mode_and_group(sftp: Sftp, handle: bytes, existing: Attrs) -> None:
    """Set mode and, where that is allowed, group of the replaced file."""
    group = _other_group(await sftp.fstat(handle), existing)
    if group is not None:
        with suppress(SftpError):
            await sftp.fsetstat(handle, group)
    # after the group: chown(2) clears the setuid and setgid bits
    await sftp.fsetstat(handle, Attrs(mode=stat_bits.S_IMODE(existing.mode or 0)))


def _other_group(mine: Attrs, existing: Attrs) -> Attrs | None:
    """Return the change that sets the group of the replaced file; None if it is the same or unknown."""
    if mine.uid is None or existing.gid is None or mine.gid == existing.gid:
        return None
    return Attrs(uid=mine.uid, gid=existing.gid)


async def rename_replacing(sftp: Sftp, temporary: bytes, target: bytes, prefix: str, *, replace: bool) -> None:
    """Rename a file over its target; `replace` says that the target exists."""
    try:
        await sftp.rename(temporary, target)
    except SftpError as error:
        if error.code != FAILURE or not replace or b"posix-rename@openssh.com" in sftp.extensions:
            raise operation_error(error, prefix) from None
        # a server without posix-rename refuses to replace a file: there is no atomic way
        await sftp.remove(target)
        await sftp.rename(temporary, target)


@asynccontextmanager
async def stall_timeout() -> AsyncIterator[None]:
    """For steps that end soon where all is well: Upstream when they take more than STALL seconds."""
    try:
        async with asyncio.timeout(STALL_TIMEOUT):
            yield
    except TimeoutError:
        raise Upstream("The cluster's file system stopped answering") from None


async def within_stall_timeout(future: asyncio.Future[T]) -> T:
    """What a request that is under way brings; Upstream when nothing comes for STALL seconds."""
    if future.done():
        return future.result()
    async with stall_timeout():
        return await future
