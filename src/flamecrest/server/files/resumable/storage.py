"""The files of resumable uploads over SFTP: create, read, fence off from an earlier writer, remove, sweep."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import GatewayError, Gone, Upstream
from flamecrest.server.files.remote.errors import operation_error
from flamecrest.server.files.remote.replacement.landing import COPIED_AT_ONCE, copy_range
from flamecrest.server.files.remote.replacement.opening import opened_itself
from flamecrest.server.files.remote.writing import within_stall_timeout
from flamecrest.server.files.resumable.append import Outstanding
from flamecrest.server.files.resumable.lock import UploadLock
from flamecrest.server.files.resumable.state import MAX_STATE, REMOVED, UploadFiles, UploadState, expired
from flamecrest.server.ssh.channels.sftp_packets import (
    FAILURE,
    FLAG_CREATE,
    FLAG_EXCLUSIVE,
    FLAG_READ,
    FLAG_WRITE,
    NO_ATTRS,
    NO_SUCH_FILE,
    Attrs,
    SftpError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flamecrest.server.ssh.channels.sftp import Sftp

SWEEP = 32  # READDIR answers that are searched for expired uploads
_EXCLUSIVE: Final = FLAG_WRITE | FLAG_CREATE | FLAG_EXCLUSIVE
_MAX_WRITERS: Final = 1000
# the requests of this gateway that have not recorded their end, by data file, whose name is random
_writers: dict[bytes, Outstanding] = {}


def writer_begins(data: bytes, outstanding: Outstanding) -> None:
    """Remember a request that writes to a data file. One that is forgotten counts as one of another gateway."""
    while len(_writers) >= _MAX_WRITERS:
        del _writers[next(iter(_writers))]
    _writers[data] = outstanding


def writer_ended(data: bytes) -> None:
    """Forget the request: it has recorded its end."""
    _writers.pop(data, None)


async def settled_writer(data: bytes, seconds: float) -> bool:
    """Wait for an earlier request of this gateway that is about to end. Raises Locked after so many seconds.

    False: there is none.
    """
    before = _writers.get(data)
    return before is not None and await before.settled(seconds)


async def stop_writer(names: UploadFiles, state: UploadState) -> bool:
    """Stop an earlier request of this gateway. Whether nobody writes to the data and state files any more."""
    if not state.writing:
        return True
    before = _writers.pop(names.data, None)
    return before is not None and await before.stop()


async def fence(
    sftp: Sftp,
    names: UploadFiles,
    state: UploadState,
    lock: UploadLock,
    source: bytes,
    identify: Callable[[bytes], Awaitable[int]],
) -> None:
    """Put data and state files that no earlier request can write to in the place of those of the lock's owner.

    A gateway that was suspended within a request may continue at any time, so what it wrote is copied from the open
    file `source` to a data file of another name, and its own is removed. `identify` returns the identity of a file.
    """
    fresh = replace(state, part=secrets.token_hex(8), writing=False)
    new = names.of(fresh)
    staged = new.data + b".json"
    try:
        async with sftp.handle(sftp.open_file(new.data, _EXCLUSIVE, Attrs(mode=0o600))) as handle:
            for at in range(0, state.offset, COPIED_AT_ONCE):
                await lock.beat()
                await copy_range(sftp, source, handle, at, min(at + COPIED_AT_ONCE, state.offset))
            await within_stall_timeout(sftp, sftp.fsync(handle))
            fresh = replace(fresh, file=await identify(new.data))
        async with sftp.handle(sftp.open_file(staged, _EXCLUSIVE, Attrs(mode=0o600))) as handle:
            await within_stall_timeout(sftp, sftp.write(handle, 0, fresh.packed()))
            await within_stall_timeout(sftp, sftp.fsync(handle))
        await lock.beat()
        if b"posix-rename@openssh.com" not in sftp.extensions:
            await within_stall_timeout(sftp, sftp.remove(names.state))
        await within_stall_timeout(sftp, sftp.rename(staged, names.state))
    except BaseException:
        sftp.forget(sftp.remove(new.data))
        sftp.forget(sftp.remove(staged))
        raise
    sftp.forget(sftp.remove(names.data))


def explained(error: SftpError, path: str) -> GatewayError:
    if error.code == FAILURE:
        reason = "the cluster refused (disk full, quota, or a read-only file system)"
        return Upstream(f"upload: {path}: {reason}", detail=error.message)
    return operation_error(error, f"upload: {path}")


async def begin(sftp: Sftp, names: UploadFiles, state: UploadState, path: str, *, new: bool) -> None:
    """Create the files of an upload, accessible to their owner only."""
    private = Attrs(mode=0o600)
    # Who opened it while it is empty could read what comes. Without the mode of a new file it shows that at first.
    attrs = NO_ATTRS if new and not state.mode else private
    try:
        async with sftp.handle(sftp.open_file(names.data, _EXCLUSIVE, attrs)) as handle:
            state = replace(state, mode=state.mode or (await sftp.fstat(handle)).mode or 0)
            await sftp.fsetstat(handle, private)
        async with sftp.handle(sftp.open_file(names.state, _EXCLUSIVE, private)) as handle:
            await sftp.write(handle, 0, state.packed())
            await sftp.fsync(handle)
    except BaseException as error:
        sftp.forget(sftp.remove(names.data))
        sftp.forget(sftp.remove(names.state))
        if isinstance(error, SftpError):
            raise explained(error, path) from None
        raise


async def read(sftp: Sftp, names: UploadFiles) -> UploadState | None:
    """Return the state of an upload; None if there is none. Raises Gone if it was removed after its completion.

    What changes files needs the state of `opened_state`.
    """
    try:
        async with opened_itself(sftp, names.state, FLAG_READ, "upload") as (handle, _):
            return await _parsed(sftp, handle)
    except SftpError as error:
        if error.code == NO_SUCH_FILE:
            return None
        raise


@asynccontextmanager
async def opened_state(sftp: Sftp, names: UploadFiles, lock: UploadLock) -> AsyncIterator[tuple[bytes, UploadState]]:
    """The open state file and the state in it, for the owner of the lock. Raises Denied for a file of another user."""
    async with lock.opened(sftp, names.state, FLAG_READ | FLAG_WRITE) as (handle, _):
        yield handle, await _parsed(sftp, handle)


async def _parsed(sftp: Sftp, handle: bytes) -> UploadState:
    data = await within_stall_timeout(sftp, sftp.read(handle, 0, MAX_STATE))
    if data == REMOVED:
        raise Gone("The upload was removed")
    return UploadState.parse(data)


async def mark_removed(sftp: Sftp, names: UploadFiles) -> None:
    """Put a mark in the place of the state file, which is removed when the upload expires."""
    async with sftp.handle(sftp.open_file(names.state, _EXCLUSIVE, Attrs(mode=0o600))) as handle:
        await sftp.write(handle, 0, REMOVED)


async def discard(sftp: Sftp, names: UploadFiles) -> None:
    """Remove the files of an upload; missing ones are ignored."""
    for future in (sftp.remove(names.state), sftp.remove(names.data), sftp.remove(names.lock)):
        with suppress(SftpError):
            await future


async def sweep(sftp: Sftp, folder: bytes) -> None:
    """Remove expired uploads among the first entries of a directory; a large one is not searched to its end."""
    now = time.time()
    with suppress(SftpError):
        async with sftp.handle(sftp.opendir(folder)) as handle:
            for _ in range(SWEEP):
                batch = await sftp.readdir(handle)
                for entry in batch:
                    if expired(entry.name, now):
                        sftp.forget(sftp.remove(folder.rstrip(b"/") + b"/" + entry.name))
                if not batch:
                    break
