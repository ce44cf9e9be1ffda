"""Watch: ends the work for a caller who has gone away; knows ASGI messages and nothing else.

ASGI says that a client is gone only to those who wait for it, and a handler waits for its cluster. So somebody else
has to wait. A task beside each request would cost a tenth of what the gateway can do; nearly all requests are over
in milliseconds, so the task is made only for those that take longer: the price for all others is one timer.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.types import Message, Receive

SECONDS: Final = 0.25  # how long a request runs before somebody waits for its client to go

_DISCONNECT: Final[Message] = {"type": "http.disconnect"}


class Watch:
    """Cancels the task it was made in when the client goes away before `answered` is set."""

    __slots__ = ("_body_read", "_has_body", "_listener", "_loop", "_receive", "_task", "_timer", "answered", "gone")

    def __init__(self, receive: Receive, task: asyncio.Task[object], *, has_body: bool) -> None:
        self.answered = False
        self.gone = False
        self._receive = receive
        self._task = task
        self._has_body = has_body
        self._body_read = False
        self._listener: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(SECONDS, self._begin)

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
        self._timer.cancel()
        if self._listener is not None:
            self._listener.cancel()

    def _begin(self) -> None:
        if self._has_body and not self._body_read:
            # The handler is reading; it hears of a disconnect itself, and must not lose a piece of the body to us.
            self._timer = self._loop.call_later(SECONDS, self._begin)
        else:
            self._listener = self._loop.create_task(self._listen())

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self.answered:
            self.gone = True
            self._task.cancel()
