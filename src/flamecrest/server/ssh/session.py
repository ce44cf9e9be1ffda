"""Sessions over the pool: run a command, use SFTP, ask the agent.

It maps what can go wrong with a channel; what a program says is its parser's business.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from flamecrest.server.errors import Timeout
from flamecrest.server.ssh.channels.agent import Agent
from flamecrest.server.ssh.channels.agent_protocol import Question, stat_question
from flamecrest.server.ssh.channels.process import RemoteProcess
from flamecrest.server.ssh.channels.sftp import Sftp
from flamecrest.server.ssh.channels.sftp_program import SftpOpener
from flamecrest.server.ssh.channels.stat_command import stat_command
from flamecrest.server.ssh.channels.stream import RemoteStream
from flamecrest.server.ssh.errors import ChannelLost, ChannelRefused, Lost
from flamecrest.server.ssh.pool.connection import SILENCE, Connection
from flamecrest.server.telemetry.trace import phase

from .command import Command, Output
from .command_line import shell_line

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.channels.agent_protocol import StatNumbers
    from flamecrest.server.ssh.pool.pool import Pool

T = TypeVar("T")

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

    __slots__ = ("_choice", "_identity", "_pool")

    def __init__(self, pool: Pool, identity: Identity, choice: SftpOpener) -> None:
        self._pool = pool
        self._identity = identity
        self._choice = choice

    async def run(self, command: Command[T], deadline: Deadline) -> T:
        output = await self._repeated(
            lambda since: self._execute(command, deadline, since), repeatable=command.repeatable
        )
        if len(output.stdout) > LARGE:
            return await asyncio.to_thread(command.parse, output)
        return command.parse(output)

    async def sftp(self, use: Callable[[Sftp], Awaitable[T]], deadline: Deadline, *, repeatable: bool = False) -> T:
        return await self._repeated(lambda since: self._use_sftp(use, deadline, since), repeatable=repeatable)

    @staticmethod
    async def _repeated(work: Callable[[float], Awaitable[T]], *, repeatable: bool) -> T:
        """Do it; once more if the connection breaks under it, over one that was opened after that if possible."""
        with phase("ssh"):
            try:
                return await work(0.0)
            except Lost as error:
                if not repeatable:
                    raise
                since = 0.0 if isinstance(error, ChannelLost) else time.monotonic()
            return await work(since)

    @asynccontextmanager
    async def open_sftp(self, deadline: Deadline) -> AsyncIterator[Sftp]:
        with phase("ssh"):
            connection, sftp = await self._with_sftp(deadline)
            try:
                yield sftp
            finally:
                self._pool.release(connection, shared=True)

    async def stat(self, path: str, deadline: Deadline, *, follow: bool) -> StatNumbers:
        numbers = await self.ask(stat_question(path.encode("utf-8", "surrogateescape"), follow=follow), deadline)
        if numbers is None:
            return await self.run(stat_command(path, follow=follow), deadline)
        return numbers

    async def ask(self, question: Question[T], deadline: Deadline) -> T | None:
        return await self._repeated(
            lambda since: self._ask_agent(question, deadline, since), repeatable=question.repeatable
        )

    async def _ask_agent(self, question: Question[T], deadline: Deadline, since: float) -> T | None:
        found = await self._with_standing(deadline, _agent_of, self._open_agent, since, without=self._rests)
        if found is None:
            return None
        connection, agent = found
        agent.changing += not question.repeatable
        try:
            if agent.full:
                return None
            async with deadline.enforce("Asking about the file"):
                return await agent.ask(question)
        except Timeout:
            self._suspect(connection)
            raise
        except Lost:
            if agent.missing or (question.repeatable and self._rests(connection)):
                return None  # its program is not there, or has given way to a command: another way has to do
            if not connection.lost:
                raise ChannelLost("The SSH channel was lost") from None
            raise
        finally:
            agent.changing -= not question.repeatable
            self._pool.release(connection, shared=True)

    @staticmethod
    def _rests(connection: Connection) -> bool:
        return connection.agent_missing or time.monotonic() < connection.agent_after

    # --- commands

    @asynccontextmanager
    async def stream(self, command: Command[Any], deadline: Deadline) -> AsyncIterator[RemoteStream]:
        line = shell_line(command)  # no limit of time on the far side: it ends with its input or with us
        with phase("ssh"):
            async with self._streaming(line, deadline) as stream:
                yield stream

    @asynccontextmanager
    async def _streaming(self, line: bytes, deadline: Deadline) -> AsyncIterator[RemoteStream]:
        while True:
            connection = await self._pool.lease(self._identity, deadline)
            try:
                async with deadline.enforce("Starting the command on the cluster"):
                    stream = await RemoteStream.open(connection, line)
            except ChannelRefused:
                self._pool.refused(connection)
                self._pool.release(connection)
            except BaseException:
                self._pool.release(connection)
                raise
            else:
                break
        self._pool.confirmed(connection)
        try:
            yield stream
        finally:
            if stream.finished.done():
                self._pool.release(connection)
            else:
                self._pool.spawn(self._end(stream, connection))

    async def _execute(self, command: Command[Any], deadline: Deadline, since: float) -> Output:
        line = shell_line(command, deadline.left())
        while True:
            connection = await self._pool.lease(self._identity, deadline, since=since)
            process = None
            try:
                async with deadline.enforce("The command on the cluster"):
                    process = await RemoteProcess.start(connection, line, command.stdin, command.max_output)
                    self._pool.confirmed(connection)
                    output = await process.finished
            except ChannelRefused:
                self._pool.refused(connection)
                self._pool.release(connection)
            except BaseException:
                if process is None:
                    self._pool.release(connection)
                else:
                    self._pool.spawn(self._end(process, connection))
                raise
            else:
                self._pool.release(connection)
                return output

    async def _end(self, process: RemoteProcess, connection: Connection) -> None:
        try:
            await process.end()
        finally:
            self._pool.release(connection)

    # --- SFTP

    async def _use_sftp(self, use: Callable[[Sftp], Awaitable[T]], deadline: Deadline, since: float) -> T:
        connection, sftp = await self._with_sftp(deadline, since)
        try:
            async with deadline.enforce("The file operation"):
                return await use(sftp)
        except Timeout:
            self._suspect(connection)
            raise
        finally:
            self._pool.release(connection, shared=True)

    # --- the channels that stand open

    async def _with_sftp(self, deadline: Deadline, since: float = 0.0) -> tuple[Connection, Sftp]:
        """A shared lease on a connection whose SFTP channel is open."""
        found = await self._with_standing(deadline, _sftp_of, self._open_sftp, since)
        if found is None:
            raise Lost("The SSH connection was lost")
        return found

    async def _with_standing(
        self,
        deadline: Deadline,
        on: Callable[[Connection], T | None],
        opened: Callable[[Connection], Awaitable[None]],
        since: float,
        *,
        without: Callable[[Connection], bool] = lambda _: False,
    ) -> tuple[Connection, T] | None:
        """A shared lease on a connection and what stands open on it; None where it can't be opened at all.

        `without` says whether a connection has to do without it: then no channel is waited for.
        """
        connection = await self._pool.lease(self._identity, deadline, shared=True, since=since)
        standing = on(connection)
        if standing is not None:
            return connection, standing
        self._pool.release(connection, shared=True)
        if without(connection):
            return None
        while True:
            # opening takes a channel, so it must wait for one
            connection = await self._pool.lease(self._identity, deadline, since=since)
            try:
                async with connection.opening, deadline.enforce("Opening a channel"):
                    if on(connection) is None:
                        await opened(connection)
            except ChannelRefused:
                self._pool.refused(connection)
                self._pool.release(connection)
                continue
            except BaseException:
                self._pool.release(connection)
                raise
            standing = on(connection)
            connection.shared += standing is not None
            self._pool.release(connection)
            return None if standing is None else (connection, standing)

    async def _open_sftp(self, connection: Connection) -> None:
        sftp = await self._choice.open(connection)
        if not sftp.closed:
            connection.sftp = sftp
            connection.channels += 1
            sftp.counted = True

    async def _open_agent(self, connection: Connection) -> None:
        if not self._rests(connection):
            agent = Agent(connection)
            await agent.open()
            if not agent.closed:
                connection.agent = agent
                connection.channels += 1
                agent.counted = True

    def _suspect(self, connection: Connection) -> None:
        """After a timeout: a server that has said nothing for a while gets no more work from us."""
        if time.monotonic() - connection.heard > SILENCE:
            self._pool.retire(connection)


def _sftp_of(connection: Connection) -> Sftp | None:
    return connection.sftp


def _agent_of(connection: Connection) -> Agent | None:
    return connection.agent
