"""The digest of a body that is computed in a thread while the next bytes are received. Knows no files and no HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

BATCH: Final = 512 * 1024  # bytes that are given to a thread at once: 0.7 ms of MD5, ten times the change of threads
NICENESS: Final = 10  # of the threads


def _let_others_go_first() -> None:
    """Lower the priority of this thread: where all processors are busy, the event loop must not wait for digests."""
    if sys.platform != "linux":  # elsewhere it would be that of the process
        return
    with suppress(OSError):  # a sandbox may forbid it
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)


# Two are as fast as an event loop that receives and sends the same bytes. More would only take turns with each other.
_THREADS: Final = ThreadPoolExecutor(2, "digest", initializer=_let_others_go_first)


class RunningDigest:
    """A digest that is at most two batches behind the bytes that were added. One task may use it."""

    def __init__(self, algorithm: str) -> None:
        self._digest = hashlib.new(algorithm, usedforsecurity=False)
        self._batch: list[bytes] = []
        self._size = 0
        self._running: asyncio.Future[None] | None = None

    async def add(self, data: bytes) -> None:
        """Add the next bytes. Waits for the batch before the last one."""
        self._batch.append(data)
        self._size += len(data)
        if self._size >= BATCH:
            await self._finish_running()
            batch, self._batch, self._size = self._batch, [], 0
            self._running = asyncio.get_running_loop().run_in_executor(_THREADS, self._update, batch)

    async def hexdigest(self) -> str:
        """The digest of all bytes, in hexadecimal digits."""
        await self._finish_running()
        batch, self._batch = self._batch, []
        self._update(batch)
        return self._digest.hexdigest()

    async def _finish_running(self) -> None:
        if self._running is not None:
            await self._running
            self._running = None

    def _update(self, batch: list[bytes]) -> None:
        self._digest.update(b"".join(batch))  # one update: the interpreter is given away and waited for once
