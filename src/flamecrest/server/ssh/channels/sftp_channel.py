"""The channel under SFTP: cuts its bytes into packets. It knows where one ends, and nothing of what it says."""

from __future__ import annotations

import asyncio
import re
import struct
from typing import TYPE_CHECKING

import asyncssh

from flamecrest.server.errors import GatewayError, Unsupported, Upstream
from flamecrest.server.ssh.command_line import MAX_NOISE
from flamecrest.server.ssh.errors import Lost
from flamecrest.server.ssh.pool.connection import MESSAGE

from .sftp_packets import DATA, MAX_PACKET, VERSION

if TYPE_CHECKING:
    from flamecrest.server.ssh.pool.connection import Connection

    from .sftp import Sftp

_U32 = struct.Struct(">I")
_GREETING = re.compile(rb"\0\0[\0-\x03].\x02\0\0\0[\x03-\x06]", re.DOTALL)  # the length, VERSION, and the version
_DATA = struct.Struct(">IBII")  # what stands before the data: the packet's length, DATA, its request, the data's length


class SftpSession(asyncssh.SSHClientSession[bytes]):
    """Cuts the channel's bytes into packets."""

    def __init__(self, sftp: Sftp, connection: Connection, hello: asyncio.Future[bytes]) -> None:
        self._sftp = sftp
        self._connection = connection
        self._hello = hello
        self._buffer = bytearray()
        # an answer of much data is put together once, when it is whole
        self._parts: list[bytes] = []
        self._missing = 0
        self._number = 0

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self._connection.received(len(data))
        if datatype is not None:  # whatever a login script prints to stderr
            return
        if self._missing:
            data = self._behind(data)
            if not data:
                return
        self._buffer += data
        if self._hello.done() or self._greeted():
            self._cut()

    def _cut(self) -> None:
        """Take every whole packet off the front of what has come."""
        buffer = self._buffer
        start, end = 0, len(buffer)
        while end - start >= 5:
            size = _U32.unpack_from(buffer, start)[0]
            if not 1 <= size <= MAX_PACKET:
                self._fail(Upstream("The cluster's SFTP server sent something malformed", detail=f"{size} bytes"))
                return
            if end - start - 4 < size:
                if size > MESSAGE and self._is_data(start, size):
                    start = end
                break
            packet = bytes(memoryview(buffer)[start + 4 : start + 4 + size])
            start += 4 + size
            if packet[0] == VERSION:
                if not self._hello.done():
                    self._hello.set_result(packet)
            elif size >= 5:
                self._sftp.answered(packet)
        if start:
            del buffer[:start]

    def _is_data(self, start: int, size: int) -> bool:
        """Begin to collect the answer to a read, of which only a part is there."""
        if len(self._buffer) - start < _DATA.size or self._buffer[start + 4] != DATA:
            return False
        _, _, self._number, length = _DATA.unpack_from(self._buffer, start)
        if length != size - 9:
            return False
        part = bytes(memoryview(self._buffer)[start + _DATA.size :])
        self._parts, self._missing = [part], length - len(part)
        return True

    def _behind(self, data: bytes) -> bytes:
        """What of the next message does not belong to the answer that is being collected."""
        part = data[: self._missing]
        self._parts.append(part)
        self._missing -= len(part)
        if not self._missing:
            parts, self._parts = self._parts, []
            self._sftp.arrived(self._number, b"".join(parts))
        return data[len(part) :]

    def _greeted(self) -> bool:
        """Whether the server's greeting is there; drops what login scripts print before it."""
        buffer = self._buffer
        greeting = _GREETING.search(buffer)
        if greeting is not None:
            del buffer[: greeting.start()]
            return True
        if len(buffer) > MAX_NOISE:
            self._fail(Upstream("The cluster's SFTP channel does not speak SFTP (does a login script print?)"))
        return False

    def pause_writing(self) -> None:
        self._sftp.pause()

    def resume_writing(self) -> None:
        self._sftp.resume()

    def exit_status_received(self, status: int) -> None:
        # a shell that does not find the program, or a perl that does not find its modules
        if status in {2, 126, 127} and not self._hello.done():
            self._fail(Unsupported("The cluster offers no SFTP: no subsystem, no sftp-server, no perl"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(Lost("The SSH connection was lost", detail=str(exc) if exc else None))

    def _fail(self, error: GatewayError) -> None:
        if not self._hello.done():
            self._hello.set_exception(error)
            self._hello.exception()  # nobody waits for it where the channel never came to be
        self._sftp.lost(error)
        self._sftp.close()
