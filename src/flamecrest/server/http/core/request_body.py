"""Reads the body of a request chunk by chunk. Knows ASGI messages; nothing of the content."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from flamecrest.server.deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from starlette.requests import Request

    from flamecrest.server.errors import GatewayError


def declared_length(headers: Mapping[str, str]) -> int:
    """The Content-Length in bytes; 0 if there is none, or none that is a number."""
    text = headers.get("content-length", "")
    return int(text[:20]) if text.isdecimal() else 0


class RequestBody:
    """The body of one request; it can be read once.

    timeout: seconds within which each chunk must arrive, else Timeout; None: no limit.
    limit: greatest length in bytes, else the error that `too_large` makes is raised; None: no limit.
    """

    def __init__(
        self,
        request: Request,
        *,
        timeout: float | None,
        limit: int | None = None,
        too_large: Callable[[], GatewayError] | None = None,
    ) -> None:
        self._receive = request.receive
        self._timeout = timeout
        self._limit = limit
        self._too_large = too_large
        self.received = 0  # bytes
        self.complete = False

    async def next_chunk(self) -> bytes | None:
        """The next bytes, None at the end. Raises Timeout, ClientDisconnect, and the error for a body too large."""
        while not self.complete:
            if self._timeout is None:
                message = await self._receive()
            else:
                async with Deadline.after(self._timeout).enforce("Waiting for the next piece of the upload"):
                    message = await self._receive()
            if message["type"] != "http.request":
                raise ClientDisconnect
            self.complete = not message.get("more_body", False)
            chunk: bytes = message.get("body", b"")
            if chunk:
                self.received += len(chunk)
                if self._limit is not None and self._too_large is not None and self.received > self._limit:
                    raise self._too_large()
                return chunk
        return None

    async def chunks(self) -> AsyncGenerator[bytes]:
        """All chunks; raises the errors of `next_chunk`."""
        while (chunk := await self.next_chunk()) is not None:
            yield chunk
