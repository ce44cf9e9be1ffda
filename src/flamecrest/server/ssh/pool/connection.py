"""A connection in the pool: the channels in use on it, the shared channels that stay open, and its limits.

Also the leases on its channels, by which they are counted.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from flamecrest.server.ssh.channels.agent import Agent
from flamecrest.server.ssh.channels.process import Shell
from flamecrest.server.ssh.channels.sftp import Sftp
from flamecrest.server.ssh.nodes.node import NODE
from flamecrest.server.ssh.transport import SshTransport

from .channel_limit import ChannelLimit, Kind
from .host import Host
from .liveness import Liveness
from .policy import ConnectionState, Hold
from .shared_channel import SharedChannel
from .used_certificates import note_certificate

if TYPE_CHECKING:
    from types import TracebackType

    from flamecrest.server.ssh.credentials.certificates import Certificate

LONG = int(Kind.LONG)
ANY_TIME = -math.inf  # monotonic: before the start of everything, whatever the clock's zero is
AGENT_PAUSE = 30.0  # seconds for which the agent is not started again after it was closed for a command, or ended

S = TypeVar("S", bound=SharedChannel)


class Connection:
    """One user's connection to one host, with the counts that the pool decides by.

    Channels count while they are leased or shared, and until the server has confirmed their end.
    """

    def __init__(self, user: str, host: Host, transport: SshTransport, max_sessions: int | None = None) -> None:
        self.user = user
        self.host = host
        self.transport = transport
        self.opening_sftp = asyncio.Lock()  # held while that shared channel is being opened
        self.opening_agent = asyncio.Lock()
        self.opening_ahead = False  # a shell is being started for the next command
        self.opens: set[type[SharedChannel]] = set()  # shared channels that requests with a lease are opening
        self.liveness = Liveness(transport, host.keep_alive)
        self.node = NODE  # one of its own where the cluster has several
        self.measured = False  # the times that questions take count for the choice of a node
        self.limit = ChannelLimit(max_sessions)
        self.commands = 0  # leased channels of commands
        self.long_commands = 0  # of these, those of Kind.LONG
        self.certificate: Certificate | None = None  # of its login
        self.ends = math.inf  # monotonic time from which it gets no new work
        self.recalled: float | None = None  # monotonic time since which another user waits for its end
        self._recalls: list[Callable[[], None]] = []  # of streams that can end at any time
        self._streams = 0
        self.opened = self._idle_since = time.monotonic()
        self._channels = 0
        self._uses = 0  # of shared channels, now
        self._shared: dict[type, SharedChannel] = {}
        self._agent_after = 0.0  # monotonic time before which the agent is not started again; inf: never
        self._on_free: Callable[[Connection], None] | None = None

    # --- its state

    @property
    def lost(self) -> bool:
        return self.transport.lost

    @property
    def channels(self) -> int:
        return self._channels

    @property
    def in_flight(self) -> int:
        """Requests that use it now."""
        return self._uses + self._channels - self.opening_ahead - len(self._shared)

    @property
    def uses(self) -> int:
        return self._uses

    @property
    def busy(self) -> bool:
        return self._channels - self.opening_ahead > len(self._shared) or self._uses > 0

    @property
    def ahead(self) -> int:
        """Channels of shells that are started, or are being started, for the next command: 0 or 1."""
        return int(self.opening_ahead or Shell in self._shared)

    @property
    def full_of_shared(self) -> bool:
        """Whether shared channels take every channel that the server allows."""
        return self._channels == len(self._shared) >= self.limit.steady

    @property
    def shell_in_the_way(self) -> bool:
        """Whether the shell for the next command takes the last channel that the server allows."""
        return Shell in self._shared and self._channels >= self.limit.steady

    def has_room_ahead(self, now: float) -> bool:
        """Whether a shell may be started for the next command: there is none, and enough is left for others."""
        limit = self.limit.most if self.limit.refused is None else self.limit.now(now)
        free = limit - self._channels
        return free > Kind.SHORT.value and not self.opening_ahead and Shell not in self._shared

    @property
    def idle_since(self) -> float:
        """Monotonic time at which the last use ended."""
        return self._idle_since

    def usable(self, now: float, max_age: float, since: float = ANY_TIME) -> bool:
        """Whether it may get new work: open, answering, not at its end, below `max_age`, opened after `since`."""
        opened = self.opened
        return (
            opened >= since
            and now - opened < max_age
            and now < self.ends
            and not (self.transport.lost or self.liveness.suspected or self.recalled is not None or self.node.avoided)
        )

    def accepts(self, now: float, max_age: float, since: float = ANY_TIME, spare: int = 0) -> bool:
        """Whether it may get new work, has a free channel, and `spare` others stay free."""
        limit = self.limit.most if self.limit.refused is None else self.limit.now(now)
        return self._channels + spare < limit and self.usable(now, max_age, since)

    def state(self, now: float, max_age: float) -> ConnectionState:
        """What the pool's policy needs to know."""
        free = self.limit.now(now) - self._channels
        usable = self.usable(now, max_age)
        return ConnectionState(free, self.busy, usable, now - self._idle_since, now - self.opened)

    def __repr__(self) -> str:
        state = "lost" if self.lost else "suspected" if self.suspected else "busy" if self.busy else "idle"
        counts = f"{self._channels}/{self.limit.now(time.monotonic())} channels, {self.ahead} ahead"
        return f"<{self.user} {state} {counts}, {self._uses} shared>"

    # --- its turn

    def recall(self, now: float) -> None:
        """Take no new work, and end the streams that can be resumed: another user waits for a connection."""
        self.recalled = now
        for callback in tuple(self._recalls):
            callback()

    @property
    def hold(self) -> Hold:
        """How long its work may last."""
        if self._streams == 0:
            return Hold.COMMANDS
        return Hold.RESUMABLE if self._streams == len(self._recalls) else Hold.TRANSFERS

    @contextmanager
    def streaming(self, on_recall: Callable[[], None] | None) -> Iterator[None]:
        """Count a stream; `on_recall` is called when it is to end, once."""
        self._streams += 1
        if on_recall is not None:
            self._recalls.append(on_recall)
            if self.recalled is not None:  # while the stream's channel was being opened
                on_recall()
        try:
            yield
        finally:
            self._streams -= 1
            if on_recall is not None:
                self._recalls.remove(on_recall)

    # --- leases (below) begin and end here

    def begin_channel(self, kind: Kind) -> None:
        """Count a leased channel."""
        if kind:  # not SHARED; an enumeration's members are slow to look up
            self.commands += 1
            self.long_commands += kind == LONG
        if not self._uses and self._channels <= len(self._shared):
            self.transport.heard = time.monotonic()  # silence counts from the first request on
        self._channels += 1

    def end_channel(self, kind: Kind) -> None:
        """Count the end of a leased channel."""
        if kind:
            self.commands -= 1
            self.long_commands -= kind == LONG
        self._channels -= 1
        self._idle_since = time.monotonic()

    def begin_use(self) -> None:
        """Count a use of a shared channel."""
        if not self._uses and self._channels <= len(self._shared):
            self.transport.heard = time.monotonic()
        self._uses += 1
        if self.certificate is not None:
            note_certificate(self.certificate)

    def end_use(self) -> None:
        """Count the end of such a use."""
        self._uses -= 1
        self._idle_since = time.monotonic()

    def channel_accepted(self) -> bool:
        """Whether more channels may be opened now: the server has opened the one that was leased last."""
        limit = self.limit
        if limit.refused is None and self._channels < limit.most:
            return False  # the usual case
        return limit.accept(self._channels, time.monotonic())

    def shared(self, kind: type[S]) -> S | None:
        """The open channel of that class."""
        return cast("S | None", self._shared.get(kind))

    def attach(self, channel: SharedChannel) -> None:
        """Share a channel that was opened, until it closes or is closed for a command."""
        if channel.closed:
            self._note_end(channel)
            return
        self._shared[type(channel)] = channel
        if self.channel_accepted() and self._on_free is not None:
            self._on_free(self)
        self._channels += 1  # the lease on which it was opened ends next
        channel.on_closed = partial(self.detach, channel)

    def take_shell(self, kind: Kind, now: float) -> Shell | None:
        """The shell that was started ahead, no longer shared: the caller leases its channel.

        None if there is none, or if a command of that kind must leave its channel to others.
        """
        limit = self.limit.most if self.limit.refused is None else self.limit.now(now)
        if Shell not in self._shared or self._channels - 1 + kind.value >= limit:
            return None
        shell = cast("Shell", self._shared.pop(Shell))
        self._channels, shell.on_closed = self._channels - 1, None
        shell.let_go.set_result(None)
        return shell

    def close_shell(self) -> None:
        """Close the shell that was started ahead, if there is one."""
        shell = self._shared.pop(Shell, None)  # at once: no command may use a channel that is about to close
        if shell is not None:
            shell.close()

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
        """Whether the agent is not to be started now: it was closed for a command or ended, or it is not ours."""
        return time.monotonic() < self._agent_after

    def pause_agent(self) -> None:
        """Do not start the agent again for a while."""
        self._agent_after = max(self._agent_after, time.monotonic() + AGENT_PAUSE)

    def resume_agent(self) -> None:
        """Let the agent be started again."""
        self._agent_after = 0.0

    def close_shared(self) -> None:
        """Close a shared channel so that a command gets its place.

        The shell for the next command, the agent, or SFTP while it is not in use.
        """
        agent, sftp = self.shared(Agent), self.shared(Sftp)
        if self.shared(Shell) is not None:
            self.close_shell()
        elif agent is not None and not agent.changing:
            self.pause_agent()
            del self._shared[Agent]  # at once: no request may use a channel that is about to close
            agent.close()
        elif sftp is not None and self._uses == 0:
            del self._shared[Sftp]
            sftp.close()

    def _note_end(self, channel: SharedChannel) -> None:
        if isinstance(channel, Agent) and channel.untrusted:
            self._agent_after = float("inf")

    # --- life

    @property
    def suspected(self) -> bool:
        """Whether the server has stopped answering: no new work until it is heard again."""
        return self.liveness.suspected

    def watch(self, now: float) -> bool:
        """Test the connection if it is silent; whether it has become suspected, or has been heard again."""
        before = self.suspected
        self.liveness.watch(now, busy=self.busy)
        return self._changed(before)

    def suspect_if_silent(self, now: float) -> bool:
        """After a timeout: suspect it if it is silent; whether it was not suspected before."""
        before = self.suspected
        if self.liveness.silent(now):
            self.liveness.suspect()
        return self._changed(before)

    def _changed(self, before: bool) -> bool:
        if self.suspected and not before and (agent := self.shared(Agent)) is not None:
            agent.leave()
        return self.suspected is not before

    def close(self) -> None:
        """Close without waiting."""
        self.transport.close()


