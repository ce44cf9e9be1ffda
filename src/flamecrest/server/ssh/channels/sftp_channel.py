"""The channel below SFTP: cuts the received bytes into packets. It does not know what the packets mean."""

from __future__ import annotations

import asyncio
import struct
from typing import Protocol

import asyncssh

from flamecrest.server.errors import GatewayError, Unsupported, Upstream
from flamecrest.server.ssh.errors import Lost, NotStarted
from flamecrest.server.ssh.start_line import MAX_NOISE, MAX_PREAMBLE
from flamecrest.server.ssh.transport import MESSAGE, SshTransport

from .process import MAX_BEGINNING, not_started
from .sftp_packets import DATA, MAX_PACKET, SERVER_HELLO, VERSION

_U32 = struct.Struct(">I")
_DATA = struct.Struct(">IBII")  # before the data: packet length, DATA, request number, data length


class PacketHandler(Protocol):
    """The SFTP client, as its channel sees it."""

    def answered(self, packet: bytes) -> None:
        """Handle a packet, without its length."""

    def data_arrived(self, number: int, data: bytes) -> None:
        """Handle the data that answers a read request."""

    def pause(self) -> None:
        """Stop sending much data: the channel's buffer is full."""

    def resume(self) -> None:
        """Continue."""

    def lost(self, error: Exception | None) -> None:
        """Handle the end of the channel."""

    def close(self) -> None:
        """Close the channel."""


class SftpSession(asyncssh.SSHClientSession[bytes]):
    """Cuts the channel's bytes into packets. `hello` is resolved with the server's VERSION packet."""

    def __init__(self, handler: PacketHandler, transport: SshTransport, hello: asyncio.Future[bytes]) -> None:
        self._handler = handler
        self._transport = transport
        self._hello = hello
        self._buffer = bytearray()
        self._beginning = b""  # of them, once they are cut
        self._noise = 0  # bytes of login scripts that were dropped
        self._errors = bytearray()  # standard error before the server's first packet
        self._status: int | None = None
        # a long DATA packet is joined once, when all its parts have come
        self._parts: list[bytes] = []
        self._missing = 0
        self._number = 0

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self._transport.received(len(data))
        if datatype is not None:  # standard error: text of login scripts
            if not self._hello.done():
                self._errors += data
                del self._errors[:-MAX_PREAMBLE]
            return
        if self._missing:
            data = self._continue_data(data)
            if not data:
                return
        self._buffer += data
        if self._hello.done() or self._greeted():
            self._cut()

    def _cut(self) -> None:
        """Handle every whole packet at the front of the buffer."""
        buffer = self._buffer
        start, end = 0, len(buffer)
        while end - start >= 5:
            size = _U32.unpack_from(buffer, start)[0]
            if not 1 <= size <= MAX_PACKET:
                self._fail(Upstream("The cluster's SFTP server sent something malformed", detail=f"{size} bytes"))
                return
            if end - start - 4 < size:
                if size > MESSAGE and self._begin_data(start, size):
                    start = end
                break
            packet = bytes(memoryview(buffer)[start + 4 : start + 4 + size])
            start += 4 + size
            if packet[0] == VERSION:
                if not self._hello.done():
                    self._hello.set_result(packet)
            elif size >= 5:
                self._handler.answered(packet)
        if start:
            del buffer[:start]

    def _begin_data(self, start: int, size: int) -> bool:
        """Begin to collect a long DATA packet of which a part has come; False if it is another packet."""
        if len(self._buffer) - start < _DATA.size or self._buffer[start + 4] != DATA:
            return False
        _, _, self._number, length = _DATA.unpack_from(self._buffer, start)
        if length != size - 9:
            return False
        part = bytes(memoryview(self._buffer)[start + _DATA.size :])
        self._parts, self._missing = [part], length - len(part)
        return True

    def _continue_data(self, data: bytes) -> bytes:
        """Add to the DATA packet that is being collected; the rest of `data`, behind the packet."""
        part = data[: self._missing]
        self._parts.append(part)
        self._missing -= len(part)
        if not self._missing:
            parts, self._parts = self._parts, []
            self._handler.data_arrived(self._number, b"".join(parts))
        return data[len(part) :]

    def _greeted(self) -> bool:
        """Whether the VERSION packet has begun; drops the text of login scripts before it."""
        buffer = self._buffer
        greeting = SERVER_HELLO.search(buffer)
        if greeting is not None:
            del buffer[: greeting.start()]
            return True
        if len(buffer) > MAX_PREAMBLE:
            self._beginning = self._beginning or bytes(buffer[:MAX_BEGINNING])
            self._noise += len(buffer) - MAX_PREAMBLE
            del buffer[:-MAX_PREAMBLE]
            if self._noise > MAX_NOISE:
                self._fail(self._not_started("prints without end and starts no SFTP server", hung=True))
        return False

    def hung(self, seconds: float) -> NotStarted:
        """The error of a login that has not begun to speak SFTP."""
        return self._not_started(f"did not start an SFTP server within {seconds:g} seconds", hung=True)

    def _not_started(self, how: str, *, hung: bool = False) -> NotStarted:
        return not_started(how, self._beginning or self._buffer, self._errors, status=self._status, hung=hung)

    def pause_writing(self) -> None:
        self._handler.pause()

    def resume_writing(self) -> None:
        self._handler.resume()

    def exit_status_received(self, status: int) -> None:
        self._status = status
        # 126 and 127: the shell did not find the program; 2: perl did not find a module
        if status in {2, 126, 127} and not self._hello.done():
            self._fail(Unsupported("The cluster offers no SFTP: no subsystem, no sftp-server, no perl"))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._status is None or self._hello.done():
            self._fail(Lost("The SSH connection was lost", detail=str(exc) if exc else None))
        else:  # the server runs a subsystem by the login shell, which reads start-up files
            self._fail(self._not_started("ended before an SFTP server could be started"))

    def _fail(self, error: GatewayError) -> None:
        if not self._hello.done():
            self._hello.set_exception(error)
            self._hello.exception()  # not awaited if the channel could not be opened: no warning about that
        self._handler.lost(error)
        self._handler.close()
