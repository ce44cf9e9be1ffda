"""`tail?follow=true`: sends a file while it grows, as server-sent events. Knows the Files port and no adapter.

The id of an event names the file and the position after the event, so a client that was disconnected resumes there
(header `Last-Event-ID`, which browsers send by themselves). The stream ends when the caller's token expires, at the
latest after an hour; the client then reconnects and is authenticated again.
"""

from __future__ import annotations

import re
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from flamecrest.server.auth.port import Verb
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Field, GatewayError, Invalid
from flamecrest.server.files.values import FollowPosition
from flamecrest.server.http.core.responses import RESUMABLE
from flamecrest.server.http.core.shared_events import EVENT_HEADERS, HEARTBEAT, RETRY, stream_end
from flamecrest.wire.json import dumps

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable

    from starlette.types import Receive, Scope, Send

    from flamecrest.server.cluster import Permission
    from flamecrest.server.files.port import Files
    from flamecrest.server.files.values import FollowEvent
    from flamecrest.server.http.core.route import Call

DEFAULT_LINES: Final = 10
TAIL_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "content": {
            "text/event-stream": {
                "schema": {
                    "type": "string",
                    "description": "With `follow`: events without a name for what was added, `truncated` and `rotated` "
                    "(the file begins anew); their data is JSON: content, startPosition and endPosition in bytes.",
                }
            }
        }
    }
}

_ID: Final = re.compile(r"([0-9a-f]{1,16})-([0-9a-f]{1,16})", re.ASCII)


def parse_event_id(text: str | None) -> FollowPosition | None:
    """The position that a Last-Event-ID names; None without one. Raises Invalid for an unknown format."""
    if not text:
        return None
    found = _ID.fullmatch(text)
    if found is None:
        message = "is no id of an event of this stream"
        raise Invalid(f"`Last-Event-ID` {message}", fields=(Field("header", "Last-Event-ID", message),))
    return FollowPosition(int(found[1], 16), int(found[2], 16))


async def follow_tail(
    call: Call, path: str, count_bytes: int | None, count_lines: int | None, *, skip: bool
) -> Response:
    """The response of `tail?follow=true`. Raises Invalid, and the errors of `allow` and `files`."""
    if count_bytes is not None or skip:
        message = "cannot be combined with `bytes` or `skipHeading`: it starts at a line counted from the end"
        raise Invalid(f"`follow` {message}", fields=(Field("query", "follow", message),))
    after = parse_event_id(call.headers.get("last-event-id"))
    allowed = await call.allow(Verb.FILES_READ, path)
    files = allowed.files(path=path)
    lines = DEFAULT_LINES if count_lines is None else count_lines
    return TailResponse(call, allowed, files, path, lines=lines, after=after)


class TailResponse(Response):
    """Sends what is added to a file. It is opened before the headers are sent, so an error can be the response."""

    def __init__(
        self, call: Call, allowed: Permission, files: Files, path: str, *, lines: int, after: FollowPosition | None
    ) -> None:
        super().__init__()
        self._allowed, self._path, self._seconds = allowed, path, call.cluster.limits.files
        self._following = files.queries.follow(path, call.deadline, lines=lines, after=after)
        self._until = stream_end(call)

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Send events until the stream ends; cancelled when the client disconnects, and when the gateway stops."""
        scope[RESUMABLE] = True
        async with self._following as pieces, aclosing(self._while_allowed(pieces)) as allowed:
            await send_added(send, allowed, self._until)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _while_allowed(self, pieces: AsyncIterable[FollowEvent | None]) -> AsyncGenerator[FollowEvent | None]:
        """The pieces, up to another file of that name that the caller may not read: the name may be a link now."""
        async for piece in pieces:
            if piece is not None and piece.event == "rotated":
                try:
                    await self._allowed.also(Deadline.after(self._seconds), self._path)
                except GatewayError:  # the client connects again, and gets it as the response
                    return
            yield piece


async def send_added(send: Send, pieces: AsyncIterable[FollowEvent | None], until: float) -> None:
    """Begin a response and send events until `pieces` or the time of the stream ends. For None, now and then a comment.

    The caller ends the response. `until` is a monotonic time.
    """
    await send({"type": "http.response.start", "status": 200, "headers": list(EVENT_HEADERS)})
    await send({"type": "http.response.body", "body": RETRY, "more_body": True})
    quiet_since = time.monotonic()
    async for piece in pieces:
        now = time.monotonic()
        if now >= until:
            break
        if piece is None and now - quiet_since < HEARTBEAT:
            continue
        quiet_since = now
        body = b": still here\n\n" if piece is None else event_bytes(piece)
        await send({"type": "http.response.body", "body": body, "more_body": True})


def event_bytes(piece: FollowEvent) -> bytes:
    """Encode one event: unnamed for added text, else `truncated` or `rotated`. JSON contains no newline."""
    position = piece.position
    data = dumps({"content": piece.text, "startPosition": piece.start, "endPosition": position.offset})
    kind = b"" if piece.event == "added" else b"event: %b\n" % piece.event.encode("ascii")
    return b"id: %x-%x\n%bdata: %b\n\n" % (position.ino, position.offset, kind, data)
