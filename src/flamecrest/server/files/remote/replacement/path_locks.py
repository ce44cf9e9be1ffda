"""Locks for conditional writes: of two to one path through this gateway, one is checked after the other's rename."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakValueDictionary

PATIENCE: Final = 5.0  # seconds: longer than a check and a rename take


@dataclass(slots=True, weakref_slot=True, eq=False)
class _PathLock:
    """The lock of one path, and the users who hold it or wait for it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: Counter[str] = field(default_factory=Counter)


class PathLocks:
    """The locks of one cluster, for all its users. Those that nobody holds or waits for are forgotten.

    `patience`: the seconds for which a write of another user is waited for.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self._locks: WeakValueDictionary[bytes, _PathLock] = WeakValueDictionary()
        self._patience = patience

    @asynccontextmanager
    async def hold(self, path: bytes, user: str) -> AsyncIterator[None]:
        """Hold the lock of a path, as written, during the block.

        A user's programs on the cluster may hang, and say of any path that it is the user's. So the write of another
        user is not waited for any longer than `patience`: then the block runs without the lock.
        """
        one = self._locks.get(path)
        if one is None:
            one = self._locks[path] = _PathLock()
        others = any(count and name != user for name, count in one.users.items())
        one.users[user] += 1
        try:
            async with AsyncExitStack() as held:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._patience if others else None):
                        await held.enter_async_context(one.lock)
                yield
        finally:
            one.users[user] -= 1
