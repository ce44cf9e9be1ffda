"""Opening the channels that a user's requests share, SFTP and the agent, on a connection; each is opened once.

What the login does not start is remembered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from flamecrest.server.errors import GatewayError
from flamecrest.server.ssh.pool.connection import Lease

from .channels.agent import Agent
from .channels.process import Shell
from .channels.sftp import Sftp
from .channels.sftp_program import SftpOpener, refuses_commands
from .errors import NO_PROGRAM, ChannelRefused, Lost, NoCommands, NotStarted
from .pool.channel_limit import Kind

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline

    from .login_memory import LoginMemory
    from .pool.connection import Connection
    from .pool.pool import Pool

AGENT_PATIENCE = 0.3  # seconds for which a request waits for the agent's greeting before SFTP serves it


class SharedChannels:
    """Opens SFTP and the agent on the connections of one cluster. The caller has leased a channel."""

    def __init__(self, pool: Pool, sftp: SftpOpener, memory: LoginMemory) -> None:
        self._pool = pool
        self._sftp = sftp
        self._memory = memory

    async def check_commands(self, lease: Lease, refusal: ChannelRefused, deadline: Deadline, what: str) -> None:
        """Release the lease and raise NoCommands if the server refuses every command."""
        connection = lease.connection
        if not refusal.no_process or connection.limit.no_process or connection.transport.runs_commands:
            return
        try:
            async with deadline.enforce(what):
                refused = await refuses_commands(connection.transport, connection.host.login_timeout)
        except BaseException:
            lease.release()
            raise
        if refused:
            lease.release()
            self._memory.note_no_commands(connection.user, refused=True)
            raise NoCommands(detail="the server refuses exec requests")

    async def sftp_on(self, connection: Connection) -> Sftp:
        """The connection's SFTP channel. ChannelRefused, NotStarted, Unsupported or Lost if it cannot be opened."""
        async with connection.opening_sftp:
            if connection.shared(Sftp) is None:
                connection.attach(await self._opened_sftp(connection))
            if (sftp := connection.shared(Sftp)) is None:
                raise Lost("The SSH connection was lost")
            return sftp

    async def _opened_sftp(self, connection: Connection) -> Sftp:
        """A new SFTP channel. A login that hangs is remembered: those that wait for the lock behind it fail at once."""
        user, memory = connection.user, self._memory
        memory.check_sftp(user)
        try:
            sftp = await self._sftp.open(connection.transport, user, connection.host.login_timeout)
        except NotStarted as error:
            if connection.suspected:
                raise
            raise memory.note_sftp(user, error) from None
        memory.note_sftp_opened(user)
        return sftp

    async def agent_on(self, connection: Connection) -> Agent | None:
        """The connection's agent, which may be starting; None if there is none here. ChannelRefused, Lost."""
        async with connection.opening_agent:
            if connection.shared(Agent) is None and not connection.agent_paused:
                agent = Agent(connection.transport)
                try:
                    await agent.open()
                except ChannelRefused as refusal:
                    if not refusal.no_process:
                        raise
                    self._memory.note_no_agent(connection.user)
                    return None
                connection.attach(agent)
                self._pool.spawn(self._start_agent(agent, connection))
                self._pool.spawn(self._sftp_beside(agent, connection))
            return connection.shared(Agent)

    async def _start_agent(self, agent: Agent, connection: Connection) -> None:
        """Start the agent's program, and remember where there is none, before requests go on without it."""
        user, memory = connection.user, self._memory
        error = await agent.start(connection.host.login_timeout)
        if error is None:
            memory.note_agent(user)
            return
        if not (connection.agent_paused or connection.lost or connection.suspected):
            memory.note_no_agent(user)
            memory.note(user, error)
            if not isinstance(error, NO_PROGRAM):
                memory.note_greeting(user)
        await agent.give_up()

    def retry_agent(self, connections: Iterable[Connection]) -> None:
        """Start the agent where it did not start before; requests are served without it meanwhile."""
        for connection in connections:
            if self._takes_another(connection):
                self._memory.note_no_agent(connection.user)  # this is the only attempt for a while
                self._pool.spawn(self._behind(connection, self.agent_on))
                return

    async def _sftp_beside(self, agent: Agent, connection: Connection) -> None:
        """Open SFTP where the agent is slow to start: requests that wait for it need not wait for SFTP, too."""
        await asyncio.wait([agent.started], timeout=AGENT_PATIENCE)
        if agent.started.done() or connection.opening_sftp.locked() or connection.shared(Sftp) is not None:
            return
        if self._takes_another(connection):
            await self._behind(connection, self.sftp_on)

    def _takes_another(self, connection: Connection) -> bool:
        """Whether a channel may be opened that no request waits for: one stays free."""
        return connection.accepts(time.monotonic(), self._pool.limits.age, spare=1)

    async def _behind(self, connection: Connection, open_on: Callable[[Connection], Awaitable[object]]) -> None:
        """Open a shared channel that no request waits for, so nothing is raised."""
        lease = Lease(self._pool, connection, Kind.SHARED)
        try:
            await open_on(connection)
        except ChannelRefused as refusal:
            lease.refused(no_process=refusal.no_process)
            return
        except BaseException as error:
            lease.release()
            if isinstance(error, GatewayError):
                return
            raise
        lease.release()


async def abandon(opening: asyncio.Future[Any]) -> None:
    """End a login whose request ended before it was started. A shared channel stays open, and is not used."""
    with suppress(ChannelRefused, GatewayError):
        opened = await opening
        if isinstance(opened, Shell):
            await opened.end()
        elif isinstance(opened, tuple):
            with opened[0]:
                pass
