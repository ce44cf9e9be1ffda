"""Whole files over SFTP in bounded memory: downloads read ahead, uploads land by atomic rename beside their target."""

from __future__ import annotations

import asyncio
import secrets
import stat as stat_bits
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from flamecrest.server.errors import Conflict, Invalid, Upstream
from flamecrest.server.files import Stat
from flamecrest.server.ssh.sftp_packets import (
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
    from collections.abc import AsyncIterator

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.sftp import Sftp

T = TypeVar("T")

BUFFERED = 4 * 1024 * 1024  # bytes under way at once for one transfer
UNSIZED = 1024 * 1024  # bytes that are read of a file which says it is empty and is not (/proc)
STALL = 30.0  # seconds without any progress after which a transfer is given up


def regular(words: str, attrs: Attrs) -> Stat:
    """The Stat of a regular file; Invalid for anything else: opening a FIFO would block the whole channel."""
    mode = attrs.mode or 0
    if stat_bits.S_ISDIR(mode):
        raise Invalid(f"{words}: Is a directory")
    if not stat_bits.S_ISREG(mode):
        raise Invalid(f"{words}: Not a regular file")
    return Stat(mode, attrs.uid or 0, attrs.gid or 0, attrs.size or 0, attrs.atime or 0, attrs.mtime or 0)


class OpenDownload:
    """The Reader port: an open file whose first bytes are asked for already."""

    def __init__(self, sftp: Sftp, handle: bytes, found: Stat) -> None:
        self._sftp = sftp
        self._handle = handle
        self.stat = found
        self._first = b""

    async def prime(self, deadline: Deadline) -> None:
        """Read the first bytes, so that a small file is whole before anything is answered."""
        size = self.stat.size
        async with deadline.enforce("Reading the file"):
            first = await self._sftp.read(self._handle, 0, min(size, self._sftp.read_size) or self._sftp.read_size)
            if size == 0 and first:
                first = await self._unsized(first)
        self._first = first
        if len(first) != size and (size == 0 or (size <= self._sftp.read_size and not first)):
            found = self.stat
            self.stat = Stat(found.mode, found.uid, found.gid, len(first), found.atime, found.mtime)

    async def _unsized(self, data: bytes) -> bytes:
        while len(data) <= UNSIZED:
            more = await self._sftp.read(self._handle, len(data), self._sftp.read_size)
            if not more:
                return data
            data += more
        raise Invalid("The file has no size and does not end")

    async def chunks(self) -> AsyncIterator[bytes]:
        """The file from its start to the size it had; Upstream when it ends before."""
        if self._first:
            yield self._first
        size = self.stat.size
        asked: deque[tuple[int, int, asyncio.Future[bytes]]] = deque()
        position = sent = len(self._first)
        step = self._sftp.read_size
        try:
            while sent < size:
                # the window opens with the file: a small one costs no memory, a big one is read well ahead
                while position < size and len(asked) * step < min(BUFFERED, max(step, sent)):
                    length = min(step, size - position)
                    asked.append((position, length, self._sftp.read(self._handle, position, length)))
                    position += length
                offset, length, future = asked.popleft()
                data = await _progress(future)
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


async def upload(sftp: Sftp, path: bytes, words: str, chunks: AsyncIterator[bytes], deadline: Deadline) -> None:
    """Write a file beside its target and rename it over; on any failure the target is as it was."""
    async with deadline.enforce("Opening the file"):
        target, existing = await _target(sftp, path, words)
        folder = target.rpartition(b"/")[0]
        temporary = folder + b"/.flamecrest-upload-" + secrets.token_hex(8).encode()
        attrs = NO_ATTRS if existing is None else Attrs(mode=stat_bits.S_IMODE(existing.mode or 0) | 0o200)
        try:
            handle = await sftp.open_file(temporary, FLAG_WRITE | FLAG_CREATE | FLAG_EXCLUSIVE, attrs)
        except SftpError as error:
            if error.code == FAILURE:
                raise Upstream(
                    f"{words}: the file could not be created (disk full, quota, or a read-only file system)"
                ) from None
            raise error.explained(words) from None
    try:
        await _write(sftp, handle, words, chunks)
        if existing is not None:
            await _inherit(sftp, handle, existing)
        async with asyncio.timeout(STALL):
            await sftp.fsync(handle)
            sftp.forget(sftp.close_handle(handle))
            await _rename(sftp, temporary, target, words, replace=existing is not None)
    except BaseException:
        # sent without waiting: this may run because the caller has gone
        sftp.forget(sftp.close_handle(handle))
        sftp.forget(sftp.remove(temporary))
        raise


async def _target(sftp: Sftp, path: bytes, words: str) -> tuple[bytes, Attrs | None]:
    """The path to replace (a link's target instead of the link) and what is there now."""
    itself, followed = await asyncio.gather(sftp.lstat(path), sftp.stat(path), return_exceptions=True)
    if isinstance(itself, SftpError):
        if itself.code == NO_SUCH_FILE:
            return path, None
        raise itself.explained(words)
    if isinstance(itself, BaseException):
        raise itself
    if isinstance(followed, SftpError):
        raise Conflict(f"{words}: the target is a symbolic link that leads nowhere")
    if isinstance(followed, BaseException):
        raise followed
    regular(words, followed)
    if stat_bits.S_ISLNK(itself.mode or 0):
        path = (await sftp.realpath(path))[0].name
    return path, followed


async def _write(sftp: Sftp, handle: bytes, words: str, chunks: AsyncIterator[bytes]) -> None:
    under_way: deque[tuple[int, asyncio.Future[None]]] = deque()
    offset = pending = 0
    try:
        async for chunk in chunks:
            for start in range(0, len(chunk), sftp.write_size):
                piece = bytes(chunk[start : start + sftp.write_size])
                while pending + len(piece) > BUFFERED and under_way:
                    size, future = under_way.popleft()
                    await _progress(future)
                    pending -= size
                await sftp.room()
                under_way.append((len(piece), sftp.write(handle, offset, piece)))
                offset += len(piece)
                pending += len(piece)
        while under_way:
            await _progress(under_way.popleft()[1])
    except SftpError as error:
        if error.code == FAILURE:
            raise Upstream(f"{words}: writing failed (disk full or quota exceeded?)", detail=error.message) from None
        raise error.explained(words) from None
    finally:
        for _, future in under_way:
            sftp.forget(future)


async def _inherit(sftp: Sftp, handle: bytes, existing: Attrs) -> None:
    """Give the new file the old one's mode, and its group where that is allowed."""
    mine = await sftp.fstat(handle)
    if mine.uid is not None and existing.gid is not None and mine.gid != existing.gid:
        with suppress(SftpError):
            await sftp.fsetstat(handle, Attrs(uid=mine.uid, gid=existing.gid))
    # after the group: changing that takes setuid and setgid bits away
    await sftp.fsetstat(handle, Attrs(mode=stat_bits.S_IMODE(existing.mode or 0)))


async def _rename(sftp: Sftp, temporary: bytes, target: bytes, words: str, *, replace: bool) -> None:
    try:
        await sftp.rename(temporary, target)
    except SftpError as error:
        if error.code != FAILURE or not replace or b"posix-rename@openssh.com" in sftp.extensions:
            raise error.explained(words) from None
        # a server without posix-rename refuses to rename over a file: there is no atomic way
        await sftp.remove(target)
        await sftp.rename(temporary, target)


async def _progress(future: asyncio.Future[T]) -> T:
    try:
        async with asyncio.timeout(STALL):
            return await future
    except TimeoutError:
        raise Upstream("The cluster's file system stopped answering") from None
