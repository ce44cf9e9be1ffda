"""Turns at an endpoint: few questions at once, and those that wait are served network by network. It knows no token.

Whoever sends many tokens that nobody knows makes their own wait: each network gets its turn, and when there is no more
room, the network with most questions gives way.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque

from flamecrest.server.errors import Busy


class Turns:
    """`places`: questions at once. `waiting`: how many more may wait, of all networks together."""

    def __init__(self, places: int, waiting: int) -> None:
        self._free = places
        self._room = waiting
        self._waiting = 0
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()  # by network, the next one first

    async def take(self, network: str) -> None:
        """Return when a question that came from the network may be asked; `done` must follow.

        Raises Busy at once if there is no room for it, or later if it gives way.
        """
        if self._free and not self._waiting:
            self._free -= 1
            return
        self._make_room(network)
        turn = asyncio.get_running_loop().create_future()
        self._queues.setdefault(network, deque()).append(turn)
        self._waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # its turn came, or it gave way, in the same moment
                if turn.exception() is None:
                    self.done()
            else:
                self._leave(network, turn)
            raise

    def done(self) -> None:
        """The question of a `take` has been answered: the next network has its turn."""
        while self._queues:
            network, queue = self._queues.popitem(last=False)
            turn = queue.popleft()
            self._waiting -= 1
            if queue:
                self._queues[network] = queue
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _make_room(self, network: str) -> None:
        if self._waiting < self._room:
            return
        own = len(self._queues.get(network, ()))
        longest = max(self._queues, key=lambda one: len(self._queues[one]))
        if len(self._queues[longest]) <= own + 1:
            raise _full()
        turn = self._queues[longest].pop()
        self._waiting -= 1
        if not turn.done():
            turn.set_exception(_full())

    def _leave(self, network: str, turn: asyncio.Future[None]) -> None:
        queue = self._queues.get(network)
        if queue is None or turn not in queue:
            return
        queue.remove(turn)
        self._waiting -= 1
        if not queue:
            del self._queues[network]

    def __repr__(self) -> str:
        return f"<Turns {self._free} free, {self._waiting} of {len(self._queues)} networks wait>"


def _full() -> Busy:
    return Busy("Too many new tokens at the moment", detail="too many tokens to introspect", retry_after=1)
