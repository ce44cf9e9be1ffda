"""The open requests of each user, their limit, and their turns at long work. Knows user names and no route."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from flamecrest.server.errors import Busy

from .user_memory import COUNTED, HELD, UserMemory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Scope


class UserRequests:
    """Counts the open requests of each user, so that one user cannot occupy all connections.

    limit: greatest number for one user; None: no limit.
    """

    def __init__(self) -> None:
        self.limit: int | None = None
        self.memory = UserMemory()
        self._open: dict[str, int] = {}  # by user name, whichever tokens the requests have
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by user name

    @property
    def open(self) -> dict[str, int]:
        """The number of open requests of each user who has some."""
        return dict(self._open)

    def begin(self, user: str, scope: Scope) -> None:
        """Count a request until `end` is called with the same scope. Raises Busy if it exceeds the limit."""
        count = self._open.get(user, 0)
        if self.limit is not None and count >= self.limit:
            raise Busy(f"You have {count} open requests, the greatest number allowed. Retry when one has ended.")
        self._open[user] = count + 1
        scope[COUNTED] = user

    def end(self, scope: Scope) -> None:
        """Count the scope's request no longer, if it was counted."""
        user = scope.get(COUNTED)
        if user is None:
            return
        if HELD in scope:
            self.memory.end(scope)
        count = self._open[user] - 1
        if count:
            self._open[user] = count
        else:
            del self._open[user]

    @asynccontextmanager
    async def turn(self, scope: Scope) -> AsyncIterator[None]:
        """A block of work that keeps the event loop busy for long: of each user one at a time.

        Before every block other tasks run once, so many requests of one user delay others by one block only.
        """
        user = scope[COUNTED]
        turn = self._turns.get(user)
        if turn is None:
            self._turns[user] = turn = asyncio.Lock()
        async with turn:
            await asyncio.sleep(0)
            yield
