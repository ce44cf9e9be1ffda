"""Put a complete temporary file in the place of its target.

The agent renames it where that loses nothing. Else its content is copied into the existing file, which keeps its owner,
links, rights and attributes; it is not atomic then.
"""

from __future__ import annotations

import asyncio
import stat as stat_bits
import time
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError, PreconditionFailed, Upstream
from flamecrest.server.files.remote.errors import operation_error
from flamecrest.server.files.remote.replacement import questions
from flamecrest.server.files.remote.replacement.opening import open_itself, opened_itself, replaced
from flamecrest.server.files.remote.sweeping import sweep
from flamecrest.server.files.remote.writing import (
    IN_FLIGHT_BYTES,
    stall_timeout,
)
from flamecrest.server.ssh.channels.sftp_packets import FAILURE, FLAG_READ, FLAG_WRITE, Attrs, SftpError
from flamecrest.server.ssh.errors import StatError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from flamecrest.server.files.remote.replacement.questions import Made, Target
    from flamecrest.server.files.values import Stat, WriteOptions
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.port import Session

T = TypeVar("T")
COPIED_AT_ONCE: Final = 16 * 1024 * 1024  # bytes that the server copies by one request; others wait for it


class TargetDamaged(Upstream):
    """Writing into the existing file failed halfway. The temporary file still holds the whole new content."""


class TargetChanged(Exception):
    """The target is not the known file any more; nothing was done."""


async def land(
    session: Session,
    sftp: Sftp,
    temporary: Made,
    target: Target,
    options: WriteOptions,
    prefix: str,
    *,
    known: bytes = b"",
    opened: bytes | None = None,
) -> Stat | None:
    """Replace `target` by the file `temporary`, or write its content into the target; `temporary` is gone afterwards.

    `opened` is a handle of it to read from, which stays open. Raises Conflict if another file has taken its path.

    Returns the attributes of the file if they are known without asking for them. Raises PreconditionFailed if the file
    must be new and is not, TargetDamaged, and the reasons of a refusal, after which the target is unchanged. With
    `known` (questions.known) raises TargetChanged for another file, as far as there is an agent.
    """
    if options.exclusive:
        known = questions.NEW
    if temporary.path.rpartition(b"/")[0] == target.path.rpartition(b"/")[0]:
        try:
            question = questions.replace(temporary, target.path, options.mode, known)
            done = await session.ask(question, Deadline.after(session.stall_timeout))
        except StatError as error:
            raise operation_error(error, prefix) from None
        if done is not None and done.swapped:
            raise replaced(temporary.path, prefix)
        if done is not None and done.changed:
            raise PreconditionFailed(f"{prefix}: File exists") if options.exclusive else TargetChanged
        if done is not None and done.stat is not None:
            return done.stat
    sweep(sftp, temporary.path)  # else the agent does it
    if known == questions.NEW:
        await _rename_new(sftp, temporary, target.path, prefix)
    elif target.existing is None:
        await _rename_to_new(sftp, temporary, target.path, prefix)
    else:
        await through_cancellation(_write_into(sftp, temporary, target.path, options, prefix, opened))
    return None


async def _rename_new(sftp: Sftp, temporary: Made, target: bytes, prefix: str) -> None:
    """Rename by the request that refuses to replace a file (OpenSSH makes a hard link: no race)."""
    try:
        await _verified(sftp, sftp.rename_new(temporary.path, target), temporary, target, prefix)
    except SftpError as error:
        if error.code == FAILURE:
            with suppress(SftpError):
                await sftp.lstat(target)
                raise PreconditionFailed(f"{prefix}: File exists") from None
        raise operation_error(error, prefix) from None


async def _rename_to_new(sftp: Sftp, temporary: Made, target: bytes, prefix: str) -> None:
    try:
        await _verified(sftp, sftp.rename(temporary.path, target), temporary, target, prefix)
    except SftpError as error:
        raise operation_error(error, prefix) from None


async def _verified(sftp: Sftp, renaming: asyncio.Future[None], temporary: Made, target: bytes, prefix: str) -> None:
    """Wait for a rename. Raises Conflict if it has moved a link or another user's file: SFTP renames by path only."""
    looking = sftp.lstat(target)  # is answered after the rename
    sftp.forget(looking)
    await renaming
    with suppress(SftpError):
        there = await looking
        if there.uid != temporary.uid or not stat_bits.S_ISREG(there.mode or 0):
            raise replaced(target, prefix)


