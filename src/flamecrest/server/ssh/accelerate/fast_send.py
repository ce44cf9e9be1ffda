"""Sends a channel's data: cut into messages, encrypted with AES-GCM and written in one call, with few copies.

asyncssh copies every byte about ten times on the way out and writes each message by itself. What cannot be sent
here (another cipher, a key exchange under way) is left to asyncssh.
"""

# ruff: noqa: SLF001 -- asyncssh offers none of this in its public interface

from __future__ import annotations

import asyncio
import os
import struct
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, cast

import asyncssh
from asyncssh.constants import MSG_CHANNEL_DATA, MSG_IGNORE
from asyncssh.encryption import GCMEncryption
from cryptography.hazmat.primitives.ciphers import aead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from asyncssh.crypto.cipher import GCMCipher
    from asyncssh.packet import SSHPacketLogger

_BLOCK, _MIN_PADDING = 16, 4  # bytes; a packet is a multiple of the first (RFC 4253, section 6)
_RANDOM: Final = 4096  # bytes that are read at once: reading them is a system call, and gives the interpreter away
_LENGTH: Final = struct.Struct(">I")
_HEAD: Final = struct.Struct(">BBII")  # padding length, message type, channel, data length


def install(connection: asyncssh.SSHClientConnection) -> None:
    """Have the connection send fewer messages in fewer writes, and each new channel send through a FastSender."""
    transport = connection._transport
    if transport is not None and not isinstance(transport, asyncssh.SSHTCPChannel):  # through a jump host: no socket
        connection._transport = BatchedTransport(transport)
    _omit_ignore_messages(connection)
    add = connection.add_channel

    def add_channel(channel: asyncssh.SSHClientChannel[bytes]) -> int:
        number = add(channel)
        # asyncssh formats every message for the log before it checks the log level
        channel.log_received_packet = _log_nothing  # type: ignore[method-assign]
        channel.log_sent_packet = _log_nothing  # type: ignore[method-assign]
        sender = FastSender(connection, channel)
        channel._flush_send_buf = sender.flush  # type: ignore[method-assign]
        channel.write = sender.write  # type: ignore[method-assign]
        return number

    connection.add_channel = add_channel  # type: ignore[method-assign, assignment]


def _omit_ignore_messages(connection: asyncssh.SSHClientConnection) -> None:
    """Do not send the empty IGNORE message that asyncssh puts before every other.

    It protects the last block of a CBC cipher. With the ciphers in use here it only doubles the number of messages.
    """
    send = connection.send_packet

    def send_packet(pkttype: int, *args: bytes, handler: SSHPacketLogger | None = None) -> None:
        if pkttype != MSG_IGNORE:
            send(pkttype, *args, handler=handler)

    connection.send_packet = send_packet  # type: ignore[method-assign]


def _log_nothing(pkttype: int, pktid: int | None, packet: object, note: str = "") -> None:
    pass


class FastSender:
    """Sends what a channel has in its buffer, as far as the receiver's window reaches.

    It belongs to its channel and does not keep it: a channel is freed when it is closed, not by the garbage collector.
    """

    def __init__(self, connection: asyncssh.SSHClientConnection, channel: asyncssh.SSHClientChannel[bytes]) -> None:
        self._connection = connection
        self._channel = cast("Callable[[], Any]", weakref.ref(channel))  # calls come through the channel: it is there
        self._class: Any = type(channel)  # whose own methods are called with the channel
        self._cipher: GCMCipher | None = None
        self._aead: aead.AESGCM | None = None  # with the key of `_cipher`
        self._random = b""  # for paddings (RFC 4253, section 6); each byte is used once
        self._used = 0  # bytes of it

    def write(self, data: bytes, datatype: int | None = None) -> None:
        """Send the data as far as the window reaches; asyncssh copies the rest into the channel's buffer.

        Raises BrokenPipeError if the channel is closed for sending.
        """
        channel, sent = self._channel(), 0
        if datatype is None and channel._send_state == "open" and not channel._send_buf:
            sent = self._send(channel, data)
            channel._send_window -= sent
        if sent < len(data):
            self._class.write(channel, memoryview(data)[sent:] if sent else data, datatype)

    def flush(self) -> None:
        """Send what can be sent here; asyncssh sends the rest and does what follows (EOF, close, flow control)."""
        channel = self._channel()
        buffers = channel._send_buf
        while buffers and channel._send_window:
            data, kind = buffers[0]
            sent = self._send(channel, data) if kind is None else 0
            if not sent:
                break
            channel._send_window -= sent
            channel._send_buf_len -= sent
            if sent == len(data):
                del buffers[0]
            else:
                del data[:sent]
        self._class._flush_send_buf(channel)

    def _send(self, channel: asyncssh.SSHClientChannel[bytes], data: bytes | bytearray) -> int:
        """Send as much of the data as possible; the number of bytes sent."""
        connection = self._connection
        cipher = self._ready()
        if cipher is None or self._aead is None or channel._send_chan is None:
            return 0
        encrypt = self._aead.encrypt
        out: list[bytes] = []
        end, at = min(len(data), channel._send_window), 0
        with memoryview(data) as view:
            while at < end and connection._rekey_bytes_sent < connection._rekey_bytes:
                size = min(channel._send_pktsize, end - at)
                padding = -(_HEAD.size + size + _MIN_PADDING) % _BLOCK + _MIN_PADDING
                if self._used + padding > len(self._random):
                    self._random, self._used = os.urandom(_RANDOM), 0
                used, self._used = self._used, self._used + padding
                head = _HEAD.pack(padding, MSG_CHANNEL_DATA, channel._send_chan, size)
                packet = b"".join((head, view[at : at + size], self._random[used : self._used]))
                length = _LENGTH.pack(len(packet))
                out += (length, encrypt(cipher._iv, packet, length))
                cipher._update_iv()
                connection._send_seq = (connection._send_seq + 1) & 0xFFFFFFFF
                connection._rekey_bytes_sent += len(packet)
                at += size
        cast("Any", connection._transport).writelines(out)
        return at

    def _ready(self) -> GCMCipher | None:
        """The cipher in use, if data may be sent now and the cipher is AES-GCM."""
        connection = self._connection
        encryption = connection._send_encryption
        if (
            type(encryption) is not GCMEncryption
            or connection._compressor is not None
            or connection._transport is None
            or not (connection._auth_complete and connection._kex_complete)
            or (connection._rekey_seconds and time.monotonic() >= connection._rekey_time)
        ):
            return None
        cipher = encryption._cipher
        if cipher is not self._cipher:
            self._cipher, self._aead = cipher, aead.AESGCM(cipher._key)
        return cipher


class BatchedTransport(asyncio.Transport):
    """A transport that writes what one turn of the event loop brings in one call. It has the methods asyncssh uses."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._pending: list[bytes | bytearray | memoryview] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writelines((bytes(data),))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send all of these. They must not change afterwards."""
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending += list_of_data

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        if pending and not self._transport.is_closing():
            self._transport.writelines(pending)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._pending.clear()
        self._transport.abort()
