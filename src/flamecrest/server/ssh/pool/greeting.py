"""What a server sends before the login: lines of text, and its SSH identification (RFC 4253, section 4.2).

A server that takes no more connections sends a line, or nothing, and closes. asyncssh drops such lines.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import asyncssh

MAX_TEXT = 1024  # bytes that are kept


class Greeting:
    """Connects for `asyncssh.connect(tunnel=...)`, over TCP or a jump host, and keeps the server's first lines."""

    def __init__(self, on_identified: Callable[[str], None] | None = None) -> None:
        self.connected = False  # a TCP connection exists, or the jump host has opened one
        self.identification: str | None = None
        self.jump: asyncssh.SSHClientConnection | None = None
        self.address: str | None = None  # one of the server's, to connect to
        self.identified_within: float | None = None  # seconds; None: no limit of its own
        self.patience: asyncio.Timeout | None = None  # that limit, which ends with the identification
        self._on_identified = on_identified
        self._text = b""
        self._transport: asyncio.Transport | None = None
        self._connection: Any = None

    @property
    def text(self) -> str:
        """The text before the identification, in one line."""
        return " ".join(self._text.decode("utf-8", "replace").split())

    async def create_connection(self, factory: Callable[[], Any], host: str, port: int) -> tuple[Any, Any]:
        """Connect, as asyncssh asks of a tunnel: the transport and what the factory made."""

        def watched() -> Any:
            self._connection = connection = factory()
            receive = connection.data_received
            connection.data_received = lambda data, datatype=None: self._receive(receive, data, datatype)
            return connection

        if self.jump is not None:
            made: tuple[Any, Any] = await self.jump.create_connection(watched, host, port)
        else:
            made = await asyncio.get_running_loop().create_connection(watched, self.address or host, port)
            self._transport = made[0]
            if self.identification is not None:
                made[0].set_protocol(self._connection)
        self.connected = True
        return made

    def _receive(self, receive: Callable[..., None], data: bytes, datatype: int | None) -> None:
        if self.identification is None:
            self._text = (self._text + data)[:MAX_TEXT]
            before, found, line = (b"\n" + self._text).partition(b"\nSSH-")
            if (found and b"\n" in line) or len(self._text) == MAX_TEXT:
                self.identification = "SSH-" + line.partition(b"\n")[0].decode("utf-8", "replace").strip()
                self._text = before
                if self.patience is not None:
                    with contextlib.suppress(RuntimeError):  # it has just run out: the login ends in this very moment
                        self.patience.reschedule(None)
                if self._on_identified is not None:
                    self._on_identified(self.identification)
                del self._connection.data_received
                if self._transport is not None:
                    self._transport.set_protocol(self._connection)  # uvloop keeps the method of the protocol
        receive(data, datatype)
