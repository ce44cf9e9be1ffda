"""The Scheduler port over command-line programs on a login node.

A dialect makes the commands and parses their output; this module runs them and decides about waiting and failures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from flamecrest.server.errors import Conflict, GatewayError, Timeout, TooLarge, Upstream
from flamecrest.server.ssh.errors import NOTHING_RUN

from .dialect import CancelOutcome, Dialect, JobQuery
from .job_errors import MAYBE_SUBMITTED, WindowTooWide, job_not_found
from .job_lookup import RECOVERABLE, JobLookup, JobSources, before
from .merging import Snapshot, Stage
from .values import Account, Job, JobMetadata, JobSpec, Node, Partition, Reservation

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.command import Command, Output


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


class CliScheduler:
    """The Scheduler port for one user. Dialect, lookup and runners are those of the cluster.

    `clock` returns seconds since the epoch.
    """

    def __init__(
        self,
        dialect: Dialect,
        lookup: JobLookup,
        runners: CommandRunners,
        identity: Identity,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._dialect = dialect
        self._lookup = lookup
        self._runner = runners.of(identity)
        self._username = identity.username
        self._clock = clock

    async def submit(self, spec: JobSpec, deadline: Deadline) -> str:
        """Submit a job; see the port."""
        command = self._dialect.submit(spec)
        finished = False

        def parse(output: Output) -> str:
            nonlocal finished
            finished = True
            return command.parse(output)

        try:
            job_id = await self._runner.run(replace(command, parse=parse), deadline)
        except (Timeout, Upstream) as error:
            # the parser's errors say themselves whether there may be a job
            if finished or isinstance(error, NOTHING_RUN):
                raise
            raise type(error)(f"{error.public}. {MAYBE_SUBMITTED}", detail=error.detail) from error
        except TooLarge as error:
            raise Upstream(f"{error.public}. {MAYBE_SUBMITTED}", detail=error.detail) from error
        return await self._local_id(job_id, deadline) if "." in job_id else job_id

    async def _local_id(self, job_id: str, deadline: Deadline) -> str:
        """The id as lists of jobs show it: without the cluster if that is the cluster of the login node."""
        command = self._dialect.local_id(job_id)
        if command is None:
            return job_id
        try:
            return await self._runner.run(command, before(deadline))
        except GatewayError as error:  # the job is submitted, and its id with the cluster is right, too
            self._lookup.note_failure("cluster", error)
            return job_id

    async def jobs(
        self, *, all_users: bool, account: str | None, name: str | None, window: int, deadline: Deadline
    ) -> list[Job]:
        """Jobs that were alive in the window; see the port. If the history fails, those of the live source."""
        user = None if all_users else self._username
        query = JobQuery(user=user, account=account or None, name=name or None, window=window)
        since = self._clock() - window
        return [
            record.job
            for record in await self._lookup.records(self._sources(query), deadline)
            if self._dialect.matches(query, record.job)
            and (user is None or record.job.user in (None, user))
            and (record.stage is not Stage.ENDED or (record.job.times.end or since) >= since)
        ]

    async def job(self, job_id: str, deadline: Deadline) -> list[Job]:
        """The job; see the port."""
        sources = self._sources(JobQuery(job_id=job_id))
        return [await self._lookup.find(job_id, sources, partial(self._dialect.select, job_id), deadline)]

    async def metadata(self, job_id: str, deadline: Deadline) -> list[JobMetadata]:
        """Script and paths; see the port. For a job that only the history knows, the script at most."""
        failure: GatewayError | None = None
        found: JobMetadata | None = None
        scripts = self._dialect.scripts(job_id)
        try:
            found = await self._runner.run(self._dialect.metadata(job_id), deadline.sub(deadline.left() / 2))
        except RECOVERABLE as error:
            self._lookup.note_failure("live", error)
            failure, scripts = error, scripts[1:]
        script = await self._first_script(scripts, deadline)
        if found is None and script is None:
            if failure is not None:
                raise failure
            await self.job(job_id, deadline)  # raises NotFound if there is no such job
        return [replace(found or JobMetadata(job_id), script=script)]

    async def cancel(self, job_id: str, deadline: Deadline) -> None:
        """Cancel the job; see the port."""
        outcome = await self._runner.run(self._dialect.cancel(job_id), deadline)
        if outcome not in {CancelOutcome.UNKNOWN, CancelOutcome.UNCONFIRMED}:
            return
        if outcome is CancelOutcome.UNCONFIRMED and await self._has_ended(job_id, deadline):
            return
        history = self._sources(JobQuery(job_id=job_id)).history
        snapshot = await history(deadline) if history is not None else Snapshot()
        if self._dialect.select(job_id, snapshot.records) is None:
            raise job_not_found(job_id)

    async def _has_ended(self, job_id: str, deadline: Deadline) -> bool:
        """Whether the live scheduler knows the job as ended. Raises Upstream if it is there and has not ended."""
        snapshot = await self._runner.run(self._dialect.live(JobQuery(job_id=job_id)), deadline)
        alive = [record for record in snapshot.records if record.stage is not Stage.ENDED]
        if self._dialect.select(job_id, alive) is not None:
            raise Upstream("The scheduler's command did not say that it has cancelled the job, which is still there")
        return self._dialect.select(job_id, snapshot.records) is not None

    async def attach(self, job_id: str, command: str, deadline: Deadline) -> None:
        """Run a shell command in the job; see the port. Raises Conflict if the job does not run."""
        snapshot = await self._runner.run(self._dialect.live(JobQuery(job_id=job_id)), deadline)
        if self._dialect.select(job_id, snapshot.records) is None:
            await self.job(job_id, deadline)  # raises NotFound if there is no such job
            raise Conflict("The job has ended")
        raw_id = self._dialect.raw_job_id(job_id, snapshot.records)
        if raw_id is None:
            raise Conflict(f"{job_id} names several jobs or a waiting one. Name one running job.")
        await self._runner.run(self._dialect.attach(raw_id, command), deadline)

    async def nodes(self, deadline: Deadline) -> list[Node]:
        """All nodes; see the port."""
        return await self._runner.run(self._dialect.nodes(), deadline)

    async def partitions(self, deadline: Deadline, *, hidden: bool) -> list[Partition]:
        """Partitions; see the port."""
        return await self._runner.run(self._dialect.partitions(hidden=hidden), deadline)

    async def reservations(self, deadline: Deadline) -> list[Reservation]:
        """Reservations; see the port."""
        return await self._runner.run(self._dialect.reservations(), deadline)

    async def accounts(self, deadline: Deadline) -> list[Account] | None:
        """The user's accounts; see the port. None as well if the accounting database is too slow."""
        try:
            return await self._runner.run(self._dialect.accounts(self._username), before(deadline))
        except Timeout as error:
            self._lookup.note_failure("accounts", error)
            return None

    async def ping(self, deadline: Deadline) -> None:
        """Check that the scheduler answers; see the port."""
        await self._runner.run(self._dialect.ping(), deadline)

    def _sources(self, query: JobQuery) -> JobSources:
        history = self._dialect.history(query)
        live = partial(self._runner.run, self._dialect.live(query))
        return JobSources(live, None if history is None else partial(self._history, query, history))

    async def _history(self, query: JobQuery, command: Command[Snapshot], deadline: Deadline) -> Snapshot:
        """Run the command. If the database refuses to search all times for one job, ask for shorter windows.

        Raises WindowTooWide for a list; Upstream if the job is not in the longest window that the database accepts.
        """
        try:
            return await self._runner.run(command, deadline)
        except WindowTooWide as refusal:
            if query.job_id is None:
                raise
            error = Upstream(f"The accounting database refuses to search for the job: {refusal.words}")
        for window in _SHORTER_WINDOWS:
            shorter = self._dialect.history(replace(query, window=window))
            try:
                snapshot = await self._runner.run(shorter or command, deadline)
            except WindowTooWide:
                continue
            if snapshot.records:
                return snapshot
            raise Upstream(f"The accounting database searches the last {window // _DAY} days only, without the job")
        raise error

    async def _first_script(self, scripts: Sequence[Command[str | None]], deadline: Deadline) -> str | None:
        for command in scripts:
            try:
                script = await self._runner.run(command, deadline)
            except RECOVERABLE as error:
                self._lookup.note_failure("script", error)
                continue
            if script is not None:
                return script
        return None
