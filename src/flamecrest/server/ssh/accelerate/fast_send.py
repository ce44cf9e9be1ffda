"""A channel's bytes on their way out: cut into messages, encrypted and sent in one go, with few copies.

asyncssh copies every byte about ten times on its way. What is done here is what it does for AES-GCM; wherever anything
is not as it is known here, asyncssh does all of it by itself.
"""

# Nothing of this is to be had but from asyncssh's inside: `_known` says whether that is as we know it.
# ruff: noqa: SLF001

from __future__ import annotations

import os
import struct
import time
from typing import TYPE_CHECKING, Any, Final, cast

from asyncssh.constants import MSG_CHANNEL_DATA
from asyncssh.crypto.cipher import GCMCipher
from asyncssh.encryption import GCMEncryption
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncssh

_BLOCK, _LEAST_PADDING = 16, 4  # bytes: what is encrypted is a multiple of the first
_LENGTH: Final = struct.Struct(">I")
_HEAD: Final = struct.Struct(">BBII")  # the padding's length, the message's type, the channel, the data's length
_CONNECTION: Final = (
    "_auth_complete",
    "_compressor",
    "_kex_complete",
    "_rekey_bytes",
    "_rekey_bytes_sent",
    "_rekey_seconds",
    "_rekey_time",
    "_send_encryption",
    "_send_seq",
    "_transport",
)
_CHANNEL: Final = (
    "_flush_send_buf",
    "_send_buf",
    "_send_buf_len",
    "_send_chan",
    "_send_pktsize",
    "_send_window",
)


def hasten(raw: asyncssh.SSHClientConnection, channel: asyncssh.SSHClientChannel[bytes]) -> None:
    """Have the channel send its data the short way from now on, if that is known."""
    if _known(raw, channel):
        channel._flush_send_buf = FastSender(raw, channel).flush  # type: ignore[method-assign]


def _known(raw: object, channel: object) -> bool:
    """Whether asyncssh has inside what is used here."""
    return (
        all(hasattr(raw, name) for name in _CONNECTION)
        and all(hasattr(channel, name) for name in _CHANNEL)
        and hasattr(GCMCipher, "_update_iv")
    )


class FastSender:
    """Sends what a channel has in its buffer, as far as the other side's window reaches."""

    def __init__(self, raw: asyncssh.SSHClientConnection, channel: asyncssh.SSHClientChannel[bytes]) -> None:
        self._raw = raw
        self._channel = channel
        self._rest: Callable[[], None] = channel._flush_send_buf
        self._cipher: GCMCipher | None = None
        self._aead: AESGCM | None = None  # the same cipher

    def flush(self) -> None:
        """Send in bulk what can be; asyncssh does the rest, and whatever is to be done afterwards."""
        channel = self._channel
        waiting = channel._send_buf
        while waiting and channel._send_window:
            data, kind = waiting[0]
            sent = self._send(data) if kind is None else 0
            if not sent:
                break
            channel._send_window -= sent
            channel._send_buf_len -= sent
            if sent == len(data):
                del waiting[0]
            else:
                del data[:sent]
        self._rest()

    def _send(self, data: bytearray) -> int:
        """Send messages of it; how many bytes went."""
        raw, channel = self._raw, self._channel
        cipher = self._ready()
        if cipher is None or self._aead is None or channel._send_chan is None:
            return 0
        encrypt = self._aead.encrypt
        out: list[bytes] = []
        end, at = min(len(data), channel._send_window), 0
        with memoryview(data) as view:
            while at < end and raw._rekey_bytes_sent < raw._rekey_bytes:
                size = min(channel._send_pktsize, end - at)
                padding = -(_HEAD.size + size + _LEAST_PADDING) % _BLOCK + _LEAST_PADDING
                head = _HEAD.pack(padding, MSG_CHANNEL_DATA, channel._send_chan, size)
                packet = b"".join((head, view[at : at + size], os.urandom(padding)))
                length = _LENGTH.pack(len(packet))
                out += (length, encrypt(cipher._iv, packet, length))
                cipher._update_iv()
                raw._send_seq = (raw._send_seq + 1) & 0xFFFFFFFF
                raw._rekey_bytes_sent += len(packet)
                at += size
        cast("Any", raw._transport).writelines(out)
        return at

    def _ready(self) -> GCMCipher | None:
        """The cipher under which data may go now, if it is the one that is known here."""
        raw = self._raw
        encryption = raw._send_encryption
        if (
            type(encryption) is not GCMEncryption
            or raw._compressor is not None
            or raw._transport is None
            or not (raw._auth_complete and raw._kex_complete)
            or (raw._rekey_seconds and time.monotonic() >= raw._rekey_time)
        ):
            return None
        cipher = encryption._cipher
        if cipher is not self._cipher:
            self._cipher, self._aead = cipher, AESGCM(cipher._key)
        return cipher
