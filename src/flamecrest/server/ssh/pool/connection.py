"""A connection in the pool: the channels in use on it, the shared channels that stay open, and its limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar, cast

from flamecrest.server.ssh.channels.agent import Agent
from flamecrest.server.ssh.channels.sftp import Sftp
from flamecrest.server.ssh.transport import SshTransport

from .host import Host
from .policy import ConnectionState

SILENCE = 1.0  # seconds without data, while an answer is awaited, after which a connection is tested
TEST_INTERVAL = 0.7  # seconds in which a tested connection must answer, twice
AGENT_PAUSE = 30.0  # seconds for which the agent is not started again after it was closed for a command


class SharedChannel(Protocol):
    """A channel that stays open and serves many requests: SFTP, the agent."""

    on_closed: Callable[[], None] | None

    @property
    def closed(self) -> bool: ...

    def close(self) -> None: ...


S = TypeVar("S", bound=SharedChannel)


class Connection:
    """One user's connection to one host, with the counts that the pool decides by.

    Channels count while they are leased or shared, and until the server has confirmed their end.
    """

    def __init__(self, user: str, host: Host, transport: SshTransport, limit: int, *, limit_known: bool) -> None:
        self.user = user
        self.host = host
        self.transport = transport
        self.opening = asyncio.Lock()  # held while a shared channel is being opened
        self.retired = False  # the server has stopped answering: no new work
        self._limit = limit  # channels that the server takes
        self._limit_known = limit_known  # configured or learned; else one more is tried when all are in use
        self._opened = self._idle_since = time.monotonic()
        self._channels = 0
        self._uses = 0  # of shared channels, now
        self._shared: dict[type, SharedChannel] = {}
        self._agent_after = 0.0  # monotonic time before which the agent is not started again; inf: never
        self._tests: tuple[float, int] = (-1, 0)  # keepalive as it is set: seconds, and how many may go unanswered
        self._on_free: Callable[[Connection], None] | None = None

    # --- its state

    @property
    def lost(self) -> bool:
        return self.transport.lost

    @property
    def channels(self) -> int:
        return self._channels

    @property
    def uses(self) -> int:
        return self._uses

    @property
    def busy(self) -> bool:
        return self._channels > len(self._shared) or self._uses > 0

    @property
    def full_of_shared(self) -> bool:
        """Whether shared channels take every channel that the server allows."""
        return self._channels == len(self._shared) >= self._limit

    @property
    def idle_since(self) -> float:
        """Monotonic time at which the last use ended."""
        return self._idle_since

    def usable(self, now: float, max_age: float, since: float = 0.0) -> bool:
        """Whether it may get new work: open, answering, less than `max_age` old and opened after `since`."""
        opened = self._opened
        return opened >= since and now - opened < max_age and not (self.transport.lost or self.retired)

    def accepts(self, now: float, max_age: float, since: float = 0.0) -> bool:
        """Whether it may get new work and has a free channel."""
        return self._channels < self._limit and self.usable(now, max_age, since)

    def state(self, now: float, max_age: float) -> ConnectionState:
        """What the pool's policy needs to know."""
        free = self._limit - self._channels
        usable = self.usable(now, max_age)
        return ConnectionState(free, self.busy, usable, now - self._idle_since, now - self._opened)

    def __repr__(self) -> str:
        testing = self.busy and time.monotonic() - self.transport.heard > SILENCE
        state = "lost" if self.lost else "testing" if testing else "busy" if self.busy else "idle"
        return f"<{self.user} {state} {self._channels}/{self._limit} channels, {self._uses} shared>"

    # --- leases (pool.py) begin and end here

    def begin_channel(self) -> None:
        """Count a leased channel."""
        if not self._uses and self._channels <= len(self._shared):
            self.transport.heard = time.monotonic()  # silence counts from the first request on
        self._channels += 1

    def end_channel(self) -> None:
        """Count the end of a leased channel."""
        self._channels -= 1
        self._idle_since = time.monotonic()

    def begin_use(self) -> None:
        """Count a use of a shared channel."""
        if not self._uses and self._channels <= len(self._shared):
            self.transport.heard = time.monotonic()
        self._uses += 1

    def end_use(self) -> None:
        """Count the end of such a use."""
        self._uses -= 1
        self._idle_since = time.monotonic()

    # --- how many channels the server takes

    def channel_refused(self) -> int:
        """Learn the limit from the refusal of the channel that was begun last; the limit."""
        self._limit, self._limit_known = max(1, self._channels - 1), True
        return self._limit

    def channel_accepted(self) -> bool:
        """Whether the limit was raised: it is not known, and the server took as many channels as it says."""
        if self._limit_known or self._channels < self._limit:
            return False
        self._limit += 1
        return True

    # --- shared channels

    def shared(self, kind: type[S]) -> S | None:
        """The open channel of that class."""
        return cast("S | None", self._shared.get(kind))

    def attach(self, channel: SharedChannel) -> None:
        """Share a channel that was opened, until it closes or is closed for a command."""
        if channel.closed:
            self._note_end(channel)
            return
        self._shared[type(channel)] = channel
        self._channels += 1
        channel.on_closed = partial(self.detach, channel)

    def detach(self, channel: SharedChannel) -> None:
        """Count the end of a shared channel."""
        if self._shared.get(type(channel)) is channel:
            del self._shared[type(channel)]
        self._channels -= 1
        self._note_end(channel)
        if self._on_free is not None and not self.lost:
            self._on_free(self)

    def on_free(self, callback: Callable[[Connection], None]) -> None:
        """Call this whenever a shared channel has closed."""
        self._on_free = callback

    @property
    def agent_paused(self) -> bool:
        """Whether the agent is not to be started now: its program is missing, or it was closed for a command."""
        return time.monotonic() < self._agent_after

    def resume_agent(self) -> None:
        """Let the agent be started again."""
        self._agent_after = 0.0

    def close_shared(self) -> None:
        """Close a shared channel so that a command gets its place: the agent, or SFTP while it is not in use."""
        agent, sftp = self.shared(Agent), self.shared(Sftp)
        if agent is not None and not agent.changing:
            self._agent_after = time.monotonic() + AGENT_PAUSE
            del self._shared[Agent]  # at once: no request may use a channel that is about to close
            agent.close()
        elif sftp is not None and self._uses == 0:
            del self._shared[Sftp]
            sftp.close()

    def _note_end(self, channel: SharedChannel) -> None:
        if isinstance(channel, Agent) and (channel.missing or channel.untrusted):
            self._agent_after = float("inf")

    # --- life

    def silent(self, now: float) -> bool:
        """Whether no data has come for a while."""
        return now - self.transport.heard > SILENCE

    def watch(self, now: float) -> None:
        """Test a silent connection, sooner if an answer is awaited; asyncssh drops it if it does not answer.

        A connection that has just been heard needs no test: to restart a timer with every message costs more than
        the message.
        """
        silent = self.silent(now)
        tests = (TEST_INTERVAL, 1) if silent and self.busy else (self.host.keep_alive, 3) if silent else (0, 3)
        if tests != self._tests and not self.lost:
            self._tests = tests
            self.transport.raw.set_keepalive(*tests)

    def close(self) -> None:
        """Close without waiting."""
        self.transport.close()
