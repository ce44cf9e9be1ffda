"""Server-sent events of what changes in a list that requests share. Knows no operation.

The id of an event is its time. A client that was disconnected sends it back (`Last-Event-ID`), and gets what has
changed since, some of it perhaps once more. The stream ends when the caller's token expires, or after an hour.
"""

from __future__ import annotations

import asyncio
import re
import time
import weakref
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from starlette.responses import Response

from flamecrest.server.errors import Field, GatewayError, Invalid
from flamecrest.server.schedulers.values import SharedList
from flamecrest.wire.json import dumps

from .responses import RESUMABLE

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from .route import Call

T = TypeVar("T")

HEARTBEAT: Final = 15.0  # seconds without an event, after which a comment keeps proxies from closing the connection
MAX_STREAM: Final = 3600.0  # seconds
LOOK_EVERY: Final = 1.0  # seconds
OVERLAP: Final = 60.0  # seconds before the last event that are looked at again: schedulers tell of an end late

EVENT_HEADERS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)
SLICE: Final = 250  # events that are encoded before other tasks run: some 5 ms
RETRY: Final = b"retry: 1000\n\n"  # milliseconds after which a browser reconnects
_ID: Final = re.compile(r"[0-9]{1,13}", re.ASCII)


def stream_end(call: Call) -> float:
    """The monotonic time at which a stream ends: when the caller's token expires, or after MAX_STREAM."""
    left = call.identity.expires - time.time() if call.identity.expires else MAX_STREAM
    return time.monotonic() + min(MAX_STREAM, max(0.0, left))


def last_event(call: Call) -> float | None:
    """The time of the last event that the client has, in seconds since the epoch; None without one. Raises Invalid."""
    text = call.headers.get("last-event-id")
    if not text:
        return None
    if _ID.fullmatch(text) is None:
        message = "is no id of an event of this stream"
        raise Invalid(f"`Last-Event-ID` {message}", fields=(Field("header", "Last-Event-ID", message),))
    return int(text) / 1000


@dataclass(frozen=True, slots=True)
class Events(Generic[T]):
    """How a list becomes events: how it is read, what tells its things apart, their state, and what is shown of them.

    `wait` returns when there may be news, after the given seconds at the latest.
    """

    name: str
    read: Callable[[], Awaitable[Sequence[T]]]
    wait: Callable[[float], Awaitable[None]]
    key: Callable[[T], Hashable]
    state: Callable[[T], Hashable]
    show: Callable[[T], Mapping[str, Any]]

    def changed(self, before: Sequence[T], now: Sequence[T]) -> Iterable[T]:
        """The things in `now` that are new or have another state."""
        if before is now:
            return ()
        known = {self.key(one): self.state(one) for one in before}
        return [one for one in now if known.get(self.key(one)) != self.state(one)]

    def news(self, before: Sequence[T], now: Sequence[T]) -> bytes:
        """The events of what has changed; made once for all streams of the same lists."""
        if before is now:
            return b""
        if not (isinstance(before, SharedList) and isinstance(now, SharedList)):
            return self.bytes(self.changed(before, now))
        if now.news is None or now.news[0]() is not before:
            now.news = weakref.ref(before), self.bytes(self.changed(before, now))
        return now.news[1]

    async def of_many(self, things: Iterable[T]) -> bytes:
        """The events of some things; other tasks run while many are encoded."""
        left = list(things)
        parts = [self.bytes(left[:SLICE])]
        for first in range(SLICE, len(left), SLICE):
            await asyncio.sleep(0)
            parts.append(self.bytes(left[first : first + SLICE]))
        return b"".join(parts)

    def bytes(self, things: Iterable[T]) -> bytes:
        """The events of some things; JSON contains no line end."""
        head = b"id: %d\nevent: %b\ndata: " % (time.time() * 1000, self.name.encode())
        return b"".join(head + dumps(self.show(one)) + b"\n\n" for one in things)


class EventsResponse(Response, Generic[T]):
    """Sends `first`, those of the list that the client has to know, and then what changes."""

    def __init__(self, call: Call, events: Events[T], found: Sequence[T], first: Iterable[T]) -> None:
        super().__init__()
        self._events = events
        self._found = found
        self._first = first
        self._until = stream_end(call)

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Send events until the stream ends; cancelled when the client disconnects, and when the gateway stops."""
        scope[RESUMABLE] = True
        events, found = self._events, self._found
        users = scope["app"].users
        async with users.turn(scope):
            body = RETRY + await events.of_many(self._first)
        users.memory.hold(scope, len(body))
        await send({"type": "http.response.start", "status": 200, "headers": list(EVENT_HEADERS)})
        quiet_since = time.monotonic()
        while (now := time.monotonic()) < self._until:
            if not body and now - quiet_since >= HEARTBEAT:
                body = b": still here\n\n"
            if body:
                await send({"type": "http.response.body", "body": body, "more_body": True})
                users.memory.settle(scope, 0)  # what follows is small, or shared
                quiet_since = now
            await events.wait(min(LOOK_EVERY, self._until - now))
            try:
                newer = await events.read()
            except GatewayError:
                body = b""  # the next look may succeed; nothing is lost
                continue
            body, found = events.news(found, newer), newer
        await send({"type": "http.response.body", "body": b"", "more_body": False})
