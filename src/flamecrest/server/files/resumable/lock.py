"""The lock of a resumable upload: a file beside it, created exclusively, so that all replicas respect it.

The owner writes heartbeats while bytes arrive. A lock without a heartbeat for STALE_AFTER seconds (its gateway was
killed, or its client stalls) is taken over: it is renamed, which only one request can do, then marked, so that its
former owner, which reads the file at each heartbeat, stops writing. Clocks of different machines are not compared.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from flamecrest.server.errors import Denied, Locked
from flamecrest.server.files.remote.replacement.opening import OpenFile, opened_itself
from flamecrest.server.files.remote.writing import stall_timeout, within_stall_timeout
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

STALE_AFTER = 2.0  # seconds without a heartbeat after which another request may take the lock over
HEARTBEAT = 0.5  # seconds between two heartbeats
_POLL = 0.05
_TAKEN = b"taken".ljust(32)


class UploadLock:
    """A lock held by this request."""

    def __init__(self, sftp: Sftp, handle: bytes, token: bytes, owner: int | None) -> None:
        self._sftp = sftp
        self._handle = handle
        self._owner = owner
        self._token = token
        self._beats = 0
        self._taken = False
        self._last = time.monotonic()

    @asynccontextmanager
    async def opened(self, sftp: Sftp, path: bytes, flags: int) -> AsyncIterator[OpenFile]:
        """Open a file of the upload; raises Denied unless it belongs to the user who holds the lock.

        In a folder that others may write, they can put a file of theirs or a link in its place.
        """
        async with opened_itself(sftp, path, flags, "upload") as file:
            if file.attrs.uid != self._owner:
                raise Denied("upload: a file of the upload belongs to another user")
            yield file

    async def beat(self) -> None:
        """Write a heartbeat if one is due; raises Locked if another request has taken the lock over."""
        now = time.monotonic()
        if now - self._last >= HEARTBEAT:
            self._last = now
            self._beats += 1
            self._sftp.forget(self._sftp.write(self._handle, 32, b"%016d" % self._beats))
            self._taken = (
                self._taken
                or await within_stall_timeout(self._sftp, self._sftp.read(self._handle, 0, 32)) != self._token
            )
        if self._taken:
            raise Locked("Another request has taken over this upload")

    @property
    def fresh(self) -> bool:
        """Whether the last heartbeat is so recent that no other request can have taken the lock over."""
        return not self._taken and time.monotonic() - self._last < STALE_AFTER - HEARTBEAT

    def release(self, path: bytes) -> None:
        """Release the lock. One that another request may have taken over is left in place; it becomes stale."""
        # does not wait for the answers, as the caller may be cancelled
        if self.fresh:
            self._sftp.forget(self._sftp.remove(path))
        self._sftp.forget(self._sftp.close_handle(self._handle))


@asynccontextmanager
async def acquire(sftp: Sftp, path: bytes) -> AsyncIterator[UploadLock]:
    """Hold the lock for the block; raises Locked while another request works on the upload."""
    token = secrets.token_hex(16).encode()
    async with stall_timeout(sftp):
        handle = await _acquire(sftp, path, token)
        owner = sftp.fstat(handle)
        sftp.forget(owner)
    try:
        await within_stall_timeout(sftp, sftp.write(handle, 0, token + b"%016d" % 0))
        lock = UploadLock(sftp, handle, token, (await owner).uid)
    except BaseException:
        sftp.forget(sftp.remove(path))
        sftp.forget(sftp.close_handle(handle))
        raise
    try:
        yield lock
    except Locked:
        sftp.forget(sftp.close_handle(handle))  # the file belongs to the other request now
        raise
    except BaseException:
        lock.release(path)
        raise
    lock.release(path)


async def released_soon(sftp: Sftp, path: bytes) -> bool:
    """Whether there was a lock that was released within HEARTBEAT seconds. Takes nothing over."""
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
    """Create the lock file; wait until an existing one is removed or stale. Raises Locked if it has a heartbeat."""
    seen: bytes | None = None
    since = begun = time.monotonic()
    while time.monotonic() - begun < 3 * STALE_AFTER:
        try:
            return await sftp.open_file(path, FLAG_READ | FLAG_WRITE | FLAG_CREATE | FLAG_EXCLUSIVE, Attrs(mode=0o600))
        except SftpError as error:
            if error.code != FAILURE:  # the status for a file that exists
                raise
        found = await _content(sftp, path)
        if found is None or seen is None or (found and not seen):  # an empty one is just being created
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
    """Remove a stale lock; raises Locked if its owner writes a heartbeat meanwhile."""
    aside = path + b"-" + token
    with suppress(SftpError):  # another request was faster
        await sftp.rename(path, aside)
        async with opened_itself(sftp, aside, FLAG_READ | FLAG_WRITE, "upload") as (handle, _):
            if await sftp.read(handle, 0, 64) != seen:
                await sftp.rename(aside, path)
                raise Locked("Another request works on this upload")
            await sftp.write(handle, 0, _TAKEN)
        await sftp.remove(aside)


async def _content(sftp: Sftp, path: bytes) -> bytes | None:
    """Return the content of a lock file; None if there is none."""
    try:
        async with opened_itself(sftp, path, FLAG_READ, "upload") as (handle, _):
            return await sftp.read(handle, 0, 64)
    except SftpError as error:
        if error.code == NO_SUCH_FILE:
            return None
        raise
