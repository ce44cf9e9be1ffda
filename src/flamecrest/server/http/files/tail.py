"""`tail?follow=true`: sends a file while it grows, as server-sent events. Knows the Files port and no adapter.

The id of an event names the file and the position after the event, so a client that was disconnected resumes there
(header `Last-Event-ID`, which browsers send by themselves). The stream ends when the caller's token expires, at the
latest after an hour; the client then reconnects and is authenticated again.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from flamecrest.server.auth.port import Verb
from flamecrest.server.errors import Field, Invalid
from flamecrest.server.files.values import FollowPosition
from flamecrest.server.http.core.exchange import RESUMABLE
from flamecrest.wire.json import dumps

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from flamecrest.server.files.port import Files
    from flamecrest.server.files.values import FollowEvent
    from flamecrest.server.http.core.route import Call

HEARTBEAT: Final = 15.0  # seconds without an event, after which a comment keeps proxies from closing the connection
MAX_STREAM: Final = 3600.0  # seconds
RETRY: Final = b"retry: 1000\n\n"  # milliseconds after which a browser reconnects

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
_HEADERS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
)


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
    allowed = await call.allow(Verb.FILES_READ)
    files = allowed.files(path=path)
    return TailResponse(call, files, path, lines=DEFAULT_LINES if count_lines is None else count_lines, after=after)


class TailResponse(Response):
    """Sends what is added to a file. It is opened before the headers are sent, so an error can be the response."""

    def __init__(self, call: Call, files: Files, path: str, *, lines: int, after: FollowPosition | None) -> None:
        super().__init__()
        self._following = files.queries.follow(path, call.deadline, lines=lines, after=after)
        left = call.identity.expires - time.time() if call.identity.expires else MAX_STREAM
        self._until = time.monotonic() + min(MAX_STREAM, max(0.0, left))

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Send events until the stream ends; cancelled when the client disconnects, and when the gateway stops."""
        scope[RESUMABLE] = True
        async with self._following as pieces:
            await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
            await send({"type": "http.response.body", "body": RETRY, "more_body": True})
            quiet_since = time.monotonic()
            async for piece in pieces:
                now = time.monotonic()
                if now >= self._until:
                    break
                if piece is None and now - quiet_since < HEARTBEAT:
                    continue
                quiet_since = now
                body = b": still here\n\n" if piece is None else event_bytes(piece)
                await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def event_bytes(piece: FollowEvent) -> bytes:
    """Encode one event: unnamed for added text, else `truncated` or `rotated`. JSON contains no newline."""
    position = piece.position
    data = dumps({"content": piece.text, "startPosition": piece.start, "endPosition": position.offset})
    kind = b"" if piece.event == "added" else b"event: %b\n" % piece.event.encode("ascii")
    return b"id: %x-%x\n%bdata: %b\n\n" % (position.ino, position.offset, kind, data)
