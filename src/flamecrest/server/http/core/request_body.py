"""A request's body, piece by piece as it comes; it knows ASGI's messages and nothing of what is in the body."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from flamecrest.server.deadline import Deadline

if TYPE_CHECKING:
    from starlette.requests import Request


class RequestBody:
    """What a client sends. One that sends nothing for `patience` seconds is given up."""

    def __init__(self, request: Request, patience: float) -> None:
        self._receive = request.receive
        self._patience = patience
        self.over = False  # nothing comes any more

    async def next(self) -> bytes | None:
        """The next piece, None at the end; raises Timeout, ClientDisconnect."""
        while not self.over:
            async with Deadline.after(self._patience).enforce("Waiting for the next piece of the upload"):
                message = await self._receive()
            if message["type"] != "http.request":
                raise ClientDisconnect
            self.over = not message.get("more_body", False)
            piece: bytes = message.get("body", b"")
            if piece:
                return piece
        return None
