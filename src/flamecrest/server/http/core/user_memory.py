"""The memory that users' open requests occupy, and its limits: of each user, and of all. Knows no route.

A client may read its response as slowly as it likes. A response that was made whole stays in memory meanwhile, so a
user with many slow clients could fill it. What is small, streamed, or shared with other requests does not count.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from flamecrest.server.errors import Busy, GatewayError, Unavailable

if TYPE_CHECKING:
    from starlette.types import Scope

COUNTED: Final = "flamecrest.counted_user"  # key of a scope: the user among whose open requests it is counted
LIMIT: Final = 512 * 1024 * 1024  # bytes of all requests of one user
TOTAL: Final = 2048 * 1024 * 1024  # bytes of all requests of all users
SMALL: Final = 256 * 1024  # bytes of one request that do not count

HELD: Final = "flamecrest.held_bytes"  # key of a scope: the bytes that count for its request


class UserMemory:
    """Counts the bytes of each user's requests. A single request may have more than a limit.

    `limit` is that of one user, `total` that of all. Beyond half of the total, a user's requests may hold no more than
    an equal share of that half: the other half is for users who hold less, whoever else has filled the first.
    """

    def __init__(self, limit: int = LIMIT, total: int = TOTAL) -> None:
        self._limit = limit
        self.total = total
        self._all = 0
        self._held: dict[str, int] = {}  # by user name
        self._lines: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by user name, to reserve in order
        self._freed: dict[str, asyncio.Event] = {}  # by user name, while the first of the line waits

    def hold(self, scope: Scope, size: int) -> None:
        """Count `size` bytes for a request, instead of what was counted for it before.

        Raises Busy for an increase beyond the limit of the user or the user's share, if other requests of the user hold
        some as well; Unavailable for one beyond the total, if any other request holds some.
        """
        before: int = scope.get(HELD, 0)
        if before < size and size > SMALL and (error := self._why_not(scope[COUNTED], before, size)) is not None:
            raise error
        self.settle(scope, size)

    def _why_not(self, user: str, before: int, size: int) -> GatewayError | None:
        """Why a request of the user may not have `size` bytes instead of `before`; None: it may."""
        others = self._held.get(user, 0) - before
        if others > 0 and others + size > self._limit:
            return Busy("Your open requests occupy too much memory. Read their responses, then send this one again.")
        everything = self._all - before
        if everything <= 0 or everything + size <= self.total // 2:
            return None
        users = len(self._held) + (user not in self._held)
        if others > 0 and others + size > self.total // 2 // users:
            return Busy(
                "The open requests of all users occupy much memory, and yours more than an equal share of it. "
                "Read their responses, then send this one again."
            )
        if everything + size > self.total:
            return Unavailable(
                "The open requests of all users occupy too much memory. Try again soon.", retry_after=2.0
            )
        return None

    async def reserve(self, scope: Scope, size: int) -> None:
        """Count `size` bytes for a request as soon as the limits allow it; of each user, first come, first served.

        For work whose size can be estimated. `settle` then sets what it was.
        """
        user = scope[COUNTED]
        line = self._lines.get(user)
        if line is None:
            self._lines[user] = line = asyncio.Lock()
        async with line:
            while size > SMALL and self._why_not(user, scope.get(HELD, 0), size) is not None:
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
        self._all += size - before
        if not self._held[user]:
            del self._held[user]
        if size < before:
            while self._freed:
                self._freed.popitem()[1].set()
