"""A TCP connection that sends arbitrary bytes, and reads the responses as strictly as RFC 9112 has them."""

from __future__ import annotations

import re
import socket
import struct
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

PATIENCE = 20.0  # seconds within which the server must answer or close; a machine may be slow

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9]) [^\r\n]*")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*)")
_SIZE = re.compile(rb"([0-9A-Fa-f]+)(?:;[^\r\n]*)?")
_LINGER = struct.pack("ii", 1, 0)  # close sends RST


@dataclass(frozen=True, slots=True)
class Answer:
    """One final response."""

    status: int
    headers: dict[str, str]  # lower-case names
    body: bytes
    version: str
    interim: tuple[int, ...] = ()  # the 1xx responses before it

    @property
    def closes(self) -> bool:
        return "close" in self.headers.get("connection", "").lower()


class Malformed(AssertionError):
    """The server sent bytes that are no HTTP response."""


class Wire:
    """One connection. Reading raises TimeoutError after PATIENCE seconds without a byte."""

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    # --- sending

    def send(self, *pieces: bytes) -> bool:
        """Send bytes; False if the server has closed."""
        try:
            for piece in pieces:
                self.socket.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def send_apart(self, pieces: Iterable[bytes], pause: float = 0.0) -> bool:
        """Send each piece as a packet of its own."""
        for piece in pieces:
            if not self.send(piece):
                return False
            if pause:
                time.sleep(pause)
        return True

    def end(self) -> None:
        """Send FIN: no more bytes will come."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Send RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        self.socket.close()

    # --- receiving

    def answer(self, method: str = "GET") -> Answer | None:
        """The next final response; None if the server closes before its first byte."""
        interim: list[int] = []
        while True:
            status, version, headers = self._head() or (0, "", {})
            if not status:
                return None
            if status == 101:
                raise Malformed("the server has switched protocols")
            if status >= 200:
                break
            interim.append(status)
        if "date" not in headers and status < 500:
            raise Malformed("a response without Date (RFC 9110, 6.6.1)")
        return Answer(status, headers, self._body(method, status, headers), version, tuple(interim))

    def answers(self, methods: Iterable[str] = ()) -> list[Answer]:
        """All responses until the server closes. Methods are those of the requests; GET if there are more."""
        found: list[Answer] = []
        of = iter(methods)
        while (answer := self.answer(next(of, "GET"))) is not None:
            found.append(answer)
        return found

    def rest(self) -> bytes:
        """All bytes until the server closes."""
        while self._more():
            pass
        return self._buffer

    def interim(self) -> int:
        """The status of the next response head, which has no body."""
        head = self._head()
        return 0 if head is None else head[0]

    def _head(self) -> tuple[int, str, dict[str, str]] | None:
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                if self._buffer:
                    raise Malformed(f"the connection ended in a head: {self._buffer[:200]!r}")
                return None
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        found = _STATUS.fullmatch(first)
        if found is None:
            raise Malformed(f"no status line: {first[:200]!r}")
        headers: dict[str, str] = {}
        for line in lines:
            field = _FIELD.fullmatch(line)
            if field is None:
                raise Malformed(f"no header field: {line[:200]!r}")
            name, value = field[1].decode().lower(), field[2].decode("latin-1").strip()
            if name in headers and name in {"content-length", "transfer-encoding"}:
                raise Malformed(f"{name} twice")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return int(found[1]), first[:8].decode(), headers

    def _body(self, method: str, status: int, headers: dict[str, str]) -> bytes:
        """The body of a response (RFC 9112, 6.3)."""
        if "transfer-encoding" in headers and "content-length" in headers:
            raise Malformed("Content-Length beside Transfer-Encoding (RFC 9112, 6.2)")
        if method == "HEAD" or status in {204, 304}:
            return b""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return self._chunks()
        if "content-length" in headers:
            return self._exactly(int(headers["content-length"]))
        return self.rest_of_body()

    def rest_of_body(self) -> bytes:
        """A body that ends with the connection."""
        body, self._buffer = self.rest(), b""
        return body

    def _chunks(self) -> bytes:
        body = b""
        while size := self._size():
            body += self._exactly(size)
            if self._exactly(2) != b"\r\n":
                raise Malformed("a chunk is longer than its size")
        while self._line():  # trailers
            pass
        return body

    def _size(self) -> int:
        found = _SIZE.fullmatch(self._line())
        if found is None:
            raise Malformed("no chunk size")
        return int(found[1], 16)

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            if not self._more():
                raise Malformed("the connection ended in a line")
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if not self._more():
                raise Malformed(f"the connection ended {size - len(self._buffer)} bytes before the end of a body")
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _more(self) -> bool:
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            return False
        self._buffer += data
        return bool(data)