class LeasedFrom(Protocol):
    """What leases and uses need of their pool."""

    requests_wait: int

    def freed(self, connection: Connection) -> None: ...
    def refused(self, connection: Connection, *, no_process: bool) -> None: ...
    def released(self, connection: Connection) -> None: ...
    def spawn(self, work: Coroutine[Any, Any, None]) -> None: ...


class Lease:
    """One channel of a connection. Call `release` or `release_after` once."""

    __slots__ = ("_kind", "_opens", "_pool", "connection")

    def __init__(
        self, pool: LeasedFrom, connection: Connection, kind: Kind, opens: type[SharedChannel] | None = None
    ) -> None:
        self._pool, self._kind, self._opens = pool, kind, opens
        self.connection = connection
        connection.begin_channel(kind)
        if opens is not None:
            connection.opens.add(opens)

    def accepted(self) -> None:
        """Note that the server has opened the channel."""
        if self.connection.channel_accepted():
            self._pool.freed(self.connection)

    def refused(self, *, no_process: bool = False) -> None:
        """Note that the server has refused the channel, or with `no_process` its program, and release it."""
        self._pool.refused(self.connection, no_process=no_process)
        self.release()

    def release(self) -> None:
        """Give the channel back."""
        self.connection.end_channel(self._kind)
        if self._opens is not None:
            self.connection.opens.discard(self._opens)
        if self._pool.requests_wait:
            self._pool.released(self.connection)

    def release_after(self, cleanup: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Give the channel back when the clean-up has ended, which may outlive the request."""

        async def finish() -> None:
            try:
                await cleanup()
            finally:
                self.release()

        self._pool.spawn(finish())


class SharedUse:
    """One use of a connection's shared channels, for a `with` block. It needs no free channel."""

    __slots__ = ("_pool", "connection")

    def __init__(self, pool: LeasedFrom, connection: Connection) -> None:
        self._pool = pool
        self.connection = connection
        connection.begin_use()

    def __enter__(self) -> Connection:
        return self.connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.end_use()
        if self._pool.requests_wait:
            self._pool.released(self.connection)
