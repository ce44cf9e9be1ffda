"""One request and its response on their way through the application: messages, clocks, access log. Knows no route."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from typing import TYPE_CHECKING, Final, Literal

from starlette.exceptions import HTTPException

from flamecrest.server.errors import GatewayError, Invalid, Timeout, Unavailable
from flamecrest.server.http.access.refused_tokens import HELD_BACK
from flamecrest.server.http.core.caller_deadline import REQUEST_TIMEOUT
from flamecrest.server.http.core.errors import error_response
from flamecrest.server.http.core.fair_use import ADMISSION
from flamecrest.server.http.core.responses import ADDED_HEADERS, PAGE, RESUMABLE
from flamecrest.server.http.core.user_memory import COUNTED
from flamecrest.server.telemetry.trace import Trace, log_request

from .forwarded import FORWARDED
from .framing import MAX_HEADERS, NEVER_READ, NOTED, VALID_ID, head_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Message, Receive, Scope, Send

    from .disconnect import RequestMonitor

CONTRACT_VERSION: Final = "2.5.7"  # the FirecREST release whose API this is; clients adapt their requests to it
PROGRESS: Final = 4096  # bytes within the stall timeout below which a client stalls
LINGER_SECONDS: Final = 10.0  # longest time for which the rest of a body is discarded after the response
LINGER_SILENCE: Final = 2.0  # the same without a byte
PIECE: Final = 256 * 1024  # bytes of a response that are given to the server at once; it can hold them for long
DENIALS: Final = frozenset({401, 403})  # statuses
TRACE_CONTEXT: Final = frozenset({b"traceparent", b"tracestate"})
SMALL_BODY: Final = 1024 * 1024  # bytes of an unread body that do not end the connection

_MAX_LOGGED: Final = 1024  # bytes of a header's value
_FIXED: Final = (
    (b"server", b"flamecrest"),
    (b"f7t-appversion", CONTRACT_VERSION.encode()),
    (b"x-content-type-options", b"nosniff"),
)
# For responses that are no pages: a file that a browser shows in spite of all runs no script and is in no frame.
_NO_PAGE: Final = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; sandbox")
_FIXED_NO_PAGE: Final = (*_FIXED, _NO_PAGE)
_CLOSE: Final = (b"connection", b"close")
_CLIENT_CLOSED: Final = 499  # in the access log only: the client has disconnected
_DISCONNECT: Final = {"type": "http.disconnect"}

log = logging.getLogger("flamecrest.http")


class Exchange:
    """One request and its response. Cancels its task if the client disconnects or stalls before the response ends.

    `error` is why the request must be refused, `forwarded` whether it has headers of a proxy, and `unread` whether some
    of its body may not have been received yet. A client stalls if the gateway waits for it and less than PROGRESS bytes
    come or go within `stall_timeout` seconds.
    """

    __slots__ = (
        "_begun", "_coding", "_empty", "_expects", "_hosts", "_length", "_listener", "_monitor", "_moved",
        "_moved_before", "_receive", "_received", "_responded", "_scope", "_send", "_stall_timeout", "_started",
        "_task", "_waited_since", "_waiting", "ended", "error", "forwarded", "port", "trace", "unread",
    )  # fmt: skip

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, monitor: RequestMonitor, stall_timeout: float
    ) -> None:
        task = asyncio.current_task(monitor.loop)
        if task is None:  # the application runs in another event loop now
            monitor.timer = None
            task = asyncio.current_task()
        assert task is not None  # noqa: S101 -- a coroutine runs in a task
        if monitor.timer is None:
            monitor.start(task.get_loop())
        monitor.new.add(self)
        self._begun = time.perf_counter()
        client = scope.get("client")
        self.port: int | str = client[1] if client else 0
        self._scope = scope
        self._receive = receive
        self._send = send
        self._monitor = monitor
        self._stall_timeout = stall_timeout
        self._task = task
        self._length = -1  # bytes of the request body by Content-Length; -1 if that is not given
        self._expects = self.forwarded = False
        self._hosts: list[bytes] = []
        self._coding = request_id = correlation_id = b""
        size = 0  # bytes of the headers
        for name, value in scope["headers"]:
            size += len(name) + len(value)
            if name in NOTED:
                if name == b"x-request-id" and VALID_ID.fullmatch(value):
                    request_id = value
                elif name == b"x-correlation-id" and VALID_ID.fullmatch(value):
                    correlation_id = value
                else:
                    self._note(name, value)
        made = request_id.decode() or random.randbytes(16).hex()  # noqa: S311 -- not a secret
        self.trace = Trace(made, correlation_id.decode() or made, scope["method"])
        self.unread = (self._length > 0 or self._coding != b"") and scope["method"] not in NEVER_READ
        self.error: GatewayError | HTTPException | None = None  # why the request must be refused
        version = scope.get("http_version", "1.1")
        plain = len(self._hosts) == 1 and not self._coding and version == "1.1" and size <= MAX_HEADERS
        if not plain or self._hosts[0] != monitor.host:
            self.error = head_error(self._hosts, self._coding, self._length, version, size)
            if self.error is None and version == "1.1":
                monitor.host = self._hosts[0]
        self._empty = not self.unread  # whether the end of a request without a body was not delivered yet
        self._listener: asyncio.Task[None] | None = None
        self._started = self._responded = self._waiting = False
        self.ended: Literal["", "disconnected", "stalled", "stopped"] = ""
        self._received = 0  # bytes of the request body
        self._moved = self._moved_before = 0  # bytes received and sent, now and at the last progress
        self._waited_since = 0.0  # loop time of the last progress

    def _note(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self._hosts.append(value)
        elif name == b"content-length":
            self._length = int(value) if value.isdigit() else -1
        elif name == b"transfer-encoding":
            self._coding += b"," + value if self._coding else value
        elif name == b"request-timeout":
            self._scope[REQUEST_TIMEOUT] = value
        elif name == b"expect":
            self._expects = value.lower() == b"100-continue"
        elif name in FORWARDED:
            self.forwarded = True

    # Called by the application

    async def receive(self) -> Message:
        """Receive a message of the request. While `check` listens, only a disconnect is delivered.

        Before that the end of an empty body is: the listener has received it in place of a handler that reads late.
        A body that ends before its Content-Length is reached is a disconnect. One that has reached it is complete:
        granian gives the end in a message of its own, which costs two changes of threads.
        """
        empty, self._empty = self._empty, False
        if self._listener is not None:
            if empty and not self.ended:
                return {"type": "http.request", "body": b"", "more_body": False}
            await asyncio.wait((self._listener,))
            return _DISCONNECT
        self._waiting = self.unread  # else the caller waits for a disconnect
        message = await self._receive()
        self._waiting = False
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self._received += size
            self._moved += size
            if message.get("more_body", False):
                if self._received != self._length:
                    return message
                message["more_body"] = False
            elif self._received < self._length and not self._responded:
                message = _DISCONNECT
        self.unread = False
        return message

    async def send(self, message: Message) -> None:
        """Send a message of the response, with the headers that every response has."""
        trace = self.trace
        if message["type"] == "http.response.start":
            self._started = True
            trace.status = message["status"]
            headers = message["headers"]
            request_id = trace.request_id.encode()
            correlation_id = request_id if trace.correlation_id is trace.request_id else trace.correlation_id.encode()
            headers += _FIXED if PAGE in self._scope else _FIXED_NO_PAGE
            headers.append((b"f7t-timestamp", b"%.6f" % time.time()))
            headers.append((b"x-request-id", request_id))
            headers.append((b"x-correlation-id", correlation_id))
            if ADDED_HEADERS in self._scope:
                headers += self._scope[ADDED_HEADERS]
            if trace.user is not None:
                headers.append((b"f7t-authusername", trace.user.encode("ascii", "replace")))
            if (
                (self._monitor.closing_until != 0.0 and self._closing())
                or (self.error is not None and self._coding)
                or (self.unread and (self.ended or self._expects or not 0 <= self._length <= SMALL_BODY))
            ):
                headers.append(_CLOSE)  # others wait, or the end of the body is not certain, or not worth waiting for
            await self._send(message)
            return
        body = message.get("body", b"")
        if type(body) is not bytes:
            message["body"] = body = bytes(body)  # the server takes nothing else
        trace.sent += len(body)
        sent = 0
        self._waiting = True
        while len(body) - sent > PIECE:
            await self._send({"type": "http.response.body", "body": body[sent : sent + PIECE], "more_body": True})
            sent += PIECE
            self._moved += PIECE
        if not message.get("more_body", False):
            self._responded = True
        if sent:
            message["body"] = body = body[sent:]
        await self._send(message)
        self._waiting = False
        self._moved += len(body)

    def _closing(self) -> bool:
        """Whether the connection must be closed after the response, because others wait to be accepted."""
        return self._task.get_loop().time() < self._monitor.closing_until

    # Called by the edge

    async def fail(self, error: Exception) -> None:
        """Send the response to an error. One that has begun stays incomplete: the server closes the connection."""
        if self._started or not isinstance(error, GatewayError | HTTPException):
            what = "answer cut off half-way" if self._started else "unexpected error"
            log.error("%s", what, exc_info=error)
        response = error_response(error)
        if not self._started:
            await response(self._scope, self.receive, self.send)

    async def after_cancel(self) -> None:
        """Respond as the reason for the cancellation demands. Raises CancelledError if it is not the exchange's own."""
        if not self.ended:
            raise asyncio.CancelledError
        self._task.uncancel()
        self._waiting = False
        if self.ended == "disconnected":
            self.trace.status = _CLIENT_CLOSED
        elif self.ended == "stalled":
            if self._started:
                self.trace.error = "Stalled"
                log.warning("connection ended: the client has stopped reading the response")
            else:
                await self.fail(Timeout("The body of the request did not arrive in time"))
        elif not self._started:
            await self.fail(stopping())
        elif self._scope.get(RESUMABLE) and not self._responded:
            with contextlib.suppress(asyncio.TimeoutError):
                async with asyncio.timeout(1):
                    await self.send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            self.trace.error = "Stopped"

    async def client_closed(self) -> None:
        """Note that no more of the body comes: the client has gone, or the framing is broken, which gets a response."""
        self.unread = False
        if not self._started:
            await self.fail(Invalid("The body of the request is malformed, or ended early"))
        self.trace.status, self.trace.error = _CLIENT_CLOSED, None

    def close(self, path: str, logged_headers: Mapping[bytes, str] | None = None) -> None:
        """Stop listening for a disconnect, measure, and write the access log line, with these request headers."""
        if logged_headers:
            self.trace.headers = _selected(self._scope, logged_headers)
        self._monitor.new.discard(self)
        self._monitor.old.discard(self)
        if self._listener is not None:
            self._listener.cancel()
            self._listener = None  # its traceback refers to this exchange
        if ADMISSION in self._scope:
            self._scope[ADMISSION].end(self._moved)
        route = self._scope.get("route")
        if route is not None:
            self.trace.route = route.path
        if self.trace.decisions is not None or self.trace.status in DENIALS:
            self._audit()
        seconds = time.perf_counter() - self._begun
        if (metrics := self._monitor.metrics) is not None:
            metrics.ended(self.trace, seconds, self._received)
        if (tracer := self._monitor.tracer) is not None:
            tracer.ended(self.trace, self._begun, _trace_context(self._scope))
        log_request(self.trace, seconds, path)

    def _audit(self) -> None:
        """Give the request to the audit log, if there is one."""
        gateway = getattr(self._scope["app"], "gateway", None)
        if gateway is not None and gateway.audit is not None:
            client = self._scope.get("client")
            gateway.audit.ended(self.trace, client[0] if client else "")

    async def linger(self) -> None:
        """Discard the rest of an unread body for a while, so that the client can read the response.

        If the connection were closed at once, the client's system would discard the response with it.
        """
        if not self.unread or not self._responded or self.ended or self._expects:
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + LINGER_SECONDS
        # granian cancels the task when it stops, and would log a cancellation that is passed on
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            while (now := loop.time()) < until:
                async with asyncio.timeout_at(min(until, now + LINGER_SILENCE)):
                    message = await self._receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return

    def release(self) -> None:
        """Forget the server's `receive` and `send`. No more can be received or sent.

        Both refer to the same object of granian's. While anything refers to that, granian keeps the connection of a
        body that was not read open, and reads nothing: the client waits. An error that is kept refers to the frames
        that it has passed, and so to this object.
        """
        self._receive, self._send = _nothing_more, _to_nobody

    # Called by the monitor

    def check(self, now: float) -> None:
        """Listen for a disconnect if that is possible, and end the request if its client stalls.

        While the handler reads the body it receives a disconnect itself, and listening could lose a chunk of the body.
        """
        if self._listener is None and not self.unread:
            self._listener = self._task.get_loop().create_task(self._listen())
        if not self._waiting or not self._waited_since or self._moved - self._moved_before >= PROGRESS:
            self._waited_since, self._moved_before = now, self._moved
        elif now - self._waited_since >= self._stall_timeout:
            self._end("stalled")

    @property
    def busy(self) -> bool:
        """Whether the gateway works on it: its user is known, or its response has not begun and is not held back."""
        return COUNTED in self._scope or not (self._started or HELD_BACK in self._scope)

    @property
    def resumable(self) -> bool:
        """Whether the response may end at any time, because the client resumes it."""
        return bool(self._scope.get(RESUMABLE))

    def stop(self) -> None:
        """End the request because the gateway stops."""
        self._end("stopped")

    def _end(self, reason: Literal["disconnected", "stalled", "stopped"]) -> None:
        if not self.ended:
            self.ended = reason
            self._task.cancel()

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._responded:
            self._end("disconnected")


async def _nothing_more() -> Message:
    return _DISCONNECT


async def _to_nobody(_message: Message) -> None: ...


def stopping() -> Unavailable:
    """The error for requests that come, or are still running, while the gateway stops."""
    return Unavailable("The gateway is being stopped. Send the request again.", retry_after=5)


def _trace_context(scope: Scope) -> dict[str, list[str]]:
    """The headers of https://www.w3.org/TR/trace-context/, with all their values."""
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        if name in TRACE_CONTEXT:
            found.setdefault(name.decode(), []).append(value[:_MAX_LOGGED].decode("latin-1"))
    return found


def _selected(scope: Scope, names: Mapping[bytes, str]) -> dict[str, str]:
    """The request headers to log. Values of a repeated header are joined by commas; long values are cut."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        if name in names:
            key, text = names[name], value[:_MAX_LOGGED].decode("latin-1")
            found[key] = f"{found[key]}, {text}" if key in found else text
    return found
