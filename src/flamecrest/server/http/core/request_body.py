"""Reads the body of a request chunk by chunk. Knows ASGI messages, and of the content how many values JSON has.

A decoded value takes up to 60 times the memory of its text (`[]`), and while a body is decoded nothing else runs. So
the number of values is limited by the size that a body may have.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Final

from starlette.requests import ClientDisconnect

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Field, Invalid

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from starlette.requests import Request

    from flamecrest.server.errors import GatewayError

# A string or the start of a value. Every match is at least a byte, and none is read twice: linear for any input.
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[,\[{]', re.DOTALL)


def check_values(data: bytes | bytearray, most: int) -> None:
    """Raise Invalid if a JSON text has more than `most` values and names."""
    if 2 * (data.count(b",") + data.count(b"[") + data.count(b"{")) < most:  # those in texts are counted as well
        return
    if sum(1 for _ in islice(_TOKEN.finditer(data), most + 1)) > most:
        message = f"must not have more than {most} values and names"
        raise Invalid(f"`body` {message}", fields=(Field("body", "body", message),))


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
