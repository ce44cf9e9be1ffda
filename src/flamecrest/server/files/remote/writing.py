"""Files on their way in over SFTP, in bounded memory: written beside their target, and landed by an atomic rename."""

from __future__ import annotations

import asyncio
import secrets
import stat as stat_bits
from collections import deque
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from flamecrest.server.errors import Conflict, Invalid, PreconditionFailed, Upstream
from flamecrest.server.files.values import DEFAULT_WRITE, Stat, WriteOptions, WriteResult
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
from flamecrest.server.ssh.errors import Lost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.channels.sftp import Sftp

T = TypeVar("T")

IN_FLIGHT_BYTES = 4 * 1024 * 1024  # bytes under way at once for one transfer
STALL_TIMEOUT = 30.0  # seconds without any progress after which a transfer is given up


def require_regular(words: str, attrs: Attrs) -> Stat:
    """The Stat of a regular file; Invalid for anything else: opening a FIFO would block the whole channel."""
    mode = attrs.mode or 0
    if stat_bits.S_ISDIR(mode):
        raise Invalid(f"{words}: Is a directory")
    if not stat_bits.S_ISREG(mode):
        raise Invalid(f"{words}: Not a regular file")
    return Stat(mode, attrs.uid or 0, attrs.gid or 0, attrs.size or 0, attrs.atime or 0, attrs.mtime or 0)


async def write_file(
    sftp: Sftp,
    path: bytes,
    words: str,
    chunks: AsyncIterator[bytes],
    deadline: Deadline,
    landing: WriteOptions = DEFAULT_WRITE,
    *,
    look: Callable[[bytes], Awaitable[Stat | None]],
    make_folder: Callable[[], Awaitable[None]],
    sweep: Callable[[bytes], Awaitable[None]],
) -> WriteResult:
    """Write a file beside its target and rename it over; on any failure the target is as it was.

    `look` asks for all attributes of a path, with inode and nanoseconds; `make_folder` makes what is above the target;
    `sweep` removes a file over another connection.
    """

    async def admit() -> None:
        if landing.admit is not None:
            landing.admit(await look(target))

    async with deadline.enforce("Opening the file"):
        try:
            target, existing = await resolve_target(sftp, path, words)
        except Conflict:  # a link that leads nowhere is there, too
            if landing.new:
                raise PreconditionFailed(f"{words}: File exists") from None
            raise
        if landing.new and existing is not None:
            raise PreconditionFailed(f"{words}: File exists")
        await admit()
        if landing.parents and existing is None:
            await make_folder()
        temporary = temporary_beside(target)
        handle = await _create(sftp, temporary, words, existing, landing)
    new = _TemporaryFile(sftp, handle, temporary, words)
    try:
        await new.write(chunks)
        await new.finish(existing, landing)
        async with stall_timeout():
            found = await look(temporary) if landing.report else None
            await admit()
            await _rename_into_place(sftp, temporary, target, words, new=landing.new, replace=existing is not None)
    except BaseException as error:
        new.drop()
        if isinstance(error, Lost):  # what was sent last did not arrive
            await sweep(temporary)
        raise
    return WriteResult(existing is None, found)


def temporary_beside(path: bytes) -> bytes:
    """A name for an upload that has not landed yet."""
    return path.rpartition(b"/")[0] + b"/.flamecrest-upload-" + secrets.token_hex(8).encode()


class _TemporaryFile:
    """A new file beside its target: written, given its attributes and closed, or removed."""

    def __init__(self, sftp: Sftp, handle: bytes, path: bytes, words: str) -> None:
        self._sftp = sftp
        self._handle = handle
        self._path = path
        self._words = words
        self._closed = False
        self._writes: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def write(self, chunks: AsyncIterator[bytes]) -> None:
        """Send all there is; the last writes are still under way then."""
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

    async def finish(self, existing: Attrs | None, landing: WriteOptions) -> None:
        """Give the file its mode, time and group, and close it.

        Everything is asked for behind the last bytes, without waiting for them: a small file takes one round trip.
        """
        sftp, handle = self._sftp, self._handle
        mode = landing.mode
        if mode is None and existing is not None:
            mode = stat_bits.S_IMODE(existing.mode or 0)
        later = [Attrs(mode=mode)] if mode is not None else []
        if landing.mtime is not None:  # last: everything else changes it
            later.append(Attrs(atime=landing.mtime, mtime=landing.mtime))
        mine = sftp.fstat(handle) if existing is not None else None
        asked = [sftp.fsetstat(handle, attrs) for attrs in later]
        if landing.sync:
            asked.append(sftp.fsync(handle))
        self._closed = True
        closing = sftp.close_handle(handle)  # file systems on the network say here that the disk is full
        try:
            while self._writes:
                await self._written()
            async with stall_timeout():
                if mine is not None and existing is not None:
                    await self._take_group(await mine, existing, later)
                for future in asked:
                    await future
                await self._checked(closing)
        finally:
            for future in (*asked, closing, *((mine,) if mine is not None else ())):
                sftp.forget(future)

    async def _take_group(self, mine: Attrs, existing: Attrs, later: Sequence[Attrs]) -> None:
        """Give the new file the old one's group where that is allowed, and again what a change of it takes away."""
        group = _other_group(mine, existing)
        if group is None:
            return
        with suppress(SftpError):
            await self._sftp.setstat(self._path, group)
        for attrs in later:
            await self._sftp.setstat(self._path, attrs)

    async def _written(self) -> None:
        await self._checked(self._writes.popleft()[1])

    async def _checked(self, future: asyncio.Future[None]) -> None:
        try:
            await within_stall_timeout(future)
        except SftpError as error:
            if error.code == FAILURE:
                full = f"{self._words}: writing failed (disk full or quota exceeded?)"
                raise Upstream(full, detail=error.message) from None
            raise error.explained(self._words) from None

    def drop(self) -> None:
        """Remove it. Sent without waiting: this may run because the caller has gone."""
        for _, future in self._writes:
            self._sftp.forget(future)
        if not self._closed:  # never twice: the server may have given the handle to somebody else's file
            self._sftp.forget(self._sftp.close_handle(self._handle))
        self._sftp.forget(self._sftp.remove(self._path))


