"""One HTTP/1.1 connection: uvicorn's, with limits on a request's head and our error envelope for what is no HTTP."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from flamecrest.server.http.problems import envelope

HEAD_SECONDS: Final = (
    30.0  # in which the head of a request must have come, from the connection's start or its first byte
)
MAX_HEAD: Final = 64 * 1024  # bytes of it; the parser itself has no limit


class Protocol(HttpToolsProtocol):
    """Ends a connection that asks nothing, and one whose request never gets past its headers.

    The head of a request must have come within `head_timeout` seconds of the connection's start or its own first byte.
    """

    def __init__(self, *, head_timeout: float, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._head_timeout = head_timeout
        self._patience: asyncio.TimerHandle | None = None
        self._read = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._patience is not None:
            self._read += len(data)
            if self._read > MAX_HEAD:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's headers are too large")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._patience is None:
            self._begin()

    def on_headers_complete(self) -> None:
        self._end()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; uvicorn's own words would be plain text."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _begin(self) -> None:
        self._read = 0
        self._patience = self.loop.call_later(self._head_timeout, self._waited)

    def _end(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _waited(self) -> None:
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, "The request did not come in time")

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Answer and close; only close where another answer has begun, which this one would get into."""
        self._end()
        if self.transport.is_closing():
            return
        cycle = self.cycle
        if not self.pipeline and (cycle is None or cycle.response_complete or not cycle.response_started):
            answer = envelope(status, message)
            lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode(), b"connection: close"]
            lines += [name + b": " + value for name, value in answer.raw_headers]
            self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + bytes(answer.body))
        self.transport.close()
