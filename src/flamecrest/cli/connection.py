"""One HTTP/1.1 connection: its bytes become requests (cycle.py), one after the other; it knows no route.

uvicorn listens, counts and stops; this stands in the place of its protocol (docs/adr/0015). Parsing is httptools'.
"""

from __future__ import annotations

import asyncio
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote

import httptools

from flamecrest.server.http.core.errors import envelope

from .cycle import Cycle

if TYPE_CHECKING:
    from .reception import Reception

MAX_HEAD: Final = 64 * 1024  # bytes of a request's head; the parser itself has no limit
MAX_WAITING: Final = 64 * 1024  # bytes of a body that wait for the application; above this, reading is paused

_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}
# Request headers that the server itself must act on before it calls the application.
_OURS: Final = frozenset({b"expect", b"x-forwarded-for", b"x-forwarded-proto"})


class HttpConnection(asyncio.Protocol):
    """One connection. Pipelined requests are queued, and reading is paused while they wait."""

    __slots__ = (
        "_begun",
        "_client",
        "_expects",
        "_forwarded",
        "_headers",
        "_in_message",
        "_latest",
        "_parser",
        "_pipeline",
        "_read",
        "_reading",
        "_reception",
        "_running",
        "_scheme",
        "_server",
        "_since",
        "_url",
        "_writable",
        "paused",
        "transport",
    )

    def __init__(self, reception: Reception) -> None:
        self._reception = reception
        self._parser = httptools.HttpRequestParser(self)
        # the request before it said "Connection: close"; it is still answered
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._headers: list[tuple[bytes, bytes]] | None = None  # of the head being parsed; None between heads
        self._url = b""
        self._expects = self._forwarded = False
        self._in_message = False
        self._begun = 0  # heads begun in the data being parsed
        self._read = 0  # bytes of the head being parsed
        self._since = 0.0  # when the current head began, else the last activity
        self._running: Cycle | None = None  # the request being answered
        self._latest: Cycle | None = None  # the request whose body is being received
        self._pipeline: deque[Cycle] = deque()
        self._reading = True
        self.paused = False  # writing is paused: the client reads too slowly
        self._writable = asyncio.Event()

    # Called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._server = _address(transport.get_extra_info("sockname"))
        self._client = _address(transport.get_extra_info("peername"))
        self._scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self._reception.enter(self)
        self._since = self._reception.now

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- why it was lost changes nothing
        self._reception.leave(self)
        self._lose()
        self.resume_writing()
        self._latest = None
        del self._parser  # breaks a reference cycle

    def eof_received(self) -> None:
        self._reception.flush()  # the transport closes after this

    def pause_writing(self) -> None:
        self.paused = True
        self._writable.clear()

    def resume_writing(self) -> None:
        self.paused = False
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        began_outside = not self._in_message
        self._begun = 0
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # no upgrades: answered as a plain request
        except httptools.HttpParserError:
            self._refuse(HTTPStatus.BAD_REQUEST, "Invalid HTTP request received.")
            return
        if self._headers is not None:
            if not self._begun:
                self._read += len(data)
            elif self._begun == 1 and began_outside:
                self._read = len(data)
            if self._read > MAX_HEAD:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's headers are too large")

    # Called by the parser

    def on_message_begin(self) -> None:
        self._headers = []
        self._url = b""
        self._expects = self._forwarded = False
        self._in_message = True
        self._begun += 1
        self._read = 0
        self._since = self._reception.now

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self._headers
        if headers is None:
            return  # a trailer
        name = name.lower()
        headers.append((name, value))
        if name in _OURS:
            if name != b"expect":
                self._forwarded = True
            elif value.lower() == b"100-continue":
                self._expects = True

    def on_headers_complete(self) -> None:
        headers, self._headers = self._headers, None
        parser = self._parser
        version = parser.get_http_version()
        raw_path, query = _split(self._url)
        path = raw_path.decode("ascii")
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "server": self._server,
            "client": self._client,
            "scheme": self._scheme,
            "method": parser.get_method().decode("ascii"),
            "root_path": "",
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": headers,
            "state": self._reception.state.copy(),
        }
        keep_alive = version != "1.0" and parser.should_keep_alive()
        cycle = Cycle(self, self._reception, scope, keep_alive=keep_alive, expects=self._expects)
        cycle.forwarded = self._forwarded
        self._latest = cycle
        if self._running is None:
            self._running = cycle
            self._reception.start(cycle)
        else:
            self._pipeline.append(cycle)
            self.pause_reading()

    def on_body(self, body: bytes) -> None:
        cycle = self._latest
        if cycle is None or cycle.complete:
            self._since = self._reception.now  # refused already; a client that goes on sending is not idle
        elif cycle.feed(body) > MAX_WAITING:
            self.pause_reading()

    def on_message_complete(self) -> None:
        self._in_message = False
        if self._latest is not None:
            self._latest.end_of_body()

    # Called by the cycle

    async def drain(self) -> None:
        """Wait until the transport takes more data."""
        await self._writable.wait()

    def pause_reading(self) -> None:
        """Pause reading until the application asks for more."""
        if self._reading and not self.transport.is_closing():
            self._reading = False
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Resume reading."""
        if not self._reading and not self.transport.is_closing():
            self._reading = True
            self.transport.resume_reading()

    def answered(self) -> None:
        """The response of the running request is complete: start the next one."""
        self._running = None
        if self.transport.is_closing():
            return
        if self._pipeline:
            self._running = self._pipeline.popleft()
            self._reception.start(self._running)
            if self._pipeline:
                return
        else:
            self._since = self._reception.now
        if not self._reading:
            self.resume_reading()

    # Called by the reception

    def shutdown(self) -> None:
        """Close now if idle, else when the requests received so far are answered."""
        if self._running is None:
            self._reception.flush()  # its response may still be held back
            self.transport.close()
        elif self._latest is not None:
            self._latest.keep_alive = False

    def look(self, head_patience: float, idle_patience: float) -> None:
        """Close if the head, or the next request, takes too long."""
        if self._running is not None:
            return
        waited = self._reception.now - self._since
        if self._headers is not None or self._latest is None:
            if waited >= head_patience:
                self._refuse(HTTPStatus.REQUEST_TIMEOUT, "The request did not come in time")
        elif waited >= idle_patience:
            self.transport.close()

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Answer with an error and close. If another response has begun, only close."""
        self._headers = None
        self._reception.flush()  # earlier responses first
        if self.transport.is_closing():
            return
        running = self._running
        if not self._pipeline and (running is None or not running.started):
            answer = envelope(status, message)
            lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode(), b"connection: close"]
            lines += [name + b": " + value for name, value in answer.raw_headers]
            self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + bytes(answer.body))
        self._lose()
        self.transport.close()

    def _lose(self) -> None:
        """Drop all requests; their clients have disconnected."""
        for cycle in (self._running, *self._pipeline):
            if cycle is not None:
                cycle.lose()
        self._pipeline.clear()


def _split(url: bytes) -> tuple[bytes, bytes]:
    """Split the request target into path and query."""
    if url[:1] == b"/" and b"#" not in url:
        path, _, query = url.partition(b"?")
        return path, query
    parsed = httptools.parse_url(url)
    if parsed.path is None:
        raise ValueError("a target without a path")
    return parsed.path, parsed.query or b""


def _address(found: Any) -> tuple[str, int] | None:
    """Host and port of one end of the connection; None if it has none."""
    return (str(found[0]), int(found[1])) if isinstance(found, tuple) else None
