"""Sessions over the pool: run a command, use SFTP, ask the agent.

It maps the failures of channels to errors. The exit status and the output of a program are for the command's parser.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from flamecrest.server.errors import GatewayError, Timeout
from flamecrest.server.ssh.channels.agent import Question, stat_question
from flamecrest.server.telemetry.trace import phase

from .channels.agent import Agent
from .channels.process import RemoteProcess
from .channels.sftp import Sftp
from .channels.sftp_program import SftpOpener
from .channels.stat_command import stat_command
from .channels.stream import MAX_ERRORS, RemoteStream
from .command_line import shell_line
from .errors import ChannelLost, ChannelRefused, Lost
from .pool.channel_limit import SHORT_COMMAND, Kind
from .pool.connection import SharedUse

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.channels.agent import StatNumbers

    from .command import Command, Output
    from .pool.connection import Connection, Lease
    from .pool.pool import Pool

T = TypeVar("T")
A = TypeVar("A")
P = TypeVar("P", bound=RemoteProcess)

LARGE = 1024 * 1024  # bytes of output that are parsed in a thread: the list of 10,000 jobs takes a second


class PooledSessions:
    """The Sessions port over a Pool."""

    def __init__(self, pool: Pool, sftp: SftpOpener | None = None) -> None:
        self.pool = pool
        self._sftp = sftp or SftpOpener()

    def of(self, identity: Identity) -> PooledSession:
        return PooledSession(self.pool, identity, self._sftp)

    async def close(self) -> None:
        await self.pool.close()

    def stats(self) -> Mapping[str, int]:
        return self.pool.stats()


class PooledSession:
    """The Session port: one user over the pool."""

    __slots__ = ("_identity", "_pool", "_sftp_opener")

    def __init__(self, pool: Pool, identity: Identity, sftp_opener: SftpOpener) -> None:
        self._pool = pool
        self._identity = identity
        self._sftp_opener = sftp_opener

    async def _repeat(
        self, work: Callable[[A, Deadline, float], Awaitable[T]], what: A, deadline: Deadline, *, repeatable: bool
    ) -> T:
        """Do the work; if it is `repeatable` and its connection breaks, once more.

        The last argument of the work is a monotonic time: it prefers connections opened after that.
        """
        with phase("ssh"):
            try:
                return await work(what, deadline, 0.0)
            except Lost as error:
                if not repeatable:
                    raise
                since = 0.0 if isinstance(error, ChannelLost) else time.monotonic()
            return await work(what, deadline, since)

    async def _open(
        self, open_on: Callable[[Connection], Awaitable[T]], deadline: Deadline, since: float, what: str, kind: Kind
    ) -> tuple[Lease, T]:
        """Lease a channel and open it; if the server refuses it, wait for another one."""
        again = False
        while True:
            lease = await self._pool.lease(self._identity, deadline, since, kind, again=again)
            opening = asyncio.ensure_future(open_on(lease.connection))
            try:
                async with deadline.enforce(what):
                    return lease, await asyncio.shield(opening)
            except ChannelRefused as error:
                lease.refused(no_process=error.no_process)
                again = True
            except BaseException:
                if opening.done() and (opening.cancelled() or opening.exception() is not None):
                    lease.release()
                else:  # the server may still open the channel, which counts until it has ended
                    lease.release_after(_abandon(opening))
                raise

    # --- commands

    async def run(self, command: Command[T], deadline: Deadline) -> T:
        output = await self._repeat(self._execute, command, deadline, repeatable=command.repeatable)
        if len(output.stdout) > LARGE:
            return await asyncio.to_thread(command.parse, output)
        return command.parse(output)

    async def _execute(self, command: Command[Any], deadline: Deadline, since: float) -> Output:
        line, limit = shell_line(command, deadline.left()), command.max_output
        what = "The command on the cluster"
        lease, process = await self._open(
            lambda connection: RemoteProcess.open(connection.transport, line, limit),
            deadline,
            since,
            what,
            Kind.SHORT if deadline.left() <= SHORT_COMMAND else Kind.LONG,
        )
        with _ended_with(lease, process):
            process.is_enough = command.is_enough
            process.send_input(command.stdin)
            try:
                async with deadline.enforce(what):
                    return await process.finished
            except (Timeout, Lost):
                if (printed := process.result_so_far()) is None:
                    raise
                return printed

    @asynccontextmanager
    async def stream(self, command: Command[Any], deadline: Deadline) -> AsyncIterator[RemoteStream]:
        line = shell_line(command)  # without a time limit on the login node: the program ends with its input
        with phase("ssh"):
            lease, stream = await self._open(
                lambda connection: RemoteStream.open(connection.transport, line, MAX_ERRORS),
                deadline,
                0.0,
                "Starting the command on the cluster",
                Kind.LONG,
            )
            with _ended_with(lease, stream), lease.connection.streaming(None):
                yield stream

    # --- SFTP

    async def sftp(self, use: Callable[[Sftp], Awaitable[T]], deadline: Deadline, *, repeatable: bool = False) -> T:
        return await self._repeat(self._use_sftp, use, deadline, repeatable=repeatable)

    async def _use_sftp(self, use: Callable[[Sftp], Awaitable[T]], deadline: Deadline, since: float) -> T:
        shared, sftp = await self._share_sftp(deadline, since)
        with shared as connection:
            try:
                async with deadline.enforce("The file operation"):
                    return await use(sftp)
            except Timeout:
                self._pool.retire_if_silent(connection)
                raise

    @asynccontextmanager
    async def open_sftp(
        self, deadline: Deadline, *, on_recall: Callable[[], None] | None = None
    ) -> AsyncIterator[Sftp]:
        with phase("ssh"):
            shared, sftp = await self._share_sftp(deadline, 0.0)
            with shared as connection, connection.streaming(on_recall):
                yield sftp

    async def _share_sftp(self, deadline: Deadline, since: float) -> tuple[SharedUse, Sftp]:
        """A use of an open SFTP channel; it is opened if no connection has one."""
        for connection in self._pool.connections(self._identity, since):
            if (sftp := connection.shared(Sftp)) is not None:
                return SharedUse(self._pool, connection), sftp

        async def open_on(leased: Connection) -> tuple[SharedUse, Sftp]:
            # one that was opened meanwhile is used: a second one would take a channel from commands
            for connection in self._pool.connections(self._identity, since, leased=True):
                if (sftp := connection.shared(Sftp)) is not None:
                    return SharedUse(self._pool, connection), sftp
            opened = await self._sftp_on(leased)
            return SharedUse(self._pool, leased), opened

        return await self._open_shared(open_on, deadline, since)

    async def _sftp_on(self, connection: Connection) -> Sftp:
        async with connection.opening:
            if connection.shared(Sftp) is None:
                connection.attach(await self._sftp_opener.open(connection.transport))
            if (sftp := connection.shared(Sftp)) is None:
                raise Lost("The SSH connection was lost")
            return sftp

    async def _open_shared(
        self, open_on: Callable[[Connection], Awaitable[tuple[SharedUse, T]]], deadline: Deadline, since: float
    ) -> tuple[SharedUse, T]:
        """A use of a shared channel that is opened on a leased one.

        `open_on` takes the use, so that the channel is not closed for a command before it is used.
        """
        lease, (shared, channel) = await self._open(open_on, deadline, since, "Opening a channel", Kind.SHARED)
        lease.release()
        return shared, channel

    # --- the agent

    async def stat(self, path: str, deadline: Deadline, *, follow: bool) -> StatNumbers:
        question = stat_question(path.encode("utf-8", "surrogateescape"), follow=follow)
        numbers = await self._repeat(self._ask, question, deadline, repeatable=True)
        if numbers is None:
            return await self.run(stat_command(path, follow=follow), deadline)
        return numbers

    async def ask(self, question: Question[T], deadline: Deadline) -> T | None:
        return await self._repeat(self._ask, question, deadline, repeatable=question.repeatable)

    async def _ask(self, question: Question[T], deadline: Deadline, since: float) -> T | None:
        found = await self._share_agent(deadline, since)
        if found is None:
            return None
        shared, agent = found
        with shared as connection:
            try:
                async with deadline.enforce("Asking about the file"):
                    return await agent.ask(question)
            except Timeout:
                self._pool.retire_if_silent(connection)
                raise
            except Lost:
                if agent.missing or (question.repeatable and connection.agent_paused):
                    return None  # its program is missing, or it was closed for a command: SFTP or a command is used
                if not connection.lost:
                    raise ChannelLost("The SSH channel was lost") from None
                raise

    async def _share_agent(self, deadline: Deadline, since: float) -> tuple[SharedUse, Agent] | None:
        """A use of the agent, which is started if no connection has one; None if it cannot be started."""
        connections = self._pool.connections(self._identity, since)
        for connection in connections:
            if (agent := connection.shared(Agent)) is not None:
                return SharedUse(self._pool, connection), agent
        if any(connection.agent_paused for connection in connections):
            return None

        async def open_on(leased: Connection) -> tuple[SharedUse, Agent | None]:
            opened = await self._agent_on(leased)
            return SharedUse(self._pool, leased), opened

        shared, started = await self._open_shared(open_on, deadline, since)
        if started is None:
            with shared:
                return None
        return shared, started

    @staticmethod
    async def _agent_on(connection: Connection) -> Agent | None:
        async with connection.opening:
            if connection.shared(Agent) is None and not connection.agent_paused:
                agent = Agent(connection.transport)
                await agent.open()
                connection.attach(agent)
            return connection.shared(Agent)


async def _abandon(opening: asyncio.Future[Any]) -> None:
    """End a program whose request ended before it was started. A shared channel stays open, and is not used."""
    with suppress(ChannelRefused, GatewayError):
        opened = await opening
        if isinstance(opened, RemoteProcess):
            await opened.end()
        elif isinstance(opened, tuple):
            with opened[0]:
                pass


@contextmanager
def _ended_with(lease: Lease, process: RemoteProcess) -> Iterator[None]:
    """End the process and give its channel back when the block ends."""
    lease.accepted()
    try:
        yield
    finally:
        if process.closed:
            lease.release()
        else:
            lease.release_after(process.end())
