"""Questions about jobs, asked by a dialect's commands: one user's, and those about several users."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from flamecrest.server.errors import Upstream

from .job_errors import AskAgain, WindowTooWide
from .job_lookup import JobSources
from .merging import JobRecord, Snapshot

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.command import Command

    from .dialect import Dialect, JobQuery
    from .values import Job

T = TypeVar("T")

_DAY: Final = 86400  # seconds
_SHORTER_WINDOWS: Final = (90 * _DAY, 30 * _DAY, 7 * _DAY, _DAY)


class CommandRunner(Protocol):
    """Runs commands on a login node as one user; an SSH Session is one."""

    async def run(self, command: Command[T], deadline: Deadline) -> T:
        """Run the command; see Session.run."""
        ...


class CommandRunners(Protocol):
    """The runners of all users of a cluster; SSH Sessions are."""

    def of(self, identity: Identity) -> CommandRunner:
        """The runner of a user."""
        ...


class CliReader:
    """A JobReader that runs commands as `user`."""

    def __init__(self, dialect: Dialect, runner: CommandRunner, user: str) -> None:
        self.user = user
        self.has_history = dialect.has_history
        self._dialect = dialect
        self._runner = runner

    def sources(self, query: JobQuery) -> JobSources:
        """The two sources of a query."""
        history = partial(self.history, query) if self.has_history else None
        return JobSources(partial(self.live, query), history)

    async def live(self, query: JobQuery, deadline: Deadline) -> Snapshot:
        """The scheduler's current jobs."""
        return await _answered(self._runner, partial(self._dialect.live, self._asked(query)), deadline)

    async def history(self, query: JobQuery, deadline: Deadline) -> Snapshot:
        """The accounting records. If the database refuses to search all times for jobs, ask for shorter windows.

        Raises WindowTooWide for a list; Upstream if no job is in the longest window that the database accepts.
        """
        query = self._asked(query)
        command = self._dialect.history(query)
        if command is None:
            return Snapshot()
        try:
            return await _answered(self._runner, lambda: self._dialect.history(query) or command, deadline)
        except WindowTooWide as refusal:
            if query.job_id is None and not query.job_ids:
                raise
            error = Upstream(f"The accounting database refuses to search for the job: {refusal.words}")
        for window in _SHORTER_WINDOWS:
            shorter = self._dialect.history(query._replace(window=window))
            try:
                snapshot = await self._runner.run(shorter or command, deadline)
            except WindowTooWide:
                continue
            if snapshot.records:
                return snapshot
            raise Upstream(f"The accounting database searches the last {window // _DAY} days only, without the job")
        raise error

    def _asked(self, query: JobQuery) -> JobQuery:
        return query._replace(asker=self.user)

    def queue_id(self, job_id: str) -> str | None:
        """The `base_id` of the job's records in lists; see the Dialect."""
        return self._dialect.queue_id(job_id)

    def select(self, job_id: str, records: Iterable[JobRecord]) -> Job | None:
        """The one job that the id means; see the Dialect."""
        return self._dialect.select(job_id, records)

    def matches(self, query: JobQuery, job: Job) -> bool:
        """Whether account and name of the job are those of the query; see the Dialect."""
        return self._dialect.matches(query, job)


class AccountRunner:
    """The CommandRunner of the cluster's service account, whose identity `account` returns."""

    def __init__(self, runners: CommandRunners, account: Callable[[Deadline], Awaitable[Identity]]) -> None:
        self._runners = runners
        self._account = account

    async def run(self, command: Command[T], deadline: Deadline) -> T:
        """Run the command as the account. Raises what it raises, and errors of its token."""
        return await self._runners.of(await self._account(deadline)).run(command, deadline)


class CliQueues:
    """ManyQueues by the `live_of` of a dialect, as the cluster's service account."""

    def __init__(self, live_of: Callable[[Sequence[str]], Command[Snapshot]], account: CommandRunner) -> None:
        self._live_of = live_of
        self._account = account

    async def live(self, users: Sequence[str], deadline: Deadline) -> Snapshot:
        """Their current jobs."""
        return await _answered(self._account, partial(self._live_of, users), deadline)


async def _answered(runner: CommandRunner, make: Callable[[], Command[T]], deadline: Deadline) -> T:
    """The answer to a command, which is made anew as often as the dialect has learnt from the last one."""
    while True:
        try:
            return await runner.run(make(), deadline)
        except AskAgain:
            continue
