"""A connection of the sandbox's SSH server at the level of bytes, where it can be frozen and cut."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import asyncssh
from asyncssh.channel import SSHServerChannel
from asyncssh.packet import SSHPacket

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncssh.connection import SSHServerConnectionOptions

    from .faults import Faults


class ControlledTransport(asyncio.Transport):
    """A transport for asyncssh that holds back data while it is frozen and closes after an allowance of bytes."""

    def __init__(self, under: asyncio.Transport, allowance: Callable[[int], int]) -> None:
        super().__init__()
        self._under = under
        self._allowance = allowance  # takes a number of bytes, returns how many of them may be sent
        self._held: list[bytes] | None = None

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._held is not None:
            self._held.append(bytes(data))
            return
        allowed = self._allowance(len(data))
        self._under.write(data[:allowed])
        if allowed < len(data):
            self._under.close()

    def freeze(self) -> None:
        if self._held is None and not self._under.is_closing():
            self._held = []
            self._under.pause_reading()

    def thaw(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            if not self._under.is_closing():
                self.write(b"".join(held))
                self._under.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._under.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._under.is_closing()

    def close(self) -> None:
        self._under.close()

    def abort(self) -> None:
        self._under.abort()


class SshdChannel(SSHServerChannel[bytes]):
    """A session channel that accepts commands of any bytes and few environment variables, as OpenSSH does."""

    def _process_exec_request(self, packet: SSHPacket) -> bool:
        command = packet.get_string()
        packet.check_end()
        return self._start_session(command=command.decode("utf-8", "surrogateescape"))

    def _process_env_request(self, packet: SSHPacket) -> bool:
        key, value = packet.get_string(), packet.get_string()
        packet.check_end()
        wanted = key == b"LANG" or key.startswith(b"LC_")  # Debian's AcceptEnv
        if wanted:
            self._env[key] = value
        return wanted


class SshdConnection(asyncssh.SSHServerConnection):
    """A connection that writes to a ControlledTransport and can delay its SSH version string."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: SSHServerConnectionOptions,
        *,
        faults: Faults,
        admit: Callable[[SshdConnection], bytes | None],
        dismiss: Callable[[SshdConnection], None],
    ) -> None:
        super().__init__(loop, options)
        self._faults = faults
        self._admit = admit  # called when TCP has connected; a text refuses the connection
        self._dismiss = dismiss  # called when the connection has ended
        self._controlled: ControlledTransport | None = None
        self._tcp: asyncio.Transport | None = None
        self._greeted = False
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._tcp = cast("asyncio.Transport", transport)
        self._controlled = ControlledTransport(self._tcp, self._allow)
        refusal = self._admit(self)
        if refusal is None:
            if not self._faults.silent:
                self.greet()
        else:
            self._tcp.write(refusal)
            self._tcp.close()

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        if self._greeted:
            super().data_received(data, datatype)
        else:
            self._early += data  # a silent server reads, too

    def connection_lost(self, exc: Exception | None = None) -> None:
        self._dismiss(self)
        if self._greeted:
            super().connection_lost(exc)

    def eof_received(self) -> None:
        if self._greeted:
            super().eof_received()

    def greet(self) -> None:
        """Send the SSH version string, if that has not happened yet."""
        if self._greeted or self._controlled is None:
            return
        self._greeted = True
        if self._faults.penalties:
            self._version = b"OpenSSH_10.0p2 Flamecrest-sandbox"
        super().connection_made(self._controlled)
        early, self._early = self._early, b""
        if early:
            super().data_received(early)

    def freeze(self) -> None:
        """Neither read nor write until thaw()."""
        if self._controlled is not None:
            self._controlled.freeze()

    def thaw(self) -> None:
        if self._controlled is not None:
            self._controlled.thaw()

    def cut(self) -> None:
        """Close the TCP connection immediately."""
        if self._tcp is not None:
            self._tcp.abort()

    def create_server_channel(
        self, encoding: str | None = "", errors: str = "", window: int = 0, max_pktsize: int = 0
    ) -> SshdChannel:
        del encoding, errors
        max_pktsize = max_pktsize or self._max_pktsize
        self._update_recv_pktlen(max_pktsize)
        size = window or self._window
        return SshdChannel(self, self._loop, False, False, False, 0, 0, None, "strict", size, max_pktsize)

    def _allow(self, size: int) -> int:
        faults = self._faults
        if faults.cut_after is None:
            return size
        allowed = min(size, faults.cut_after)
        faults.cut_after -= allowed
        return allowed
