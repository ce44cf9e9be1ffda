"""An SSH connection as its channels see it: open a channel, send, and count what comes.

It knows asyncssh. It knows neither what the channels carry nor who uses them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

import asyncssh

from flamecrest.server.errors import Unsupported

from .counters import PoolCounters
from .errors import ChannelRefused, Lost

MESSAGE = 32 * 1024  # bytes of data in one SSH message at most: the packet size of OpenSSH and asyncssh


class SshTransport:
    """One connection that has logged in. `tunnel` is the connection to the jump host, if there is one.

    `stall_timeout`: seconds without any progress after which a transfer fails.
    """

    __slots__ = ("_on_lost", "counters", "heard", "held", "lost", "raw", "runs_commands", "stall_timeout", "tunnel")

    def __init__(
        self,
        raw: asyncssh.SSHClientConnection,
        tunnel: asyncssh.SSHClientConnection | None,
        counters: PoolCounters,
        stall_timeout: float,
    ) -> None:
        self.raw = raw
        self.tunnel = tunnel
        self.counters = counters
        self.heard = time.monotonic()  # when data last came
        self.held = 0  # bytes of programs' output that are in memory
        self.lost = False
        self.stall_timeout = stall_timeout
        self.runs_commands = False  # a program of ours has greeted on this connection
        self._on_lost: Callable[[], None] | None = None

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call this once if the connection breaks or the server closes it."""
        self._on_lost = callback

    async def open_channel(
        self, session: asyncssh.SSHClientSession[bytes], line: bytes | None = None
    ) -> asyncssh.SSHClientChannel[bytes]:
        """Open a channel that runs a shell line, or the SFTP subsystem if there is no line.

        Raises ChannelRefused when the server takes no more channels, Unsupported when it has no such subsystem, Lost.
        """
        try:
            if line is None:
                channel, _ = await self.raw.create_session(lambda: session, subsystem="sftp", encoding=None)
            else:
                # asyncssh's types ask for text, but it sends bytes as they are, and file names are bytes
                command = cast("str", line)
                channel, _ = await self.raw.create_session(lambda: session, command, encoding=None)
        except asyncssh.ChannelOpenError as error:
            if self.lost or self.raw.is_closed():
                raise Lost("The SSH connection was lost", detail=str(error)) from None
            if line is None and error.code == asyncssh.OPEN_REQUEST_SESSION_FAILED:
                raise Unsupported("The cluster's SSH server offers no SFTP", detail=str(error)) from None
            raise ChannelRefused(error.code, no_process=error.code == asyncssh.OPEN_REQUEST_SESSION_FAILED) from None
        except (asyncssh.Error, OSError, AttributeError) as error:
            # asyncssh raises AttributeError when the connection closes while a channel is being opened
            raise Lost("The SSH connection was lost", detail=str(error)) from None
        self.counters.channels_opened += 1
        return channel

    def send(self, channel: asyncssh.SSHClientChannel[bytes], data: bytes) -> None:
        """Write to a channel. Raises OSError or asyncssh.Error if it is closed."""
        counters = self.counters
        counters.messages_sent += 1 + len(data) // MESSAGE
        counters.bytes_sent += len(data)
        channel.write(data)

    def received(self, size: int) -> None:
        """Count a message with that many bytes of data. Channels call this for every message."""
        self.heard = time.monotonic()
        counters = self.counters
        counters.messages_received += 1
        counters.bytes_received += size

    def test(self) -> None:
        """Ask the server for a sign of life. `heard` is set by its answer."""
        self.raw.create_task(self.answered())

    async def answered(self) -> None:
        """Return when the server has answered a keep-alive message, or the connection has ended."""
        await self.raw._make_keepalive_request()  # noqa: SLF001 -- the public interface does not tell of the answer
        self.heard = time.monotonic()

    def connection_lost(self) -> None:
        """Handle the end of the connection. Called by asyncssh's client object, once."""
        self.lost = True
        if self.tunnel is not None:
            self.tunnel.close()
        if self._on_lost is not None:
            self._on_lost()

    def close(self) -> None:
        """Close without waiting."""
        self.lost = True
        self.raw.close()
        if self.tunnel is not None:
            self.tunnel.close()

    def abort(self) -> None:
        """Cut a connection that does not answer any more."""
        self.lost = True
        self.raw.abort()
        if self.tunnel is not None:
            self.tunnel.abort()
