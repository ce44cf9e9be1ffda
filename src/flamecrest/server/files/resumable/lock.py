"""The lock of a resumable upload: a file beside it, taken by making it, so that replicas see each other's.

Who holds it beats as bytes arrive. A lock that is still for a while belongs to nobody any more (a gateway that was
killed, a client that has stalled) and is taken over: renamed away first, which only one can do, then marked, so that
its former holder, who looks at every beat, finds out before it writes again. No clock is compared with another.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from flamecrest.server.errors import Locked
from flamecrest.server.files.remote.writing import require_regular, stall_timeout, within_stall_timeout
from flamecrest.server.ssh.channels.sftp_packets import (
    FAILURE,
    FLAG_CREATE,
    FLAG_EXCLUSIVE,
    FLAG_READ,
    FLAG_WRITE,
    NO_SUCH_FILE,
    Attrs,
    SftpError,
)

if TYPE_CHECKING:
    from flamecrest.server.ssh.channels.sftp import Sftp

STALE_AFTER = 2.0  # seconds without a beat after which a lock belongs to nobody
HEARTBEAT = 0.5  # seconds of work between two beats
_POLL = 0.05
_TAKEN = b"taken".ljust(32)


@asynccontextmanager
async def open_regular(sftp: Sftp, path: bytes, flags: int) -> AsyncIterator[bytes]:
    """A file beside an upload, open: a plain file and no link, whoever put it there."""
    async with stall_timeout():
        require_regular("upload", await sftp.lstat(path))
        handle = await sftp.open_file(path, flags)
    try:
        yield handle
    finally:
        sftp.forget(sftp.close_handle(handle))


class UploadLock:
    """A lock that is held."""

    def __init__(self, sftp: Sftp, handle: bytes, token: bytes) -> None:
        self._sftp = sftp
        self._handle = handle
        self._token = token
        self._beats = 0
        self._taken = False
        self._last = time.monotonic()

    async def beat(self) -> None:
        """Show that there is progress, if it is time for that; Locked when somebody else has taken over."""
        now = time.monotonic()
        if now - self._last >= HEARTBEAT:
            self._last = now
            self._beats += 1
            self._sftp.forget(self._sftp.write(self._handle, 32, b"%016d" % self._beats))
            self._taken = self._taken or await within_stall_timeout(self._sftp.read(self._handle, 0, 32)) != self._token
        if self._taken:
            raise Locked("Another request has taken over this upload")

    @property
    def fresh(self) -> bool:
        """Whether nobody can have taken over yet: the last beat is not long ago."""
        return not self._taken and time.monotonic() - self._last < STALE_AFTER - HEARTBEAT

    def release(self, path: bytes) -> None:
        """Give it up. One that somebody else may have by now is left alone: it is taken over in time."""
        # sent without waiting: this may run because the caller has gone
        if self.fresh:
            self._sftp.forget(self._sftp.remove(path))
        self._sftp.forget(self._sftp.close_handle(self._handle))


@asynccontextmanager
async def acquire(sftp: Sftp, path: bytes) -> AsyncIterator[UploadLock]:
    """The lock, held for the block; Locked when somebody else works on the upload."""
    token = secrets.token_hex(16).encode()
    async with stall_timeout():
        handle = await _acquire(sftp, path, token)
    lock = UploadLock(sftp, handle, token)
    try:
        await within_stall_timeout(sftp.write(handle, 0, token + b"%016d" % 0))
        yield lock
    except Locked:
        sftp.forget(sftp.close_handle(handle))  # the file is the other's by now
        raise
    except BaseException:
        lock.release(path)
        raise
    lock.release(path)


async def released_soon(sftp: Sftp, path: bytes) -> bool:
    """Whether a lock was there and went within a moment; takes nothing over."""
    there = await _content(sftp, path)
    if there is None:
        return False
    until = time.monotonic() + HEARTBEAT
    while time.monotonic() < until:
        await asyncio.sleep(_POLL)
        if await _content(sftp, path) is None:
            return True
    return False


async def _acquire(sftp: Sftp, path: bytes, token: bytes) -> bytes:
    """Make the lock file; wait for one that is there to go, to move, or to be still for long enough."""
    seen: bytes | None = None
    since = begun = time.monotonic()
    while time.monotonic() - begun < 3 * STALE_AFTER:
        try:
            return await sftp.open_file(path, FLAG_READ | FLAG_WRITE | FLAG_CREATE | FLAG_EXCLUSIVE, Attrs(mode=0o600))
        except SftpError as error:
            if error.code != FAILURE:  # which is what version 3 says to a file that is there
                raise
        found = await _content(sftp, path)
        if found is None or seen is None or (found and not seen):  # one without a name yet is just being made
            seen, since = found, time.monotonic()
        elif found != seen:
            break
        elif time.monotonic() - since > STALE_AFTER:
            await _evict(sftp, path, seen, token)
            seen = None
            continue
        await asyncio.sleep(_POLL)
    raise Locked("Another request works on this upload")


async def _evict(sftp: Sftp, path: bytes, seen: bytes, token: bytes) -> None:
    """Take a still lock out of the way; Locked if it moves at the last moment."""
    aside = path + b"-" + token
    with suppress(SftpError):  # another was faster
        await sftp.rename(path, aside)
        async with open_regular(sftp, aside, FLAG_READ | FLAG_WRITE) as handle:
            if await sftp.read(handle, 0, 64) != seen:
                await sftp.rename(aside, path)
                raise Locked("Another request works on this upload")
            await sftp.write(handle, 0, _TAKEN)
        await sftp.remove(aside)


async def _content(sftp: Sftp, path: bytes) -> bytes | None:
    """What a lock file holds; None when it is gone."""
    try:
        async with open_regular(sftp, path, FLAG_READ) as handle:
            return await sftp.read(handle, 0, 64)
    except SftpError as error:
        if error.code == NO_SUCH_FILE:
            return None
        raise
