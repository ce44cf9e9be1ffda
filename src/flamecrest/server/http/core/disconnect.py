"""Cancels the work of a request whose client has disconnected. Knows ASGI messages and nothing else.

ASGI reports a disconnect only to a caller of `receive`, and a handler that waits for its cluster does not call it, so
a task beside the handler must. A task for every request would cost a tenth of the gateway's throughput, and nearly
all requests finish in milliseconds. The task is therefore created for requests that take longer. A timer finds them
by checking all open requests at intervals; a timer for each request would cost more.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.types import Message, Receive

LISTEN_AFTER: Final = 0.25  # seconds after which a request's disconnect is listened for; at most twice that

_DISCONNECT: Final[Message] = {"type": "http.disconnect"}


class DisconnectMonitor:
    """The watches of an application's open requests. Its timer runs while there are any."""

    def __init__(self) -> None:
        self.new: set[DisconnectWatch] = set()  # since the last check
        self.old: set[DisconnectWatch] = set()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.timer: asyncio.TimerHandle | None = None

    def check(self) -> None:
        """Start to listen for the requests that are open since the check before; schedule the next check."""
        waiting = {watch for watch in self.old if not watch.listen()}
        self.old = self.new | waiting
        self.new = set()
        self.timer = None
        if self.old and self.loop is not None:
            self.timer = self.loop.call_later(LISTEN_AFTER, self.check)


class DisconnectWatch:
    """Cancels the current task if the client disconnects before `responded` is set."""

    __slots__ = ("_body_read", "_has_body", "_listener", "_monitor", "_receive", "_task", "disconnected", "responded")

    def __init__(self, receive: Receive, monitor: DisconnectMonitor, *, has_body: bool) -> None:
        task = asyncio.current_task(monitor.loop)
        if task is None:  # the application runs in another event loop now
            monitor.timer = None
            task = asyncio.current_task()
        assert task is not None  # noqa: S101 -- a coroutine runs in a task
        if monitor.timer is None:
            monitor.loop = task.get_loop()
            monitor.timer = monitor.loop.call_later(LISTEN_AFTER, monitor.check)
        monitor.new.add(self)
        self.responded = False
        self.disconnected = False
        self._receive = receive
        self._task = task
        self._monitor = monitor
        self._has_body = has_body
        self._body_read = False
        self._listener: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        """The server's next message. While the watch listens, only a disconnect is delivered."""
        if self._listener is not None:
            await asyncio.wait((self._listener,))
            return _DISCONNECT
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._body_read = True
        return message

    def stop(self) -> None:
        """End the watch."""
        self._monitor.new.discard(self)
        self._monitor.old.discard(self)
        if self._listener is not None:
            self._listener.cancel()

    def listen(self) -> bool:
        """Start to listen; False if that is not possible yet.

        While the handler reads the body it receives a disconnect itself, and listening could lose a chunk of the body.
        """
        if self._has_body and not self._body_read:
            return False
        self._listener = self._task.get_loop().create_task(self._listen())
        return True

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self.responded:
            self.disconnected = True
            self._task.cancel()
