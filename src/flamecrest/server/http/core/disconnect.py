"""Watch: ends the work for a caller who has gone away; knows ASGI messages and nothing else.

ASGI says that a client is gone only to those who wait for it, and a handler waits for its cluster. So somebody else
has to wait. A task beside each request would cost a tenth of what the gateway can do; nearly all requests are over
in milliseconds, so the task is made only for those that take longer. Who takes longer is found by looking at all that
are open, now and then: a timer for each would cost more than the looking.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.types import Message, Receive

LISTEN_AFTER: Final = 0.25  # how long a request runs before somebody waits for its client to go; twice that at most

_DISCONNECT: Final[Message] = {"type": "http.disconnect"}


class DisconnectMonitor:
    """The watches of an application; looks through them from time to time while there are any."""

    def __init__(self) -> None:
        self._young: set[DisconnectWatch] = set()  # begun since the last look
        self._old: set[DisconnectWatch] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, receive: Receive, *, has_body: bool) -> DisconnectWatch:
        """Watch over the task that asks."""
        task = asyncio.current_task(self._loop)
        if task is None:  # another loop than last time
            self._timer = None
            task = asyncio.current_task()
        assert task is not None  # noqa: S101 -- a coroutine runs in a task
        if self._timer is None:
            self._loop = task.get_loop()
            self._timer = self._loop.call_later(LISTEN_AFTER, self._look)
        watch = DisconnectWatch(receive, task, self, has_body=has_body)
        self._young.add(watch)
        return watch

    def forget(self, watch: DisconnectWatch) -> None:
        """Its request is over."""
        self._young.discard(watch)
        self._old.discard(watch)

    def _look(self) -> None:
        """Begin to listen for those who are here for the second time."""
        waiting = {watch for watch in self._old if not watch.begin()}
        self._old = self._young | waiting
        self._young = set()
        self._timer = None
        if self._old and self._loop is not None:
            self._timer = self._loop.call_later(LISTEN_AFTER, self._look)


class DisconnectWatch:
    """Cancels its task when the client goes away before `answered` is set."""

    __slots__ = ("_body_read", "_has_body", "_listener", "_monitor", "_receive", "_task", "answered", "gone")

    def __init__(
        self, receive: Receive, task: asyncio.Task[object], monitor: DisconnectMonitor, *, has_body: bool
    ) -> None:
        self.answered = False
        self.gone = False
        self._receive = receive
        self._task = task
        self._monitor = monitor
        self._has_body = has_body
        self._body_read = False
        self._listener: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        """What the server has to say, unless the watch listens by now: then only that the client is gone."""
        if self._listener is not None:
            await asyncio.wait((self._listener,))
            return _DISCONNECT
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._body_read = True
        return message

    def stop(self) -> None:
        """End the watch."""
        self._monitor.forget(self)
        if self._listener is not None:
            self._listener.cancel()

    def begin(self) -> bool:
        """Begin to listen; False where that has to wait.

        While the handler reads a body, it hears of a disconnect itself, and must not lose a piece of it to us.
        """
        if self._has_body and not self._body_read:
            return False
        self._listener = self._task.get_loop().create_task(self._listen())
        return True

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self.answered:
            self.gone = True
            self._task.cancel()