async def _write_into(
    sftp: Sftp, temporary: Made, target: bytes, options: WriteOptions, prefix: str, opened: bytes | None
) -> None:
    """Copy the content of a temporary file into an existing one, and remove the temporary file."""
    try:
        async with AsyncExitStack() as stack:
            if opened is None:
                reading = opened_itself(sftp, temporary.path, FLAG_READ, prefix, temporary)
                opened = (await stack.enter_async_context(reading)).handle
            await _copy_into(sftp, opened, temporary, target, options, prefix)
    except SftpError as error:
        raise operation_error(error, prefix) from None
    with suppress(SftpError):
        await sftp.remove(temporary.path)


async def _copy_into(
    sftp: Sftp, source: bytes, temporary: Made, target: bytes, options: WriteOptions, prefix: str
) -> None:
    handle, old = await open_itself(sftp, target, FLAG_WRITE, prefix)
    try:
        if options.mode is not None or options.mtime is not None:  # only the owner may: before any change
            async with stall_timeout(sftp):
                await sftp.fsetstat(handle, Attrs(mode=stat_bits.S_IMODE(old.mode or 0)))
        await _copy_over(sftp, source, handle, (old.size or 0, temporary.size), prefix, temporary.path)
        await _attributes(sftp, handle, options)
    except BaseException:
        sftp.forget(sftp.close_handle(handle))
        raise
    async with stall_timeout(sftp):
        await sftp.close_handle(handle)  # network file systems report a full disk here


async def _copy_over(
    sftp: Sftp, source: bytes, handle: bytes, sizes: tuple[int, int], prefix: str, temporary: bytes
) -> None:
    """Copy what is longer than the old content first: where the disk is full the old content can be kept."""
    old, new = sizes
    try:
        await copy_range(sftp, source, handle, old, new)
    except (SftpError, GatewayError) as error:
        with suppress(SftpError, GatewayError):
            await sftp.fsetstat(handle, Attrs(size=old))
        if isinstance(error, SftpError):
            full = f"{prefix}: writing failed (disk full or quota exceeded?)"
            raise Upstream(full, detail=error.message) from None
        raise
    try:
        await copy_range(sftp, source, handle, 0, min(old, new))
        if new < old:
            async with stall_timeout(sftp):
                await sftp.fsetstat(handle, Attrs(size=new))
    except (SftpError, GatewayError) as error:
        kept = temporary.decode("utf-8", "replace")
        raise TargetDamaged(
            f"{prefix}: writing into the file failed; its content is damaged, and the new one is in '{kept}'",
            detail=str(error),
        ) from None


async def copy_range(sftp: Sftp, source: bytes, handle: bytes, start: int, end: int) -> None:
    """Copy a range between two open files: on the server if it can, else through the gateway."""
    if b"copy-data" in sftp.extensions:
        for at in range(start, end, COPIED_AT_ONCE):
            async with stall_timeout(sftp):
                await sftp.copy_data(source, at, min(COPIED_AT_ONCE, end - at), handle)
        return
    size = min(sftp.read_size, sftp.write_size)
    for begin in range(start, end, IN_FLIGHT_BYTES):
        places = range(begin, min(begin + IN_FLIGHT_BYTES, end), size)
        async with stall_timeout(sftp):
            pieces = await asyncio.gather(*(sftp.read(source, at, min(size, end - at)) for at in places))
            if any(len(piece) != min(size, end - at) for at, piece in zip(places, pieces, strict=True)):
                raise Upstream("The temporary file has changed while it was copied")
            await asyncio.gather(*(sftp.write(handle, at, piece) for at, piece in zip(places, pieces, strict=True)))


async def _attributes(sftp: Sftp, handle: bytes, options: WriteOptions) -> None:
    """Set the mode and time that the caller has asked for, and have the file written to disk."""
    pending = [sftp.fsetstat(handle, Attrs(mode=options.mode))] if options.mode is not None else []
    if options.mtime is not None:  # last, as every other change sets the time
        pending.append(sftp.fsetstat(handle, Attrs(atime=int(time.time()), mtime=options.mtime)))
    if options.sync:
        pending.append(sftp.fsync(handle))
    async with stall_timeout(sftp):
        await asyncio.gather(*pending)


async def through_cancellation(work: Coroutine[Any, Any, T]) -> T:
    """Finish the work even if the caller is cancelled: a file half written, or not recorded, would be left."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # the caller has gone
        raise
