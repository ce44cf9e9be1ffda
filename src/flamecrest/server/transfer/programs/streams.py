"""A connected socket, read through a buffer."""

from __future__ import annotations

import select
import socket
from contextlib import suppress

PIECE = 256 * 1024  # bytes that are read or written at once


class Broken(Exception):
    """The connection ended, or nothing came in time."""


class Stream:
    """A connection, with or without TLS. Methods raise Broken."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        sock.settimeout(timeout)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        self.buffer = b""

    def read(self, limit: int) -> bytes:
        """At least one byte, at most `limit`."""
        if self.buffer:
            piece, self.buffer = self.buffer[:limit], self.buffer[limit:]
            return piece
        try:
            piece = self.socket.recv(limit)
        except OSError as error:
            raise Broken(str(error)) from None
        if not piece:
            raise Broken("the connection was closed")
        return piece

    def read_exactly(self, size: int) -> bytes:
        """That many bytes."""
        pieces = []
        while size:
            piece = self.read(size)
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def read_head(self, limit: int) -> bytes:
        """The bytes to an empty line, which is included. Raises Broken if there are more than `limit`."""
        head = b""
        while b"\r\n\r\n" not in head:
            if len(head) > limit:
                raise Broken("the head of the request is too large")
            head += self.read(PIECE)
        head, rest = head.split(b"\r\n\r\n", 1)
        self.buffer = rest + self.buffer
        return head + b"\r\n\r\n"

    def send(self, data: bytes | memoryview) -> None:
        """All of the data."""
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Broken(str(error)) from None

    def readable(self) -> bool:
        """Whether something can be read now."""
        pending = getattr(self.socket, "pending", None)
        if self.buffer or (pending is not None and pending()):
            return True
        return bool(select.select([self.socket], [], [], 0)[0])

    def close(self) -> None:
        """End the connection, after what was sent."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
