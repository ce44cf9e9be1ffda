"""The program of a job that sends a file: by firecrest-streamer's protocol, or in parts over several connections."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
from contextlib import suppress
from typing import Any

from .progress import Meter
from .replacing import Refused, reason
from .requests import Head, answer_json, read_json
from .running import log, run
from .server import serve
from .streams import PIECE, Broken, Stream
from .websocket import BINARY, INTERNAL_ERROR, NORMAL, TEXT, Closed, Violation, WebSocket

MESSAGE = 5 * 1024 * 1024  # bytes of the file in a message: clients of firecrest-streamer accept 6.25 MiB
CLOSE_TIMEOUT = 60.0  # seconds in which the client has to say that it has the file


class Sending:
    """One file, as it was when the job began."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.done = False
        self.fd = os.open(base64.b64decode(options["path"]), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        found = os.fstat(self.fd)
        if not stat.S_ISREG(found.st_mode):
            raise Refused("Not a regular file")
        self.size = found.st_size
        self.identity = identity(found)
        self.meter = Meter(self.size)
        self.sent = 0  # bytes of ranges that were sent

    def discard(self) -> None:
        os.close(self.fd)

    def check_unchanged(self) -> None:
        """Raises Refused if the file has another size or date than at first."""
        if identity(os.fstat(self.fd)) != self.identity:
            raise Refused("The file has changed while it was sent.")

    def read(self, size: int, offset: int) -> bytes:
        """Bytes of the file, as many."""
        piece = os.pread(self.fd, size, offset)
        if len(piece) != size:
            raise Refused("The file has changed while it was sent.")
        return piece

    def finish(self) -> None:
        log(f"{self.size} bytes were sent.")
        self.done = True

    def by_websocket(self, websocket: WebSocket) -> None:
        try:
            self.send(websocket)
        except (Refused, OSError, Violation) as error:
            text = reason(error) if isinstance(error, OSError) else str(error)
            with suppress(Broken):
                websocket.close(INTERNAL_ERROR, json.dumps({"type": "error", "error": text}))
            raise
        except Broken:
            raise_reason(websocket)
            raise

    def send(self, websocket: WebSocket) -> None:
        """The size, the content, the SHA-256. The file has arrived if the client then closes the WebSocket normally."""
        count = -(-self.size // MESSAGE)
        websocket.send(BINARY, json.dumps({"type": "init", "num_chunks": count, "file_size": self.size}).encode())
        digest = hashlib.sha256()
        for offset in range(0, self.size, MESSAGE):
            message = self.read(min(MESSAGE, self.size - offset), offset)
            digest.update(message)
            websocket.send(BINARY, message)
            websocket.answer_control()
            self.meter.note(min(offset + MESSAGE, self.size))
        self.check_unchanged()
        # firecrest-streamer compares the digest, and ends the file, only for exactly this text
        websocket.send(TEXT, b'{"type":"eof","sha256_hash":"%s"}' % digest.hexdigest().encode())
        websocket.stream.socket.settimeout(CLOSE_TIMEOUT)
        try:
            websocket.next_message()
        except Closed as closed:
            if closed.code not in (NORMAL, 1005):
                raise
            self.finish()
        else:
            raise Violation("a message after the end of the file")

    def by_request(self, stream: Stream, head: Head) -> None:
        method, target = head.first[:2]
        if method == "GET" and target == "/transfer":
            answer_json(stream, 200, {"operation": "send", "size": self.size, "identity": self.identity})
        elif method == "GET" and target.startswith("/bytes/"):
            self.get(stream, target[7:])
        elif method == "POST" and target == "/complete":
            wanted = read_json(stream, head)
            try:
                self.check_unchanged()
            except Refused as error:
                answer_json(stream, 409, {"error": str(error)})
                raise
            if wanted.get("size") != self.size:
                answer_json(stream, 409, {"error": "another size"})
                return
            answer_json(stream, 200, {"size": self.size})
            self.finish()
        else:
            answer_json(stream, 404, {"error": "not found; this job sends a file", "operation": "send"})
            raise Broken("a request for something else")

    def get(self, stream: Stream, wanted: str) -> None:
        """The bytes FIRST-END of the file, and then their SHA-256."""
        first, _, end = wanted.partition("-")
        if not (first.isdigit() and end.isdigit() and int(first) < int(end) <= self.size):
            answer_json(stream, 409, {"error": "no such bytes"})
            raise Broken("a request for bytes that are not there")
        digest = hashlib.sha256()
        stream.send(f"HTTP/1.1 200 OK\r\nContent-Length: {int(end) - int(first) + 32}\r\n\r\n".encode())
        for offset in range(int(first), int(end), PIECE):
            piece = self.read(min(PIECE, int(end) - offset), offset)
            digest.update(piece)
            stream.send(piece)
        stream.send(digest.digest())
        self.sent += int(end) - int(first)
        self.meter.note(min(self.sent, self.size))


def identity(found: os.stat_result) -> str:
    """Text that is another one when the content has changed."""
    return f"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}"


def raise_reason(websocket: WebSocket) -> None:
    """Raise Closed if the client has said why it ends the connection."""
    with suppress(Broken, Violation, OSError, ValueError):
        websocket.answer_control()


def main() -> None:
    """Send the file that the environment describes."""
    run(Sending, serve)
