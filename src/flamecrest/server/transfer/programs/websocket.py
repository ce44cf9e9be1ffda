"""WebSocket messages (RFC 6455) on a Stream, without extensions, for both roles. Payloads are read in pieces."""

from __future__ import annotations

import base64
import hashlib
import os
import struct
from contextlib import suppress

from .streams import PIECE, Broken, Stream

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
NORMAL, PROTOCOL_ERROR, TOO_BIG, INTERNAL_ERROR = 1000, 1002, 1009, 1011


class Closed(Exception):
    """The peer has closed the WebSocket."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}".strip())
        self.code = code
        self.text = text


class Violation(Exception):
    """The peer does not keep to the protocol; `code` is what the WebSocket is closed with."""

    def __init__(self, text: str, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(text)
        self.code = code


def accept_key(key: bytes) -> str:
    """The value of Sec-WebSocket-Accept."""
    return base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()  # noqa: S324


class Masking:
    """XOR with a mask of four bytes, from any position."""

    def __init__(self, mask: bytes) -> None:
        self.plain = mask == b"\0\0\0\0"
        self.tables = [bytes(value ^ byte for value in range(256)) for byte in mask]
        self.position = 0

    def apply(self, data: bytes) -> bytes:
        """The data, masked or unmasked."""
        if self.plain:
            return data
        masked = bytearray(data)
        for shift in range(4):
            masked[shift::4] = masked[shift::4].translate(self.tables[(self.position + shift) % 4])
        self.position += len(data)
        return bytes(masked)


class WebSocket:
    """An open WebSocket. A client masks what it sends. Methods raise Broken, Closed and Violation."""

    def __init__(self, stream: Stream, client: bool) -> None:
        self.stream = stream
        self.client = client
        self.left = 0  # bytes of the current frame
        self.final = True  # whether it is the last one of its message
        self.masking = Masking(b"\0\0\0\0")
        self.open = True  # no Close was sent

    def send(self, opcode: int, payload: bytes) -> None:
        """One message, in one frame."""
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", 0x80 | opcode, size | (0x80 if self.client else 0))
        elif size < 65536:
            head = struct.pack("!BBH", 0x80 | opcode, 126 | (0x80 if self.client else 0), size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 127 | (0x80 if self.client else 0), size)
        if self.client:
            mask = os.urandom(4)
            head, payload = head + mask, Masking(mask).apply(payload)
        if size <= PIECE:
            self.stream.send(head + payload)
        else:
            self.stream.send(head)
            self.stream.send(payload)

    def close(self, code: int, text: str) -> None:
        """Send a Close, once."""
        if self.open:
            self.open = False
            self.send(CLOSE, struct.pack("!H", code) + text.encode()[:120])

    def next_message(self) -> int:
        """Wait for a message; its opcode, TEXT or BINARY. Its payload must be read to the end."""
        opcode = self.next_frame()
        if opcode == CONTINUATION:
            raise Violation("a continuation without a message")
        return opcode

    def read(self, limit: int) -> bytes:
        """The next bytes of the message; empty at its end."""
        while not self.left:
            if self.final:
                return b""
            if self.next_frame() != CONTINUATION:
                raise Violation("a message within a message")
        piece = self.stream.read(min(self.left, limit))
        self.left -= len(piece)
        return self.masking.apply(piece)

    def read_message(self, limit: int) -> bytes:
        """The rest of the message."""
        message = b""
        while True:
            piece = self.read(limit + 1 - len(message))
            if not piece:
                return message
            message += piece
            if len(message) > limit:
                raise Violation("the message is too large", TOO_BIG)

    def answer_control(self) -> None:
        """Handle control frames that have come, between two messages that are sent."""
        while self.stream.readable():
            if self.frame_head(*self.stream.read_exactly(2)) is not None:
                raise Violation("a message while the file is sent")

    def next_frame(self) -> int:
        """The opcode of the next data frame; control frames before it are handled."""
        while True:
            opcode = self.frame_head(*self.stream.read_exactly(2))
            if opcode is not None:
                return opcode

    def frame_head(self, first: int, second: int) -> int | None:
        """Read the head of a frame, and a control frame to its end; None for a control frame."""
        opcode, size = first & 0x0F, second & 0x7F
        if first & 0x70 or opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            raise Violation("an unknown kind of frame")
        if bool(second & 0x80) == self.client:
            raise Violation("frames of clients must be masked, and those of servers must not")
        if opcode >= CLOSE and (size > 125 or not first & 0x80):
            raise Violation("an invalid control frame")
        if size == 126:
            (size,) = struct.unpack("!H", self.stream.read_exactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self.stream.read_exactly(8))
        masking = Masking(self.stream.read_exactly(4)) if second & 0x80 else Masking(b"\0\0\0\0")
        if opcode >= CLOSE:
            self.control(opcode, masking.apply(self.stream.read_exactly(size)))
            return None
        self.left, self.final, self.masking = size, bool(first & 0x80), masking
        return opcode

    def control(self, opcode: int, payload: bytes) -> None:
        """Answer a control frame. Raises Closed for a Close."""
        if opcode == PING:
            self.send(PONG, payload)
        elif opcode == CLOSE:
            code = struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else 1005
            with suppress(Broken):
                self.close(NORMAL if code == 1005 else code, "")
            raise Closed(code, payload[2:].decode("utf-8", "replace"))
