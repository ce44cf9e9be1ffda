"""Finds the requests whose disconnect must be listened for. Knows no request and no ASGI.

ASGI reports a disconnect only to a caller of `receive`, and a handler that waits for its cluster does not call it, so
a task beside the handler must. A task for every request would cost a tenth of the gateway's throughput, and nearly
all requests finish in milliseconds. The task is therefore created for requests that take longer. A timer finds them
by checking all open requests at intervals; a timer for each request would cost more.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

LISTEN_AFTER: Final = 0.25  # seconds after which a request's disconnect is listened for; at most twice that


class Listener(Protocol):
    """An open request."""

    def listen(self) -> bool:
        """Start to listen for a disconnect; False if that is not possible yet."""
        ...


class DisconnectMonitor:
    """The open requests of an application. Its timer runs while there are any.

    A request adds itself to `new`, and calls `start` if there is no `timer`. At its end it leaves both sets.
    """

    def __init__(self) -> None:
        self.new: set[Listener] = set()  # since the last check
        self.old: set[Listener] = set()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Schedule the next check."""
        self.loop = loop
        self.timer = loop.call_later(LISTEN_AFTER, self._check)

    def _check(self) -> None:
        waiting = {request for request in self.old if not request.listen()}
        self.old = self.new | waiting
        self.new = set()
        self.timer = None
        if self.old and self.loop is not None:
            self.start(self.loop)
