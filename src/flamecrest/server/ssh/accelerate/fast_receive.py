"""A connection's bytes on their way in: messages taken apart in one go, with few copies.

asyncssh takes a dozen calls and as many copies for each. What is done here is what it does for the two kinds of message
that come in thousands, data and more window, under AES-GCM; all else, and whatever is not as it is known here, goes on
to asyncssh as it came.
"""

# Nothing of this is to be had but from asyncssh's inside: `_known` says whether that is as we know it.
# ruff: noqa: SLF001

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from asyncssh.channel import SSHClientChannel
from asyncssh.constants import MSG_CHANNEL_DATA, MSG_CHANNEL_WINDOW_ADJUST
from asyncssh.crypto.cipher import GCMCipher
from asyncssh.encryption import GCMEncryption
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .tcp import PORTION

if TYPE_CHECKING:
    import asyncssh

_LENGTH: Final = struct.Struct(">I")
_TAG: Final = 16  # bytes behind the encrypted ones
_HEAD: Final = struct.Struct(">BBII")  # the padding's length, the message's type, the channel, a number
_OPEN: Final = frozenset({"open", "eof_pending", "eof"})
_CONNECTION: Final = (
    "_auth_complete",
    "_channels",
    "_decompressor",
    "_inpbuf",
    "_max_recv_pktlen",
    "_pktlen",
    "_recv_blocksize",
    "_recv_encryption",
    "_recv_handler",
    "_recv_macsize",
    "_recv_packet",
    "_recv_pkthdr",
    "_recv_seq",
    "_reset_keepalive_timer",
    "_transport",
    "internal_error",
)
_CHANNEL: Final = ("_accept_data", "_flush_send_buf")  # what it is made of is seen when there is one


def hasten(raw: asyncssh.SSHClientConnection) -> None:
    """Have the connection take what comes in the short way from now on, if that is known."""
    if _known(raw):
        raw.data_received = FastReceiver(raw).received  # type: ignore[method-assign]


def _known(raw: object) -> bool:
    """Whether asyncssh has inside what is used here."""
    return (
        all(hasattr(raw, name) for name in _CONNECTION)
        and all(hasattr(SSHClientChannel, name) for name in _CHANNEL)
        and hasattr(GCMCipher, "_update_iv")
    )


class FastReceiver:
    """Takes messages off the front of what has come. What is left of it is where asyncssh has it, too."""

    def __init__(self, raw: asyncssh.SSHClientConnection) -> None:
        self._raw = raw
        self._whole = raw.data_received
        self._cipher: GCMCipher | None = None
        self._aead: AESGCM | None = None  # the same cipher
        self._widened: set[SSHClientChannel[bytes]] = set()  # those with more window than they know

    def received(self, data: bytes, datatype: int | None = None) -> None:
        """Take what there is."""
        del datatype  # asyncssh passes it to whatever stands between it and a socket; here there is none
        raw = self._raw
        at = self._complete(data)
        if raw._recv_handler != raw._recv_pkthdr or self._ready() is None:
            self._pass(data[at:])
            return
        if raw._inpbuf:
            data, at, raw._inpbuf = raw._inpbuf + data[at:], 0, b""
        raw._reset_keepalive_timer()
        try:
            with memoryview(data) as view:
                at = self._take(view, at)
            self._widen()
        except Exception:  # noqa: BLE001 -- a fault in whoever receives ends the connection, as with asyncssh
            raw.internal_error()
        else:
            self._leave(data[at:])

    def _complete(self, data: bytes) -> int:
        """Give asyncssh the rest of a message that it has begun; how many bytes that are."""
        raw = self._raw
        if raw._recv_handler != raw._recv_packet:
            return 0
        missing: int = 4 + raw._pktlen + raw._recv_macsize - raw._recv_blocksize - len(raw._inpbuf)
        self._pass(data[:missing])
        return missing

    def _pass(self, data: bytes) -> None:
        """Give it to asyncssh; in portions, as it copies all that it has for every message."""
        for start in range(0, len(data), PORTION):
            if self._raw._transport is not None:
                self._whole(data[start : start + PORTION])

    def _leave(self, data: bytes) -> None:
        """Keep the beginning of a message, where asyncssh would; give it all that is not to be taken here."""
        raw = self._raw
        if not data or raw._transport is None:
            return
        if (
            raw._recv_handler == raw._recv_pkthdr
            and not raw._inpbuf
            and self._ready() is not None
            and (len(data) < _LENGTH.size or _LENGTH.unpack_from(data)[0] <= raw._max_recv_pktlen)
        ):
            raw._inpbuf = data
        else:
            self._pass(data)

    def _take(self, view: memoryview, at: int) -> int:
        """Take whole messages, from there on; where those end that are done with."""
        raw, end = self._raw, len(view)
        while end - at > _LENGTH.size and raw._transport is not None:
            begin = at + _LENGTH.size
            stop: int = begin + _LENGTH.unpack_from(view, at)[0] + _TAG
            if stop > end:
                break
            if not self._one(view[at:begin], view[begin:stop]):
                self._widen()  # these came before it
                self._whole(bytes(view[at:stop]))
                if raw._recv_handler != raw._recv_pkthdr or raw._inpbuf or self._ready() is None:
                    return stop
            at = stop
        return at

    def _one(self, length: memoryview, sealed: memoryview) -> bool:
        """Take a message, if it is one of the two kinds and as it should be."""
        raw = self._raw
        cipher = self._ready()
        if cipher is None or self._aead is None or not _HEAD.size + _TAG <= len(sealed) <= raw._max_recv_pktlen + _TAG:
            return False
        try:
            packet = self._aead.decrypt(cipher._iv, sealed, length)
        except InvalidTag:  # asyncssh finds that again, and ends the connection
            return False
        padding, kind, number, value = _HEAD.unpack_from(packet)
        behind = len(packet) - padding - _HEAD.size
        channel = raw._channels.get(number)
        if type(channel) is not SSHClientChannel:
            return False
        if kind == MSG_CHANNEL_DATA and behind == value <= channel._recv_window and channel._recv_state == "open":
            self._count(cipher)
            channel._accept_data(packet[_HEAD.size : _HEAD.size + value])
        elif kind == MSG_CHANNEL_WINDOW_ADJUST and behind == 0 and channel._recv_state in _OPEN:
            self._count(cipher)
            channel._send_window += value
            self._widened.add(channel)
        else:
            return False
        return True

    def _count(self, cipher: Any) -> None:
        cipher._update_iv()
        self._raw._recv_seq = (self._raw._recv_seq + 1) & 0xFFFFFFFF

    def _widen(self) -> None:
        """Have those send that may send more by now."""
        while self._widened:
            channel = self._widened.pop()
            if channel._recv_state in _OPEN:
                channel._flush_send_buf()

    def _ready(self) -> GCMCipher | None:
        """The cipher under which messages come now, if it is the one that is known here."""
        raw = self._raw
        encryption = raw._recv_encryption
        if type(encryption) is not GCMEncryption or raw._decompressor is not None or not raw._auth_complete:
            return None
        cipher = encryption._cipher
        if cipher is not self._cipher:
            self._cipher, self._aead = cipher, AESGCM(cipher._key)
        return cipher
