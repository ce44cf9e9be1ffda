"""Sessions over the pool: run a command, use SFTP, ask the stat agent. The one place where a command is quoted.

It maps what can go wrong with a channel; what a program says is its parser's business.
"""

from __future__ import annotations

import asyncio
import math
import shlex
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from flamecrest.server.errors import Invalid, Timeout

from . import Command, Output
from .channel import RemoteProcess
from .connection import SILENCE, ChannelRefused, Connection, Lost
from .sftp import Sftp
from .stat_agent import PROGRAM, Numbers, StatAgent, stat_command
from .stream import RemoteStream

if TYPE_CHECKING:
    from flamecrest.server.auth import Identity
    from flamecrest.server.deadline import Deadline

    from .pool import Pool

T = TypeVar("T")

MAX_LINE = 128 * 1024 - 1  # bytes; Linux's MAX_ARG_STRLEN: sshd hands the line to the shell as one argument
LARGE = 1024 * 1024  # bytes of output that are parsed in a thread: the list of 10,000 jobs takes a second
FAR_GRACE = 5  # seconds after the deadline when the far side ends a command itself, should we be gone by then


def shell_line(command: Command[Any], seconds: float | None = None) -> bytes:
    """The line for the user's login shell, whatever shell that is; with `seconds` the far side ends it by itself."""
    for word in (*command.argv, *command.env.values()):
        if "\0" in word:
            raise Invalid("A value must not contain a NUL byte")
    guard = () if seconds is None else ("timeout", "-k", "2", str(math.ceil(seconds) + FAR_GRACE))
    variables = (f"{name}={value}" for name, value in command.env.items())
    line = "exec " + shlex.join((*guard, "env", "LC_ALL=C", *variables, *command.argv))
    raw = line.encode("utf-8", "surrogateescape")
    if len(raw) > MAX_LINE:
        raise Invalid("A value is too long to be handed to a program on the cluster")
    return raw


class PooledSessions:
    """The Sessions port over a Pool."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def of(self, identity: Identity) -> PooledSession:
        return PooledSession(self.pool, identity)

    async def close(self) -> None:
        await self.pool.close()

    def stats(self) -> Mapping[str, Any]:
        return self.pool.stats()


class PooledSession:
    """The Session port: one user over the pool."""

    __slots__ = ("_identity", "_pool")

    def __init__(self, pool: Pool, identity: Identity) -> None:
        self._pool = pool
        self._identity = identity

    async def run(self, command: Command[T], deadline: Deadline) -> T:
        try:
            output = await self._execute(command, deadline)
        except Lost:
            if not command.repeatable:
                raise
            output = await self._execute(command, deadline)
        if len(output.stdout) > LARGE:
            return await asyncio.to_thread(command.parse, output)
        return command.parse(output)

    async def sftp(self, use: Callable[[Sftp], Awaitable[T]], deadline: Deadline, *, repeatable: bool = False) -> T:
        try:
            return await self._use_sftp(use, deadline)
        except Lost:
            if not repeatable:
                raise
            return await self._use_sftp(use, deadline)

    @asynccontextmanager
    async def open_sftp(self, deadline: Deadline) -> AsyncIterator[Sftp]:
        connection, sftp = await self._with_sftp(deadline)
        try:
            yield sftp
        finally:
            self._pool.release(connection, shared=True)

    async def stat(self, path: str, deadline: Deadline, *, follow: bool) -> Numbers:
        numbers = await self.quick_stat(path, deadline, follow=follow)
        if numbers is None:
            return await self.run(stat_command(path, follow=follow), deadline)
        return numbers

    async def quick_stat(self, path: str, deadline: Deadline, *, follow: bool) -> Numbers | None:
        for last in (False, True):
            try:
                found = await self._with_standing(deadline, _agent_of, self._open_agent)
            except Lost:
                if last:
                    raise
                continue
            if found is None:
                return None
            connection, agent = found
            try:
                async with deadline.enforce("Reading the file's attributes"):
                    return await agent.ask(path.encode("utf-8", "surrogateescape"), follow=follow)
            except Timeout:
                self._suspect(connection)
                raise
            except Lost:
                # also when the program is not there: then `stat` has to do
                if last and not connection.agent_missing:
                    raise
            finally:
                self._pool.release(connection, shared=True)
        return None

    # --- commands

    @asynccontextmanager
    async def stream(self, command: Command[Any], deadline: Deadline) -> AsyncIterator[RemoteStream]:
        line = shell_line(command)  # no limit of time on the far side: it ends with its input or with us
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

    async def _execute(self, command: Command[Any], deadline: Deadline) -> Output:
        line = shell_line(command, deadline.left())
        while True:
            connection = await self._pool.lease(self._identity, deadline)
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

    async def _use_sftp(self, use: Callable[[Sftp], Awaitable[T]], deadline: Deadline) -> T:
        connection, sftp = await self._with_sftp(deadline)
        try:
            async with deadline.enforce("The file operation"):
                return await use(sftp)
        except Timeout:
            self._suspect(connection)
            raise
        finally:
            self._pool.release(connection, shared=True)

    # --- the channels that stand open

    async def _with_sftp(self, deadline: Deadline) -> tuple[Connection, Sftp]:
        """A shared lease on a connection whose SFTP channel is open."""
        found = await self._with_standing(deadline, _sftp_of, self._open_sftp)
        if found is None:
            raise Lost("The SSH connection was lost")
        return found

    async def _with_standing(
        self,
        deadline: Deadline,
        on: Callable[[Connection], T | None],
        opened: Callable[[Connection], Awaitable[None]],
    ) -> tuple[Connection, T] | None:
        """A shared lease on a connection and what stands open on it; None where it can't be opened at all."""
        connection = await self._pool.lease(self._identity, deadline, shared=True)
        standing = on(connection)
        if standing is not None:
            return connection, standing
        self._pool.release(connection, shared=True)
        while True:
            # opening takes a channel, so it must wait for one
            connection = await self._pool.lease(self._identity, deadline)
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

    @staticmethod
    async def _open_sftp(connection: Connection) -> None:
        sftp = Sftp(connection)
        try:
            await sftp.open()
        except BaseException:
            sftp.close()
            raise
        if not sftp.closed:
            connection.sftp = sftp
            connection.channels += 1

    @staticmethod
    async def _open_agent(connection: Connection) -> None:
        if not connection.agent_missing:
            agent = StatAgent(connection)
            await agent.open(shell_line(Command(("perl", "-e", PROGRAM), lambda output: output)))
            if not agent.closed:
                connection.agent = agent
                connection.channels += 1

    def _suspect(self, connection: Connection) -> None:
        """After a timeout: a server that has said nothing for a while gets no more work from us."""
        if time.monotonic() - connection.heard > SILENCE:
            self._pool.retire(connection)


def _sftp_of(connection: Connection) -> Sftp | None:
    return connection.sftp


def _agent_of(connection: Connection) -> StatAgent | None:
    return connection.agent
