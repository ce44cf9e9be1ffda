"""Writes the bytes of a resumable upload ahead of their acknowledgements, and records the offset that is on disk.

It knows open files and nothing of how they are found, locked or finished.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

from flamecrest.server.errors import ChecksumMismatch, Locked, TooLarge
from flamecrest.server.files.remote.writing import IN_FLIGHT_BYTES, within_stall_timeout

if TYPE_CHECKING:
    from flamecrest.server.files.resumable.lock import UploadLock
    from flamecrest.server.files.resumable.port import PieceChecksum
    from flamecrest.server.files.resumable.state import UploadState
    from flamecrest.server.ssh.channels.sftp import Sftp

CHECKPOINT_BYTES = 64 * 1024 * 1024  # the most that is sent again after a gateway was killed,
CHECKPOINT_SECONDS = 2.0  # or what arrived in this time


class Outstanding:
    """The writes of one request that are not known to have been made."""

    def __init__(self, patience: float) -> None:
        self._patience = patience  # seconds until writes without an answer are no longer waited for
        self.stopped = False  # by a request that has taken the upload over
        self.ending = False  # nothing more is received; what has arrived is being recorded
        self.ended = asyncio.Event()  # nothing more is recorded, except by writes that are under way
        self._futures: set[asyncio.Future[None]] = set()

    def add(self, future: asyncio.Future[None]) -> asyncio.Future[None]:
        """Remember a write until it has succeeded."""
        self._futures.add(future)
        future.add_done_callback(self._done)
        return future

    def _done(self, future: asyncio.Future[None]) -> None:
        if not future.cancelled() and future.exception() is None:
            self._futures.discard(future)

    async def stop(self) -> bool:
        """Have the request write nothing more. Whether all its writes have been made: none can follow."""
        self.stopped = True
        if waiting := [future for future in self._futures if not future.done()]:
            await asyncio.wait(waiting, timeout=self._patience)
        return not self._futures

    async def settled(self, seconds: float) -> bool:
        """Wait until the offset of a request that receives nothing more is final. Raises Locked after so many seconds.

        False: it still receives, and was not waited for.
        """
        if not self.ending:
            return False
        try:
            async with asyncio.timeout(min(seconds, self._patience)):
                await self.ended.wait()
                if waiting := [future for future in self._futures if not future.done()]:
                    await asyncio.wait(waiting)
        except TimeoutError:
            raise Locked("Another request works on this upload") from None
        return True


class UploadWriter:
    """The data file of an upload: the writes in flight, and the offset up to which all are acknowledged."""

    def __init__(
        self, sftp: Sftp, handle: bytes, head: bytes, lock: UploadLock, state: UploadState, length: int | None
    ) -> None:
        self.state = state  # as recorded last
        self._length = length  # is recorded with the first bytes, so that it goes if they are not accepted
        self.lock = lock
        self.safe = state.offset
        self._sent = state.offset
        self._sftp = sftp
        self._handle = handle
        self._head = head
        self._under_way: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.outstanding = Outstanding(sftp.stall_timeout)
        self._recorded_at = time.monotonic()

    async def take(self, chunks: AsyncIterator[bytes], checksum: PieceChecksum | None) -> None:
        """Write all chunks, and record the offset at intervals and at the end."""
        self.state = replace(self.state, writing=True)
        self._sftp.forget(self._write(self._head, 0, self.state.head()))  # answered before the bytes
        digest = None if checksum is None else hashlib.new(checksum.algorithm, usedforsecurity=False)
        try:
            async for chunk in chunks:
                if self._length is not None and self._sent + len(chunk) > self._length:
                    raise TooLarge("More bytes than the upload's length")
                if digest is not None:
                    digest.update(chunk)
                await self.lock.beat()
                await self._add(chunk)
                late = time.monotonic() - self._recorded_at > CHECKPOINT_SECONDS
                if digest is None and (late or self.safe - self.state.offset > CHECKPOINT_BYTES):
                    await self.checkpoint()
        finally:
            self.outstanding.ending = True
        if checksum is not None and digest is not None and not hmac.compare_digest(digest.digest(), checksum.digest):
            raise ChecksumMismatch("The bytes that arrived do not have the checksum that was given")
        await self.checkpoint(end=True)

    async def _add(self, chunk: bytes) -> None:
        for start in range(0, len(chunk), self._sftp.write_size):
            piece = bytes(chunk[start : start + self._sftp.write_size])
            while self._under_way and self._sent - self.safe + len(piece) > IN_FLIGHT_BYTES:
                await self._acknowledged()
            await self._sftp.room()
            self._under_way.append((len(piece), self._write(self._handle, self._sent, piece)))
            self._sent += len(piece)

    async def _acknowledged(self) -> None:
        size, future = self._under_way.popleft()
        try:
            await within_stall_timeout(self._sftp, future)
        except BaseException:
            self._sftp.forget(future)
            self.forget()  # the file may have a gap here: later writes do not count
            raise
        self.safe += size

    def _write(self, handle: bytes, offset: int, data: bytes) -> asyncio.Future[None]:
        if self.outstanding.stopped:
            raise Locked("Another request has taken over this upload")
        return self.outstanding.add(self._sftp.write(handle, offset, data))

    async def checkpoint(self, *, end: bool = False, keep: bool = True) -> None:
        """Sync the acknowledged bytes to disk, then record their offset.

        At the `end` it is recorded that nothing more is written; without `keep` the bytes do not count.
        """
        while self._under_way:
            await self._acknowledged()
        state = replace(self.state, writing=not end)
        if keep:
            state = replace(state, offset=self.safe, length=self._length)
        if state != self.state:
            if state.offset != self.state.offset:
                await within_stall_timeout(self._sftp, self._sftp.fsync(self._handle))
            await self.lock.beat()
            await within_stall_timeout(self._sftp, self._write(self._head, 0, state.head()))
            self.state = state
        self._recorded_at = time.monotonic()

    def forget(self) -> None:
        """Ignore the answers to the writes in flight."""
        for _, future in self._under_way:
            self._sftp.forget(future)
        self._under_way.clear()
