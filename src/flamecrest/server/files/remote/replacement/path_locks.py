"""Locks for conditional writes: of two to one path through this gateway, one is checked after the other's rename."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary


class PathLocks:
    """The locks of one cluster, for all its users. Those that nobody holds or waits for are forgotten."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    def of(self, path: bytes) -> asyncio.Lock:
        """The lock of a path, as written."""
        lock = self._locks.get(path)
        if lock is None:
            lock = self._locks[path] = asyncio.Lock()
        return lock
