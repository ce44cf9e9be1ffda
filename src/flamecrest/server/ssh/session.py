"""Sessions over the pool: run a command, use SFTP, ask the agent.

It maps the failures of channels to errors. The exit status and the output of a program are for the command's parser.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from flamecrest.server.errors import Timeout, TooLarge, Unsupported, Upstream
from flamecrest.server.ssh.channels.agent import Question, stat_question
from flamecrest.server.ssh.pool.connection import ANY_TIME, Lease, SharedUse
from flamecrest.server.telemetry.trace import phase

from .channels.agent import Agent
from .channels.process import RemoteProcess, Shell
from .channels.sftp import Sftp
from .channels.sftp_program import SftpOpener
from .channels.stat_command import numbers_by_sftp, stat_command
from .channels.stream import MAX_ERRORS, RemoteStream
from .command import Output
from .errors import ChannelLost, ChannelRefused, EndedEarly, Lost, NotStarted, OpenMeanwhile, Unanswered
from .login_memory import LoginMemory
from .pool.channel_limit import SHORT_COMMAND, Kind
from .pool.used_certificates import note_certificate
from .series import Series
from .shared_channels import AGENT_PATIENCE, SharedChannels, abandon
from .shell_ahead import keep_shell
from .start_line import command_text

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.channels.agent import StatNumbers

    from .command import Command
    from .pool.connection import Connection
    from .pool.pool import Pool
    from .pool.shared_channel import SharedChannel

T = TypeVar("T")
A = TypeVar("A")

LAST_ANSWERS = 1.0  # seconds for which `close` waits for answers of SFTP servers
LARGE = 128 * 1024  # bytes of output that are parsed in a thread: a list of 400 jobs takes 15 ms, of 10,000 a second


class PooledSessions:
    """The Sessions port over a Pool."""

    def __init__(
        self,
        pool: Pool,
        sftp: SftpOpener | None = None,
        *,
        agent: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pool = pool
        self._memory = LoginMemory(clock, agent=agent)
        self._channels = SharedChannels(pool, sftp or SftpOpener(), self._memory)

    def of(self, identity: Identity) -> PooledSession:
        return PooledSession(self.pool, identity, self._channels, self._memory)

    async def close(self) -> None:
        # requests that nobody waits for may be under way: to remove the temporary file of a failed upload
        clients = [one for connection in self.pool.all_connections() if (one := connection.shared(Sftp)) is not None]
        await asyncio.gather(*(client.answered_all(LAST_ANSWERS) for client in clients))
        await self.pool.close()

    def stats(self) -> Mapping[str, int]:
        return self.pool.stats()


class PooledSession:
    """The Session port: one user over the pool."""

    __slots__ = ("_channels", "_identity", "_memory", "_pool")

    def __init__(self, pool: Pool, identity: Identity, channels: SharedChannels, memory: LoginMemory) -> None:
        self._pool = pool
        self._identity = identity
        self._channels = channels
        self._memory = memory

    @property
    def stall_timeout(self) -> float:
        return self._pool.hosts[0].stall_timeout

    async def _repeat(
        self, work: Callable[[A, Deadline, float], Awaitable[T]], what: A, deadline: Deadline, *, repeatable: bool
    ) -> T:
        """Do the work; if it is `repeatable` and its connection breaks, once more.

        The last argument of the work is a monotonic time: it prefers connections opened after that.
        """
        with phase("ssh"):
            try:
                return await work(what, deadline, ANY_TIME)
            except Lost as error:
                if not repeatable:
                    raise
                since = ANY_TIME if isinstance(error, ChannelLost) else time.monotonic()
            return await work(what, deadline, since)

    async def _open(
        self,
        open_on: Callable[[Connection], Awaitable[T]],
        deadline: Deadline,
        since: float,
        what: str,
        kind: Kind,
        opens: type[SharedChannel] | None = None,
    ) -> tuple[Lease, T]:
        """Lease a channel and open it; if the server refuses it, wait for another one."""
        again = False
        while True:
            lease = await self._pool.lease(self._identity, deadline, since, kind, again=again, opens=opens)
            if lease.connection.certificate is not None:
                note_certificate(lease.connection.certificate)
            opening = asyncio.ensure_future(open_on(lease.connection))
            try:
                with lease.connection.liveness.leaving():
                    async with deadline.enforce(what):
                        return lease, await asyncio.shield(opening)
            except ChannelRefused as error:
                await self._channels.check_commands(lease, error, deadline, what)
                lease.refused(no_process=error.no_process)
                again = True
            except BaseException as error:
                if opening.done() and (opening.cancelled() or opening.exception() is not None):
                    lease.release()
                else:  # the server may still open the channel, which counts until it has ended
                    lease.release_after(partial(abandon, opening))
                if not isinstance(error, Unanswered):
                    raise
                since, again = time.monotonic(), True

    # --- commands

    async def run(self, command: Command[T], deadline: Deadline) -> T:
        with ExitStack() as held:  # the output counts until it has been parsed
            work = partial(self._execute, held=held)
            output = await self._repeat(work, command, deadline, repeatable=command.repeatable)
            if command.joined:
                output = Output(output.status, b"", output.stdout + output.stderr)
            if len(output.stdout) > LARGE:
                return await asyncio.to_thread(command.parse, output)
            return command.parse(output)

    async def _execute(self, command: Command[Any], deadline: Deadline, since: float, *, held: ExitStack) -> Output:
        text, what = command_text(command, deadline.left()), "The command on the cluster"
        text += command.stdin or b""
        kind = Kind.SHORT if deadline.left() <= SHORT_COMMAND else Kind.LONG
        while True:
            lease, shell, ahead = await self._shell(deadline, since, what, kind)
            process = RemoteProcess(shell, command.max_output)
            process.is_enough = command.is_enough
            held.callback(process.drop)
            try:
                shell.run(process, text, end_input=True)
                _start_next(self._pool, lease.connection)
                with lease.connection.liveness.leaving(when=command.repeatable and kind is Kind.SHORT):
                    async with deadline.enforce(what):
                        return await process.finished
            except NotStarted:
                if not ahead:
                    raise
                # the shell had ended while it waited, so nothing was run: once more, with a new one
            except (Timeout, Lost, EndedEarly, TooLarge):
                if (printed := process.result_so_far()) is None:
                    raise
                return printed
            finally:
                _end(lease, shell)

    @asynccontextmanager
    async def stream(self, command: Command[Any], deadline: Deadline) -> AsyncIterator[RemoteStream]:
        text = command_text(command)  # without a time limit on the login node: the program ends with its input
        what = "Starting the command on the cluster"
        with phase("ssh"):
            ahead = True
            while ahead:
                lease, shell, ahead = await self._shell(deadline, ANY_TIME, what, Kind.LONG)
                stream = RemoteStream(shell, MAX_ERRORS)
                try:
                    shell.run(stream, text)
                    _start_next(self._pool, lease.connection)
                    if ahead:
                        async with deadline.enforce(what):
                            if not await stream.begun():
                                continue  # the shell had ended while it waited
                    with lease.connection.streaming(None):
                        yield stream
                    return
                finally:
                    stream.drop()
                    _end(lease, shell)

    async def series(self, deadline: Deadline, *, for_job: bool = False) -> Series:
        lease, shell, _ = await self._shell(deadline, ANY_TIME, "Starting a shell on the cluster", Kind.LONG)
        return await Series.start(shell, partial(_end, lease, shell), deadline, for_job=for_job)

    async def _shell(self, deadline: Deadline, since: float, what: str, kind: Kind) -> tuple[Lease, Shell, bool]:
        """A leased channel whose /bin/sh has greeted, and whether it was started ahead. Raises NotStarted."""
        now = time.monotonic()
        for connection in self._pool.connections(self._identity, since):
            if (taken := connection.take_shell(kind, now)) is not None:
                lease, shell = Lease(self._pool, connection, kind), taken
                if connection.certificate is not None:
                    note_certificate(connection.certificate)
                break
        else:
            taken = None
            self._memory.check(self._identity.username)
            lease, shell = await self._open(self._shell_on, deadline, since, what, kind)
            lease.accepted()
        try:
            async with deadline.enforce(what):
                await shell.greeting(lease.connection.host.login_timeout)
        except BaseException as error:
            _end(lease, shell)
            if not lease.connection.suspected:
                self._memory.note(self._identity.username, error)
            raise
        if taken is None:
            self._memory.note_greeting(self._identity.username)
        return lease, shell, taken is not None

    async def _shell_on(self, connection: Connection) -> Shell:
        self._memory.check(self._identity.username)  # it may have hung while the request waited
        return await Shell.open(connection.transport)

    # --- SFTP

    async def sftp(self, use: Callable[[Sftp], Awaitable[T]], deadline: Deadline, *, repeatable: bool = False) -> T:
        work = partial(self._use_sftp, repeatable=repeatable)
        return await self._repeat(work, use, deadline, repeatable=repeatable)

    async def _use_sftp(
        self, use: Callable[[Sftp], Awaitable[T]], deadline: Deadline, since: float, *, repeatable: bool
    ) -> T:
        shared, sftp = await self._share_sftp(deadline, since)
        with shared as connection, connection.liveness.leaving(when=repeatable):
            try:
                async with deadline.enforce("The file operation"):
                    return await use(sftp)
            except Timeout:
                self._pool.suspect_if_silent(connection)
                raise

    @asynccontextmanager
    async def open_sftp(
        self, deadline: Deadline, *, on_recall: Callable[[], None] | None = None
    ) -> AsyncIterator[Sftp]:
        with phase("ssh"):
            shared, sftp = await self._share_sftp(deadline, ANY_TIME)
            with shared as connection, connection.streaming(on_recall):
                yield sftp

    async def _share_sftp(self, deadline: Deadline, since: float) -> tuple[SharedUse, Sftp]:
        """A use of an open SFTP channel; it is opened if no connection has one."""
        for connection in self._pool.connections(self._identity, since):
            if (sftp := connection.shared(Sftp)) is not None:
                return SharedUse(self._pool, connection), sftp
        self._memory.check_sftp(self._identity.username)

        async def open_on(leased: Connection) -> tuple[SharedUse, Sftp]:
            # one that was opened meanwhile is used: a second one would take a channel from commands
            for connection in self._pool.connections(self._identity, since, leased=True):
                if (sftp := connection.shared(Sftp)) is not None:
                    return SharedUse(self._pool, connection), sftp
            opened = await self._channels.sftp_on(leased)
            return SharedUse(self._pool, leased), opened

        try:
            return await self._open_shared(Sftp, open_on, deadline, since)
        except OpenMeanwhile:
            return await self._share_sftp(deadline, since)

    async def _open_shared(
        self,
        kind: type[SharedChannel],
        open_on: Callable[[Connection], Awaitable[tuple[SharedUse, T]]],
        deadline: Deadline,
        since: float,
    ) -> tuple[SharedUse, T]:
        """A use of a shared channel, opened on a leased one; `open_on` takes the use, so that no command closes it.

        Raises OpenMeanwhile, if it was opened for another request.
        """
        lease, (shared, channel) = await self._open(open_on, deadline, since, "Opening a channel", Kind.SHARED, kind)
        lease.release()
        return shared, channel

    # --- the agent

    async def stat(self, path: str, deadline: Deadline, *, follow: bool) -> StatNumbers:
        name = path.encode("utf-8", "surrogateescape")
        question = stat_question(name, follow=follow)
        if numbers := await self._repeat(self._ask, question, deadline, repeatable=True):
            return numbers
        try:
            if not self._memory.without_shell(self._identity.username):
                return await self.run(stat_command(path, follow=follow), deadline)
        except (NotStarted, Unsupported):
            self._memory.note_no_shell(self._identity.username)
        except Upstream as error:  # the login prints into the output of its programs
            if isinstance(error, Lost):
                raise
        return await self.sftp(lambda sftp: numbers_by_sftp(sftp, name, follow=follow), deadline, repeatable=True)

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
                    if not agent.started.done():
                        patience = None if question.patient else AGENT_PATIENCE
                        with connection.liveness.leaving(when=question.repeatable):
                            await asyncio.wait([agent.started], timeout=patience)
                    if not (agent.started.done() and agent.started.result()):
                        return None
                    # no name for the future: its error would refer to this frame, and that to the future
                    ask: Callable[[], Awaitable[T | None]] = partial(agent.ask, question)
                    measured = connection.measured and not question.slow
                    return await (connection.node.timed(ask(), connection.user) if measured else ask())
            except Timeout:
                self._pool.suspect_if_silent(connection)
                raise
            except Lost:
                if connection.suspected:
                    raise
                if question.repeatable and not connection.lost:
                    connection.pause_agent()
                    return None  # it was closed for a command, or was ended: SFTP or a command is used
                if not connection.lost:
                    raise ChannelLost("The SSH channel was lost") from None
                raise

    async def _share_agent(self, deadline: Deadline, since: float) -> tuple[SharedUse, Agent] | None:
        """A use of the agent, which is started if no connection has one; None if there is none here."""
        connections = self._pool.connections(self._identity, since)
        for connection in connections:
            if (agent := connection.shared(Agent)) is not None:
                if not agent.started.done() and self._memory.doubts_agent(self._identity.username):
                    return None
                return SharedUse(self._pool, connection), agent
        if self._memory.without_agent(self._identity.username) or any(one.agent_paused for one in connections):
            return None
        if self._memory.doubts_agent(self._identity.username):
            self._channels.retry_agent(connections)
            return None

        async def open_on(leased: Connection) -> tuple[SharedUse, Agent | None]:
            without = self._memory.without_agent(self._identity.username)  # found out while the request waited
            opened = None if without else await self._channels.agent_on(leased)
            return SharedUse(self._pool, leased), opened

        try:
            shared, started = await self._open_shared(Agent, open_on, deadline, since)
        except OpenMeanwhile:
            return await self._share_agent(deadline, since)
        if started is not None:
            return shared, started
        with shared:
            return None


def _start_next(pool: Pool, connection: Connection) -> None:
    """Start a shell for the next command, if the server takes enough channels."""
    if not pool.requests_wait and connection.has_room_ahead(time.monotonic()):
        connection.opening_ahead = True
        pool.spawn(keep_shell(Lease(pool, connection, Kind.SHARED)))


def _end(lease: Lease, shell: Shell) -> None:
    """End what runs on the channel, and give the channel back."""
    if shell.closed:
        lease.release()
    else:
        lease.release_after(shell.end)
