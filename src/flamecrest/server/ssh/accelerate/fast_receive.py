"""Receives a connection's messages: all that have arrived are taken apart in one pass, with few copies.

asyncssh makes a dozen calls and as many copies for each message. Here two kinds of message are handled, which come
in thousands, under AES-GCM: data, and a larger send window. Every other message goes on to asyncssh unchanged.
"""

# ruff: noqa: SLF001 -- asyncssh offers none of this in its public interface

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import asyncssh
from asyncssh.channel import SSHClientChannel
from asyncssh.constants import MSG_CHANNEL_DATA, MSG_CHANNEL_WINDOW_ADJUST
from asyncssh.encryption import GCMEncryption
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import aead

if TYPE_CHECKING:
    from asyncssh.crypto.cipher import GCMCipher

PORTION = 32 * 1024  # bytes handed to asyncssh at once: it copies all that it holds for every message
_LENGTH: Final = struct.Struct(">I")
_TAG: Final = 16  # bytes after the ciphertext
_HEAD: Final = struct.Struct(">BBII")  # padding length, message type, channel, data length or window size
_OPEN: Final = frozenset({"open", "eof_pending", "eof"})


def install(connection: asyncssh.SSHClientConnection) -> None:
    """Have the connection receive its data through a FastReceiver."""
    connection.data_received = FastReceiver(connection).data_received  # type: ignore[method-assign]
    transport = connection._transport
    if transport is not None and not isinstance(transport, asyncssh.SSHTCPChannel):
        transport.set_protocol(connection)  # uvloop looks `data_received` up when the protocol is set, and never again


class FastReceiver:
    """Takes whole messages off the front of the received data; keeps the rest where asyncssh keeps it."""

    def __init__(self, connection: asyncssh.SSHClientConnection) -> None:
        self._connection = connection
        self._receive_by_asyncssh = connection.data_received
        self._cipher: GCMCipher | None = None
        self._aead: aead.AESGCM | None = None  # with the key of `_cipher`
        self._widened: set[SSHClientChannel[bytes]] = set()  # channels whose send window has grown

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        """Handle received data. `datatype` comes from a jump host's channel and is always None."""
        del datatype
        connection = self._connection
        at = 0
        if connection._recv_handler == connection._recv_packet:
            at = self._complete(data)
        if connection._recv_handler != connection._recv_pkthdr or self._ready() is None:
            self._pass_on(data[at:])
            return
        if connection._inpbuf:
            data, at, connection._inpbuf = connection._inpbuf + data[at:], 0, b""
        connection._reset_keepalive_timer()
        try:
            with memoryview(data) as view:
                at = self._take(view, at)
            if self._widened:
                self._send_more()
        except Exception:  # noqa: BLE001 -- a fault in a channel's session ends the connection, as in asyncssh
            connection.internal_error()
        else:
            if at < len(data):
                self._keep(data[at:])

    def _complete(self, data: bytes) -> int:
        """Give asyncssh the rest of a message that it has begun to read; the number of bytes."""
        connection = self._connection
        missing: int = (
            4 + connection._pktlen + connection._recv_macsize - connection._recv_blocksize - len(connection._inpbuf)
        )
        self._pass_on(data[:missing])
        return missing

    def _pass_on(self, data: bytes) -> None:
        """Give the data to asyncssh, in portions."""
        for start in range(0, len(data), PORTION):
            if self._connection._transport is not None:
                self._receive_by_asyncssh(data[start : start + PORTION])

    def _keep(self, data: bytes) -> None:
        """Keep the beginning of a message in asyncssh's buffer; give asyncssh what cannot be handled here."""
        connection = self._connection
        if connection._transport is None:
            return
        if (
            connection._recv_handler == connection._recv_pkthdr
            and not connection._inpbuf
            and self._ready() is not None
            and (len(data) < _LENGTH.size or _LENGTH.unpack_from(data)[0] <= connection._max_recv_pktlen)
        ):
            connection._inpbuf = data
        else:
            self._pass_on(data)

    def _take(self, view: memoryview, at: int) -> int:
        """Handle whole messages from offset `at` on; the offset behind the last one."""
        connection, end = self._connection, len(view)
        while end - at > _LENGTH.size and connection._transport is not None:
            begin = at + _LENGTH.size
            stop: int = begin + _LENGTH.unpack_from(view, at)[0] + _TAG
            if stop > end:
                break
            if not self._handle(view[at:begin], view[begin:stop]):
                if self._widened:  # in the order in which the messages came
                    self._send_more()
                self._receive_by_asyncssh(bytes(view[at:stop]))
                if connection._recv_handler != connection._recv_pkthdr or connection._inpbuf or self._ready() is None:
                    return stop
            at = stop
        return at

    def _handle(self, length: memoryview, sealed: memoryview) -> bool:
        """Handle one message; False, and nothing done, if asyncssh has to handle it."""
        connection = self._connection
        cipher = self._ready()
        if cipher is None or self._aead is None:
            return False
        if not _HEAD.size + _TAG <= len(sealed) <= connection._max_recv_pktlen + _TAG:
            return False
        try:
            packet = self._aead.decrypt(cipher._iv, sealed, length)
        except InvalidTag:  # asyncssh finds it as well, and ends the connection
            return False
        padding, kind, number, value = _HEAD.unpack_from(packet)
        rest = len(packet) - padding - _HEAD.size
        channel = connection._channels.get(number)
        if type(channel) is not SSHClientChannel:
            return False
        is_data = kind == MSG_CHANNEL_DATA and rest == value <= channel._recv_window and channel._recv_state == "open"
        if not is_data and not (kind == MSG_CHANNEL_WINDOW_ADJUST and rest == 0 and channel._recv_state in _OPEN):
            return False
        cipher._update_iv()
        connection._recv_seq = (connection._recv_seq + 1) & 0xFFFFFFFF
        if is_data:
            channel._accept_data(packet[_HEAD.size : _HEAD.size + value])
        else:
            channel._send_window += value
            self._widened.add(channel)
        return True

    def _send_more(self) -> None:
        """Continue to send on the channels whose window has grown."""
        while self._widened:
            channel = self._widened.pop()
            if channel._recv_state in _OPEN:
                channel._flush_send_buf()

    def _ready(self) -> GCMCipher | None:
        """The cipher of received messages, if it is AES-GCM without compression."""
        connection = self._connection
        encryption = connection._recv_encryption
        if (
            type(encryption) is not GCMEncryption
            or connection._decompressor is not None
            or not connection._auth_complete
        ):
            return None
        cipher = encryption._cipher
        if cipher is not self._cipher:
            self._cipher, self._aead = cipher, aead.AESGCM(cipher._key)
        return cipher
