"""Files on their way in over SFTP, in bounded memory: written beside their target, and landed by an atomic rename."""

from __future__ import annotations

import asyncio
import secrets
import stat as stat_bits
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from flamecrest.server.errors import Conflict, Invalid, Unmet, Upstream
from flamecrest.server.files import PLAIN, Landed, Landing, Stat
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
    from collections.abc import AsyncIterator, Awaitable, Callable

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.sftp import Sftp

T = TypeVar("T")

BUFFERED = 4 * 1024 * 1024  # bytes under way at once for one transfer
STALL = 30.0  # seconds without any progress after which a transfer is given up


def regular(words: str, attrs: Attrs) -> Stat:
    """The Stat of a regular file; Invalid for anything else: opening a FIFO would block the whole channel."""
    mode = attrs.mode or 0
    if stat_bits.S_ISDIR(mode):
        raise Invalid(f"{words}: Is a directory")
    if not stat_bits.S_ISREG(mode):
        raise Invalid(f"{words}: Not a regular file")
    return Stat(mode, attrs.uid or 0, attrs.gid or 0, attrs.size or 0, attrs.atime or 0, attrs.mtime or 0)


async def upload(
    sftp: Sftp,
    path: bytes,
    words: str,
    chunks: AsyncIterator[bytes],
    deadline: Deadline,
    landing: Landing = PLAIN,
    *,
    look: Callable[[bytes], Awaitable[Stat | None]],
    make_folder: Callable[[], Awaitable[None]],
) -> Landed:
    """Write a file beside its target and rename it over; on any failure the target is as it was.

    `look` asks for all attributes of a path, with inode and nanoseconds; `make_folder` makes what is above the target.
    """

    async def admit() -> None:
        if landing.admit is not None:
            landing.admit(await look(target))

    async with deadline.enforce("Opening the file"):
        try:
            target, existing = await find_target(sftp, path, words)
        except Conflict:  # a link that leads nowhere is there, too
            if landing.new:
                raise Unmet(f"{words}: File exists") from None
            raise
        if landing.new and existing is not None:
            raise Unmet(f"{words}: File exists")
        await admit()
        if landing.parents and existing is None:
            await make_folder()
        temporary = target.rpartition(b"/")[0] + b"/.flamecrest-upload-" + secrets.token_hex(8).encode()
        handle = await _create(sftp, temporary, words, existing, landing)
    try:
        await _write(sftp, handle, words, chunks)
        async with asyncio.timeout(STALL):
            await _dress(sftp, handle, existing, landing)
            await sftp.fsync(handle)
            sftp.forget(sftp.close_handle(handle))
            found = await look(temporary) if landing.report else None
            await admit()
            await _land(sftp, temporary, target, words, new=landing.new, replace=existing is not None)
    except BaseException:
        # sent without waiting: this may run because the caller has gone
        sftp.forget(sftp.close_handle(handle))
        sftp.forget(sftp.remove(temporary))
        raise
    return Landed(existing is None, found)


async def _create(sftp: Sftp, temporary: bytes, words: str, existing: Attrs | None, landing: Landing) -> bytes:
    """Open a new file that nobody may read who may not read what it becomes."""
    mode = landing.mode
    if mode is None and existing is not None:
        mode = stat_bits.S_IMODE(existing.mode or 0)
    attrs = NO_ATTRS if mode is None else Attrs(mode=mode & 0o777 | 0o200)
    try:
        return await sftp.open_file(temporary, FLAG_WRITE | FLAG_CREATE | FLAG_EXCLUSIVE, attrs)
    except SftpError as error:
        if error.code == FAILURE:
            raise Upstream(
                f"{words}: the file could not be created (disk full, quota, or a read-only file system)"
            ) from None
        raise error.explained(words) from None


async def _dress(sftp: Sftp, handle: bytes, existing: Attrs | None, landing: Landing) -> None:
    """Give the new file its group, mode and time."""
    if existing is not None:
        await inherit(sftp, handle, existing)
    if landing.mode is not None:
        await sftp.fsetstat(handle, Attrs(mode=landing.mode))
    if landing.mtime is not None:  # last: everything else changes it
        await sftp.fsetstat(handle, Attrs(atime=landing.mtime, mtime=landing.mtime))


async def _land(sftp: Sftp, temporary: bytes, target: bytes, words: str, *, new: bool, replace: bool) -> None:
    """Rename into place; with `new` by the rename that refuses to replace (OpenSSH: a hard link, so nothing races)."""
    if not new:
        await rename_over(sftp, temporary, target, words, replace=replace)
        return
    try:
        await sftp.rename_new(temporary, target)
    except SftpError as error:
        if error.code == FAILURE:
            with suppress(SftpError):
                await sftp.lstat(target)
                raise Unmet(f"{words}: File exists") from None
        raise error.explained(words) from None


async def find_target(sftp: Sftp, path: bytes, words: str) -> tuple[bytes, Attrs | None]:
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
                    await progress(future)
                    pending -= size
                await sftp.room()
                under_way.append((len(piece), sftp.write(handle, offset, piece)))
                offset += len(piece)
                pending += len(piece)
        while under_way:
            await progress(under_way.popleft()[1])
    except SftpError as error:
        if error.code == FAILURE:
            raise Upstream(f"{words}: writing failed (disk full or quota exceeded?)", detail=error.message) from None
        raise error.explained(words) from None
    finally:
        for _, future in under_way:
            sftp.forget(future)


async def inherit(sftp: Sftp, handle: bytes, existing: Attrs) -> None:
    """Give the new file the old one's mode, and its group where that is allowed."""
    mine = await sftp.fstat(handle)
    if mine.uid is not None and existing.gid is not None and mine.gid != existing.gid:
        with suppress(SftpError):
            await sftp.fsetstat(handle, Attrs(uid=mine.uid, gid=existing.gid))
    # after the group: changing that takes setuid and setgid bits away
    await sftp.fsetstat(handle, Attrs(mode=stat_bits.S_IMODE(existing.mode or 0)))


async def rename_over(sftp: Sftp, temporary: bytes, target: bytes, words: str, *, replace: bool) -> None:
    try:
        await sftp.rename(temporary, target)
    except SftpError as error:
        if error.code != FAILURE or not replace or b"posix-rename@openssh.com" in sftp.extensions:
            raise error.explained(words) from None
        # a server without posix-rename refuses to rename over a file: there is no atomic way
        await sftp.remove(target)
        await sftp.rename(temporary, target)


async def progress(future: asyncio.Future[T]) -> T:
    """What a request that is under way brings; Upstream when nothing comes for STALL seconds."""
    if future.done():
        return future.result()
    try:
        async with asyncio.timeout(STALL):
            return await future
    except TimeoutError:
        raise Upstream("The cluster's file system stopped answering") from None
