"""One SSH connection to a login node: how it is made, what it carries now, and how its failures are told.

It knows asyncssh and nothing of who waits for it; the pool decides what to do with it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import asyncssh

from flamecrest.server.errors import Unsupported
from flamecrest.server.ssh.errors import ChannelRefused, Lost

if TYPE_CHECKING:
    from flamecrest.server.ssh.channels.agent import Agent
    from flamecrest.server.ssh.channels.sftp import Sftp

SILENCE = 1.0  # seconds without a byte, while something is asked, after which a connection is tested
AGENT_RESTS = 30.0  # seconds without the agent, after it has given way to commands
MESSAGE = 32 * 1024  # bytes of data in one SSH message, at most: OpenSSH's and asyncssh's packet size
TEST_INTERVAL = 0.7  # seconds in which a tested connection must answer, twice


@dataclass(slots=True)
class Traffic:
    """What went between gateway and cluster so far: channels, messages over them, and bytes of data in those."""

    channels_opened: int = 0
    messages_sent: int = 0
    messages_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0


@dataclass(eq=False, slots=True)
class Connection:
    """An open connection with its counts. `limit` is the number of channels the server takes on it."""

    user: str
    raw: asyncssh.SSHClientConnection
    tunnel: asyncssh.SSHClientConnection | None
    limit: int = 10
    limit_known: bool = False  # configured or learned; else more is tried when all are in use
    opened: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)  # when the last byte of an answer came
    idle_since: float = field(default_factory=time.monotonic)
    channels: int = 0  # channels leased or held open now
    shared: int = 0  # uses of the shared SFTP channel under way
    lost: bool = False
    sftp: Sftp | None = None
    agent: Agent | None = None
    agent_missing: bool = False  # the program the agent needs is not there: do not try again
    agent_after: float = 0.0  # monotonic time before which the agent is not started again: it has given way
    testing: bool = False
    tests: tuple[float, int] = (-1, 0)  # seconds between tests that are set now, and how many may go unanswered
    retired: bool = False  # its server has stopped answering: no new work
    on_lost: Callable[[Connection], None] | None = None
    on_free: Callable[[Connection], None] | None = None  # a standing channel has closed
    opening: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)  # of the channels that stand
    traffic: Traffic = field(default_factory=Traffic, repr=False)  # the pool's

    @property
    def standing(self) -> int:
        """Channels that stay open with the connection."""
        return (self.sftp is not None) + (self.agent is not None)

    @property
    def busy(self) -> bool:
        return self.channels > self.standing or self.shared > 0

    def received(self, size: int) -> None:
        """Note a message of that many bytes."""
        self.heard = time.monotonic()
        self.traffic.messages_received += 1
        self.traffic.bytes_received += size

    def send(self, channel: asyncssh.SSHClientChannel[bytes], data: bytes) -> None:
        """Write to a channel; raises OSError or asyncssh.Error when that is closed."""
        self.traffic.messages_sent += 1 + len(data) // MESSAGE
        self.traffic.bytes_sent += len(data)
        channel.write(data)

    def standing_closed(self) -> None:
        """Count the end of a channel that stood open."""
        self.channels -= 1
        if self.on_free is not None and not self.lost:
            self.on_free(self)

    def yield_standing(self) -> None:
        """Close a channel that stands open: the agent's for a while, SFTP's if nobody uses it now."""
        if self.agent is not None and not self.agent.changing:
            self.agent_after = time.monotonic() + AGENT_RESTS
            agent, self.agent = self.agent, None  # at once: nobody may take what is about to close
            agent.close()
        elif self.sftp is not None and self.shared == 0:
            sftp, self.sftp = self.sftp, None
            sftp.close()

    def watch(self, now: float, keep_alive: float) -> None:
        """Test a connection that says nothing, sooner where something was asked; asyncssh drops it if it is silent.

        One that was heard a moment ago needs no test, and a timer started anew with every message costs more than most.
        """
        quiet = now - self.heard > SILENCE
        self.testing = quiet and self.busy
        tests = (TEST_INTERVAL, 1) if self.testing else (keep_alive, 3) if quiet else (0, 3)
        if tests != self.tests and not self.lost:
            self.tests = tests
            self.raw.set_keepalive(*tests)

    def close(self) -> None:
        """Close without waiting."""
        self.lost = True
        self.raw.close()
        if self.tunnel is not None:
            self.tunnel.close()

    def drop(self) -> None:
        """Cut a connection that no longer answers."""
        self.lost = True
        self.raw.abort()
        if self.tunnel is not None:
            self.tunnel.abort()

    def __repr__(self) -> str:
        state = "lost" if self.lost else "testing" if self.testing else "busy" if self.busy else "idle"
        return f"<{self.user} {state} {self.channels}/{self.limit} channels, {self.shared} shared>"


async def open_channel(
    connection: Connection, session: asyncssh.SSHClientSession[bytes], line: bytes | None = None
) -> asyncssh.SSHClientChannel[bytes]:
    """A channel that runs a shell line, or the SFTP subsystem without one.

    ChannelRefused when the server takes no more of them, Unsupported when it has no such subsystem, Lost.
    """
    try:
        if line is None:
            channel, _ = await connection.raw.create_session(lambda: session, subsystem="sftp", encoding=None)
        else:
            # bytes, whatever asyncssh's types say: it sends them as they are, and file names are bytes
            command = cast("str", line)
            channel, _ = await connection.raw.create_session(lambda: session, command, encoding=None)
    except asyncssh.ChannelOpenError as error:
        if connection.lost or connection.raw.is_closed():
            raise Lost("The SSH connection was lost", detail=str(error)) from None
        if line is None and error.code == asyncssh.OPEN_REQUEST_SESSION_FAILED:
            raise Unsupported("The cluster's SSH server offers no SFTP", detail=str(error)) from None
        raise ChannelRefused(error.code) from None
    except (asyncssh.Error, OSError, AttributeError) as error:
        # asyncssh stumbles (AttributeError) over a connection that closes while a channel opens
        raise Lost("The SSH connection was lost", detail=str(error)) from None
    connection.traffic.channels_opened += 1
    return channel
