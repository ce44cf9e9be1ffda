"""The order in which logins begin on one login node.

Those that have not failed come first; of these the oldest and the newest by turns, so that a user who comes while many
logins hang is served at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from flamecrest.server.errors import GatewayError
from flamecrest.server.ssh.errors import NothingSent

if TYPE_CHECKING:
    from .host import Host
    from .logins import Attempt, Dial, LoginNode

Patience = Callable[[], float]  # the monotonic time until which a request waits for the connection


class Gate:
    """Begins the logins on one node when its rules (logins.py) allow them."""

    def __init__(self, host: Host, node: LoginNode) -> None:
        self.node = node
        self._host = host
        self._waiting: list[tuple[Attempt, asyncio.Future[Dial]]] = []
        self._newest = False  # whose turn it is
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def login(self, attempt: Attempt, patience: Patience) -> AsyncIterator[Dial]:
        """Wait until the login may begin. The block calls `node.end` with its outcome.

        Raises the cause of the wait when no request waits any more, and at once where the node drops connections
        again and again.
        """
        dial = await self._begin(attempt, patience)
        try:
            yield dial
        finally:
            self.node.dials.discard(dial)
            self.admit()

    def obstacle(self) -> GatewayError:
        """Why a login waits."""
        if self.node.cause is not None:
            return self.node.cause
        if self.node.penalty(time.monotonic()):
            text = "logins of other users have failed there, so further ones are made slowly"
            return NothingSent(f"SSH to {self._host} failed: {text}; try again in a moment", retry_after=5.0)
        return NothingSent(f"SSH to {self._host} failed: too many logins are under way; try again in a moment")

    async def _begin(self, attempt: Attempt, patience: Patience) -> Dial:
        if self.node.closed(now := time.monotonic()):
            raise _copy(self.obstacle(), self.node.paused_until - now)
        if not self._waiting and not self.node.wait(attempt, now):
            return self.node.begin(attempt, now)
        begun: asyncio.Future[Dial] = asyncio.get_running_loop().create_future()
        entry = (attempt, begun)
        self._waiting.append(entry)
        self.admit()
        try:
            while not begun.done():
                now = time.monotonic()
                left = min(patience(), now + 1.0) - now
                if left <= 0 or self.node.closed(now):
                    raise _copy(self.obstacle())
                await asyncio.wait([begun], timeout=left)
            return begun.result()
        except BaseException:
            if begun.done():
                self.node.dials.discard(begun.result())
            else:
                self._waiting.remove(entry)
            raise

    def admit(self) -> None:
        """Begin the logins that may begin now, and look again when others may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now, soonest = time.monotonic(), float("inf")
        fresh = [entry for entry in self._waiting if not (entry[0].failed or entry[0].unanswered)]
        others = [entry for entry in self._waiting if entry[0].failed or entry[0].unanswered]
        while fresh or others:
            entry = fresh.pop(-1 if self._newest else 0) if fresh else others.pop(0)
            attempt, begun = entry
            wait = self.node.wait(attempt, now)
            if wait:
                soonest = min(soonest, wait)
                continue
            self._newest = not self._newest
            self._waiting.remove(entry)
            begun.set_result(self.node.begin(attempt, now))
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(max(0.01, min(1.0, soonest)), self.admit)


def _copy(error: GatewayError, retry_after: float | None = None) -> GatewayError:
    """A copy: a traceback belongs to one request."""
    return type(error)(error.public, detail=error.detail, retry_after=retry_after or error.retry_after)
