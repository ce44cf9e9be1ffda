"""Cycle: one HTTP/1.1 request and its answer, as ASGI has them; it knows its connection and no application.

Head and body of an answer go out in one write: the head waits for the first piece of the body, or for the turn of the
event loop to be over.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from flamecrest.server.http.core.errors import envelope

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message

    from .connection import HttpConnection
    from .reception import Reception

JOINED: Final = 32 * 1024  # bytes: a smaller piece of a body is copied and sent together with the head

_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
_STATUS: Final = {code: f"HTTP/1.1 {code} {_PHRASES.get(code, '')}".encode() for code in range(100, 600)}
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"connection"})
_CONTROLS: Final = bytes({*range(32), 127} - {9})  # bytes that a header must not contain; a tab is allowed in a value
_BODILESS: Final = frozenset({204, 304})
_DISCONNECT: Final = {"type": "http.disconnect"}

log = logging.getLogger("flamecrest.http")


class Cycle:
    """A request that is being answered, or is queued behind another one (pipelining)."""

    __slots__ = (
        "_body",
        "_chunked",
        "_connection",
        "_expects",
        "_head",
        "_left",
        "_lost",
        "_more_body",
        "_news",
        "_reception",
        "_scope",
        "_size",
        "_waiter",
        "complete",
        "forwarded",
        "keep_alive",
        "started",
        "task",
    )

    def __init__(
        self,
        connection: HttpConnection,
        reception: Reception,
        scope: dict[str, Any],
        *,
        keep_alive: bool,
        expects: bool,
    ) -> None:
        self._connection = connection
        self._reception = reception
        self._scope = scope
        self.keep_alive = keep_alive
        self._expects = expects  # the client waits for 100 Continue before it sends the body
        self.forwarded = False  # a proxy's X-Forwarded headers are present
        self.task: asyncio.Task[None] | None = None
        # the request
        self._body: list[bytes] = []
        self._size = 0
        self._more_body = True
        self._news = False  # `receive` has something new to return
        self._waiter: asyncio.Future[None] | None = None
        self._lost = False  # the client has disconnected
        # the answer
        self.started = False
        self.complete = False
        self._head: bytes | None = None  # until it is written
        self._chunked = False
        self._left = 0  # bytes of the response body that Content-Length promises and that are not sent yet

    async def run(self, app: ASGIApp) -> None:
        """Run the application, and end a response that it has left incomplete."""
        try:
            await app(self._scope, self.receive, self.send)
        except BaseException:  # an error of the application must not end the server; a cancellation arrives here too
            log.exception("the application failed")
            await self._give_up()
        else:
            if not self.complete and not self._lost:
                log.error("the application left an answer unfinished")
                await self._give_up()
        finally:
            self._reception.done(self)

    async def _give_up(self) -> None:
        """Answer with an error. If a response has begun, cut the connection, so that it is not taken for complete."""
        self.keep_alive = False
        if not self.started:
            response = envelope(500, "Internal Server Error")
            await self.send({"type": "http.response.start", "status": 500, "headers": response.raw_headers})
            await self.send({"type": "http.response.body", "body": response.body})
        elif not self.complete:
            self.flush()
            self._connection.transport.close()

    # Called by the connection

    def feed(self, piece: bytes) -> int:
        """Append a chunk of the request body; returns the number of bytes that wait to be read."""
        self._body.append(piece)
        self._size += len(piece)
        self._tell()
        return self._size

    def end_of_body(self) -> None:
        """Note the end of the request body."""
        self._more_body = False
        self._tell()

    def lose(self) -> None:
        """Note that the client has disconnected."""
        self._lost = True
        self._tell()

    def flush(self) -> None:
        """Send the response head if it is still held back for the body."""
        head, self._head = self._head, None
        if head is not None and not self._lost:
            self._connection.transport.write(head)

    def _tell(self) -> None:
        self._news = True
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # Called by the application (ASGI)

    async def receive(self) -> Message:
        """ASGI receive: the next chunk of the body, or http.disconnect."""
        if self._expects and not self.started and not self._lost:
            self._connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._expects = False
        if not self._lost and not self.complete:
            self._connection.resume_reading()
            if not self._news:
                self._waiter = self._reception.loop.create_future()
                await self._waiter
        self._news = False
        if self._lost or self.complete:
            return _DISCONNECT
        body, self._body, self._size = self._body, [], 0
        return {
            "type": "http.request",
            "body": body[0] if len(body) == 1 else b"".join(body),
            "more_body": self._more_body,
        }

    async def send(self, message: Message) -> None:
        """ASGI send: the head of the response, or a chunk of its body."""
        if self._connection.paused and not self._lost:
            await self._connection.drain()
        if self._lost:
            return
        kind = message["type"]
        if not self.started:
            if kind != "http.response.start":
                raise RuntimeError(f"expected the head of an answer, not {kind}")
            self._head = self._start(message["status"], message.get("headers", ()))
            self.started = True
            self._reception.hold(self)
            return
        if self.complete or kind != "http.response.body":
            raise RuntimeError(f"did not expect {kind} " + ("any more" if self.complete else "here"))
        more = message.get("more_body", False)
        self._write(message.get("body", b""), more=more)
        if not more:
            self.complete = True
            self._tell()
            if not self.keep_alive:
                self._connection.transport.close()
            self._connection.answered()

    def _start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Build the response head, with Content-Length, chunked encoding, or the end of the connection as framing."""
        lines = [_STATUS[status], *self._reception.preamble()]
        framed = self._scope["method"] == "HEAD" or status in _BODILESS
        close = not self.keep_alive
        self._left = 0
        for given, value in headers:
            name = given.lower()
            if name in _FRAMING:
                if name == b"content-length":
                    self._left = int(value)
                    framed = True
                elif name == b"transfer-encoding":
                    continue  # decided here
                elif b"close" in value.lower():
                    close = True
                    continue
            lines.append(name + b": " + value)
        if close:
            self.keep_alive = False
            lines.append(b"connection: close")
        self._chunked = not framed
        if self._chunked:
            lines.append(b"transfer-encoding: chunked")
        head = b"\r\n".join(lines) + b"\r\n\r\n"
        if len(head) - len(head.translate(None, _CONTROLS)) != 2 * (len(lines) + 1):
            raise RuntimeError("a control character in a header")  # it would start a new header line
        return head

    def _write(self, body: bytes | memoryview, *, more: bool) -> None:
        """Send a chunk of the body, together with the head if that is held back."""
        size = len(body)
        if self._scope["method"] == "HEAD":
            pieces = []
        elif self._chunked:
            pieces = [b"%x\r\n" % size, body, b"\r\n"] if size else []
            if not more:
                pieces.append(b"0\r\n\r\n")
        else:
            if size > self._left or (size < self._left and not more):
                raise RuntimeError("the body is not as long as its content-length")
            self._left -= size
            pieces = [body] if size else []
        if self._head is not None:
            pieces.insert(0, self._head)
            self._head = None
        if size > JOINED:
            self._connection.transport.writelines(pieces)
        elif more or not self.keep_alive:
            self._connection.transport.write(b"".join(pieces))
        else:
            self._reception.post(self._connection.transport, b"".join(pieces))