class Rechunker:
    """Chunks of any size, made into pieces of one size without a copy: each costs the server a system call or two."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._parts: list[bytes | memoryview] = []
        self._missing = size

    def add(self, chunk: bytes) -> Iterator[tuple[int, list[bytes | memoryview]]]:
        """The pieces that are whole with this chunk: the size and the parts of each."""
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
        """The last piece, if there is any."""
        if self._parts:
            yield self._size - self._missing, self._parts


async def _create(sftp: Sftp, temporary: bytes, words: str, existing: Attrs | None, landing: WriteOptions) -> bytes:
    """Open a new file that nobody may read who may not read what it becomes."""
    mode = landing.mode
    if mode is None and existing is not None:
        mode = stat_bits.S_IMODE(existing.mode or 0)
    attrs = NO_ATTRS if mode is None else Attrs(mode=mode & 0o777 | 0o200)
    try:
        return await sftp.open_file(temporary, FLAG_WRITE | FLAG_CREATE | FLAG_EXCLUSIVE, attrs)
    except asyncio.CancelledError:
        sftp.forget(sftp.remove(temporary))  # answered after the opening, which is under way
        raise
    except SftpError as error:
        if error.code == FAILURE:
            raise Upstream(
                f"{words}: the file could not be created (disk full, quota, or a read-only file system)"
            ) from None
        raise error.explained(words) from None


async def _rename_into_place(
    sftp: Sftp, temporary: bytes, target: bytes, words: str, *, new: bool, replace: bool
) -> None:
    """Rename into place; with `new` by the rename that refuses to replace (OpenSSH: a hard link, so nothing races)."""
    if not new:
        await rename_replacing(sftp, temporary, target, words, replace=replace)
        return
    try:
        await sftp.rename_new(temporary, target)
    except SftpError as error:
        if error.code == FAILURE:
            with suppress(SftpError):
                await sftp.lstat(target)
                raise PreconditionFailed(f"{words}: File exists") from None
        raise error.explained(words) from None


async def resolve_target(sftp: Sftp, path: bytes, words: str) -> tuple[bytes, Attrs | None]:
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
    require_regular(words, followed)
    if stat_bits.S_ISLNK(itself.mode or 0):
        path = (await sftp.realpath(path))[0].name
    return path, followed


async def copy_mode_and_group(sftp: Sftp, handle: bytes, existing: Attrs) -> None:
    """Give the new file the old one's mode, and its group where that is allowed."""
    group = _other_group(await sftp.fstat(handle), existing)
    if group is not None:
        with suppress(SftpError):
            await sftp.fsetstat(handle, group)
    # after the group: changing that takes setuid and setgid bits away
    await sftp.fsetstat(handle, Attrs(mode=stat_bits.S_IMODE(existing.mode or 0)))


def _other_group(mine: Attrs, existing: Attrs) -> Attrs | None:
    """What gives a new file the group of the one it replaces; None where it has that or nobody can tell."""
    if mine.uid is None or existing.gid is None or mine.gid == existing.gid:
        return None
    return Attrs(uid=mine.uid, gid=existing.gid)


async def rename_replacing(sftp: Sftp, temporary: bytes, target: bytes, words: str, *, replace: bool) -> None:
    try:
        await sftp.rename(temporary, target)
    except SftpError as error:
        if error.code != FAILURE or not replace or b"posix-rename@openssh.com" in sftp.extensions:
            raise error.explained(words) from None
        # a server without posix-rename refuses to rename over a file: there is no atomic way
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
