"""The memory that each user's open requests occupy, and its limit. Knows user names and no route.

A client may read its response as slowly as it likes. A response that was made whole stays in memory meanwhile, so a
user with many slow clients could fill it. What is small, streamed, or shared with other requests does not count.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from flamecrest.server.errors import Busy

if TYPE_CHECKING:
    from starlette.types import Scope

COUNTED: Final = "flamecrest.counted_user"  # key of a scope: the user among whose open requests it is counted
LIMIT: Final = 512 * 1024 * 1024  # bytes of all requests of one user
SMALL: Final = 256 * 1024  # bytes of one request that do not count

HELD: Final = "flamecrest.held_bytes"  # key of a scope: the bytes that count for its request


class UserMemory:
    """Counts the bytes of each user's requests. A single request may have more than the limit."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._held: dict[str, int] = {}  # by user name
        self._lines: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by user name, to reserve in order
        self._freed: dict[str, asyncio.Event] = {}  # by user name, while the first of the line waits

    def hold(self, scope: Scope, size: int) -> None:
        """Count `size` bytes for a request, instead of what was counted for it before.

        Raises Busy for an increase beyond the limit, if other requests of the user hold some as well.
        """
        before: int = scope.get(HELD, 0)
        others = self._held.get(scope[COUNTED], 0) - before
        if before < size and size > SMALL and others > 0 and self._limit < others + size:
            raise Busy("Your open requests occupy too much memory. Read their responses, then send this one again.")
        self.settle(scope, size)

    async def reserve(self, scope: Scope, size: int) -> None:
        """Count `size` bytes for a request as soon as the limit allows it; first come, first served.

        For work whose size can be estimated. `settle` then sets what it was.
        """
        user = scope[COUNTED]
        line = self._lines.get(user)
        if line is None:
            self._lines[user] = line = asyncio.Lock()
        async with line:
            while self._held.get(user, 0) > 0 and self._limit < self._held[user] + size:
                self._freed[user] = asyncio.Event()
                await self._freed[user].wait()
            self.settle(scope, size)

    def end(self, scope: Scope) -> None:
        """Count nothing for the request any longer."""
        self.settle(scope, 0)

    def settle(self, scope: Scope, size: int) -> None:
        """Count `size` bytes for a request, whatever the limit is."""
        before: int = scope.get(HELD, 0)
        size = size if size > SMALL else 0
        if size == before:
            return
        user = scope[COUNTED]
        scope[HELD] = size
        self._held[user] = self._held.get(user, 0) + size - before
        if not self._held[user]:
            del self._held[user]
        if size < before and user in self._freed:
            self._freed.pop(user).set()
