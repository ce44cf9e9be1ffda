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

    from .connection import Connection
    from .reception import Reception

JOINED: Final = 32 * 1024  # bytes of a body that are copied to go out with what is around it; more is not copied

_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
_STATUS: Final = {code: f"HTTP/1.1 {code} {_PHRASES.get(code, '')}".encode() for code in range(100, 600)}
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"connection"})
_CONTROLS: Final = bytes({*range(32), 127} - {9})  # what no header may hold; a tab may stand in a value
_BODILESS: Final = frozenset({204, 304})
_DISCONNECT: Final = {"type": "http.disconnect"}

log = logging.getLogger("flamecrest.http")


class Cycle:
    """A request that is being answered, or waits for its turn."""

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
        self, connection: Connection, reception: Reception, scope: dict[str, Any], *, keep_alive: bool, expects: bool
    ) -> None:
        self._connection = connection
        self._reception = reception
        self._scope = scope
        self.keep_alive = keep_alive
        self._expects = expects  # the client wants a word before it sends the body
        self.forwarded = False  # by a proxy, as its headers say
        self.task: asyncio.Task[None] | None = None
        # the request
        self._body: list[bytes] = []
        self._size = 0
        self._more_body = True
        self._news = False  # there is something that `receive` has not told
        self._waiter: asyncio.Future[None] | None = None
        self._lost = False  # the client
        # the answer
        self.started = False
        self.complete = False
        self._head: bytes | None = None  # until it is written
        self._chunked = False
        self._left = 0  # bytes of the body that are promised and have not come

    async def run(self, app: ASGIApp) -> None:
        """Let the application answer, and make an end of what it leaves undone."""
        try:
            await app(self._scope, self.receive, self.send)
        except BaseException:  # a server outlives its application; and this may be a cancellation
            log.exception("the application failed")
            await self._give_up()
        else:
            if not self.complete and not self._lost:
                log.error("the application left an answer unfinished")
                await self._give_up()
        finally:
            self._reception.done(self)

    async def _give_up(self) -> None:
        """Answer with an error; where an answer has begun, cut the connection, so that nobody takes it for whole."""
        self.keep_alive = False
        if not self.started:
            response = envelope(500, "Internal Server Error")
            await self.send({"type": "http.response.start", "status": 500, "headers": response.raw_headers})
            await self.send({"type": "http.response.body", "body": response.body})
        elif not self.complete:
            self.flush()
            self._connection.transport.close()

    # The connection's side

    def feed(self, piece: bytes) -> int:
        """Take a piece of the body; says how many bytes wait now."""
        self._body.append(piece)
        self._size += len(piece)
        self._tell()
        return self._size

    def end_of_body(self) -> None:
        """Nothing more comes of it."""
        self._more_body = False
        self._tell()

    def lose(self) -> None:
        """The client is gone."""
        self._lost = True
        self._tell()

    def flush(self) -> None:
        """Send the head, if it still waits for a body."""
        head, self._head = self._head, None
        if head is not None and not self._lost:
            self._connection.transport.write(head)

    def _tell(self) -> None:
        self._news = True
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # The application's side

    async def receive(self) -> Message:
        """The next piece of the body, or that nobody waits for the answer any more."""
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
        """Take the head of the answer, or a piece of its body."""
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
        """The head of the answer; how long its body is, or how that will be told."""
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
                    continue  # this is where that is decided
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
            raise RuntimeError("a control character in a header")  # it would begin a line of its own
        return head

    def _write(self, body: bytes | memoryview, *, more: bool) -> None:
        """Send a piece of the body, with the head if that is still here."""
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
