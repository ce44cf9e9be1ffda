"""The Scheduler port over command-line programs on a login node.

A dialect makes the commands and parses their output; this module runs them and decides about waiting and failures.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from flamecrest.server.errors import Conflict, GatewayError, Timeout, TooLarge, Upstream
from flamecrest.server.ssh.errors import NOTHING_RUN

from .capabilities import Capabilities, Operation
from .cli_reader import CliReader, CommandRunner, CommandRunners
from .dialect import CancelOutcome, Dialect, JobQuery
from .job_errors import DoubtfulAnswer, ElementsLeftOut, NotRecordedYet, job_not_found, maybe_submitted
from .job_lookup import RECOVERABLE, JobLookup, before
from .merging import Snapshot
from .once.in_series import SeriesRunner
from .once.marked_jobs import MarkedJobs
from .once.programs import submission_ended
from .once.submissions import Submissions, submitted
from .reading.host_in_paths import with_host
from .reading.scheduler import ReadingScheduler
from .reading.sharing import Kind
from .script_files import with_text
from .values import (
    Account,
    JobAction,
    JobChange,
    JobMetadata,
    JobSpec,
    Node,
    Partition,
    Reservation,
    SharedList,
    Stage,
    SubmissionCheck,
)

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.command import Command, Output

    from .reading.cluster_reads import ClusterReads
    from .reading.job_reads import JobReads
    from .reading.shared_answers import Answer

T = TypeVar("T")


class CliScheduler(ReadingScheduler):
    """The Scheduler port for one user. Dialect, lookup, runners, reads and submissions are those of the cluster.

    Without `reads` and `cluster_reads` every call asks the scheduler. `account` asks what all users share; without it,
    nothing is shared. `clock` returns seconds since the epoch.
    """

    def __init__(
        self,
        dialect: Dialect,
        lookup: JobLookup,
        runners: CommandRunners,
        identity: Identity,
        *,
        reads: JobReads | None = None,
        cluster_reads: ClusterReads | None = None,
        account: CommandRunner | None = None,
        submissions: Submissions | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._lookup = lookup
        self._username = identity.username
        self._reads = reads
        self._cluster_reads = cluster_reads
        self._account = account
        self._submissions = submissions or Submissions()
        self._clock = clock
        self._dialect = dialect
        self._runner = runners.of(identity)
        self._submitting: CommandRunner = self._runner

    @property
    def capabilities(self) -> Capabilities:
        """What the dialect can do."""
        return self._dialect.capabilities

    @property
    def _reader(self) -> CliReader:
        return CliReader(self._dialect, self._runner, self._username)

    async def submit(self, spec: JobSpec, deadline: Deadline) -> str:
        """Submit a job; see the port."""
        self._dialect.capabilities.check_fields(spec, self._dialect.name)
        if not self._dialect.takes_script_paths:
            spec = await with_text(spec, self._runner, deadline)
        if spec.marker is None and Operation.FIND in self._dialect.capabilities.operations:
            submission = self._submissions.submit(self, self._username, spec, deadline)
        else:
            submission = self.submit_marked(spec, deadline)
        return await submitted(submission, self._reads, self._username)

    @asynccontextmanager
    async def batch(self, specs: Sequence[JobSpec], seconds: float) -> AsyncIterator[Mapping[str, str]]:
        """A block that submits these jobs; see the port."""
        async with self._submissions.batch(self, self._username, specs, seconds) as kept:
            with closing(SeriesRunner(self._runner)) as self._submitting:
                yield kept
            self._submitting = self._runner

    async def submit_marked(self, spec: JobSpec, deadline: Deadline) -> str:
        """Submit a job with its marker; see MarkedSubmitter."""
        command = self._dialect.submit(spec)
        finished = False

        def parse(output: Output) -> str:
            nonlocal finished
            finished = True
            return command.parse(output)

        try:
            job_id = await self._submitting.run(replace(command, parse=parse), deadline)
        except DoubtfulAnswer as doubt:
            return await self._decided(doubt, spec.marker, deadline)
        except (Timeout, Upstream, TooLarge) as error:
            # the parser's errors say themselves whether there may be a job
            if finished or isinstance(error, NOTHING_RUN):
                raise
            raise maybe_submitted(error) from error
        return await self._local_id(job_id, deadline) if "." in job_id else job_id

    async def _decided(self, doubt: DoubtfulAnswer, marker: str | None, deadline: Deadline) -> str:
        """The id of the job with the marker; what is likely if there is none, or if the search fails."""
        try:
            found = None if marker is None else await self.find(marker, before(deadline))
        except GatewayError as error:
            self._lookup.note_failure("find", error)
            found = None
        if found is not None:
            return found
        if isinstance(doubt.likely, GatewayError):
            raise doubt.likely
        return doubt.likely

    async def settle(self, prefix: str, deadline: Deadline) -> None:
        """Wait until no program with a marker that begins so runs on the login node; see MarkedSubmitter."""
        await self._runner.run(submission_ended(prefix), deadline)

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

    async def metadata(self, job_id: str, deadline: Deadline) -> list[JobMetadata]:
        """Script and paths; see the port. For a job that only the history knows, the script at most."""
        await self._check_part(job_id, deadline)
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
        found = await with_host(found or JobMetadata(job_id), self.nodes, deadline)
        return [replace(found, script=script)]

    async def cancel(self, job_id: str, deadline: Deadline) -> None:
        """Cancel the job; see the port."""
        await self._check_component(job_id, deadline)
        with self._writing():
            await self._cancel(job_id, deadline)

    async def _cancel(self, job_id: str, deadline: Deadline) -> None:
        outcome = await self._runner.run(self._dialect.cancel(job_id), deadline)
        if outcome not in {CancelOutcome.UNKNOWN, CancelOutcome.UNCONFIRMED}:
            return
        if outcome is CancelOutcome.UNCONFIRMED and await self._has_ended(job_id, deadline):
            return
        history = self._reader.sources(JobQuery(job_id=job_id)).history
        snapshot = await history(deadline) if history is not None else Snapshot()
        if (job := self._dialect.select(job_id, snapshot.records)) is None:
            raise job_not_found(job_id)
        self._check_own(job)

    async def _has_ended(self, job_id: str, deadline: Deadline) -> bool:
        """Whether the live scheduler knows the job as ended. Raises Upstream if it is there and has not ended."""
        snapshot = await self._reader.live(JobQuery(job_id=job_id), deadline)
        alive = [record for record in snapshot.records if record.stage is not Stage.ENDED]
        if self._dialect.select(job_id, alive) is not None:
            raise Upstream("The scheduler's command did not say that it has cancelled the job, which is still there")
        if (job := self._dialect.select(job_id, snapshot.records)) is not None:
            self._check_own(job)
        return job is not None

    async def check(self, spec: JobSpec, deadline: Deadline) -> SubmissionCheck:
        """Ask whether the job would be accepted; see the port."""
        self._require(Operation.CHECK)
        self.capabilities.check_fields(spec, self._dialect.name)
        return await self._runner.run(self._dialect.check(spec), deadline)

    async def find(self, marker: str, deadline: Deadline) -> str | None:
        """The id of the job with this marker; see the port."""
        self._require(Operation.FIND)
        for command in self._dialect.marked(self._username):
            found = await self._runner.run(command, deadline)
            if (job_id := found.first(marker)) is not None:
                return job_id
            if not found.is_certain(marker):
                raise NotRecordedYet
        return None

    async def find_live(self, marker: str, deadline: Deadline) -> str | None:
        """The id of the job with this marker that the live scheduler knows."""
        return (await self.marked_live(deadline)).first(marker)

    async def marked(self, deadline: Deadline) -> MarkedJobs:
        """All jobs with markers; see MarkedSubmitter."""
        found = MarkedJobs({})
        for command in self._dialect.marked(self._username):
            found = found.and_also(await self._runner.run(command, deadline))
        return found

    async def marked_live(self, deadline: Deadline) -> MarkedJobs:
        """Those that the live scheduler knows."""
        return await self._runner.run(self._dialect.marked(self._username)[0], deadline)

    async def act(self, job_id: str, action: JobAction, deadline: Deadline) -> None:
        """Hold, release, requeue, suspend or resume the job; see the port."""
        self._require(Operation(action))
        await self._change(job_id, self._dialect.act(job_id, action), deadline)

    async def signal(self, job_id: str, signal: str, deadline: Deadline) -> None:
        """Send a signal to the job; see the port."""
        self._require(Operation.SIGNAL)
        command = self._dialect.signal(job_id, signal)
        async with self._changing(job_id, deadline):
            await self._runner.run(command, deadline)

    async def change(self, job_id: str, change: JobChange, deadline: Deadline) -> None:
        """Change the fields of a job; see the port."""
        self._require(Operation.CHANGE)
        self.capabilities.check_change(change, self._dialect.name)
        await self._change(job_id, self._dialect.change(job_id, change), deadline)

    async def _change(self, job_id: str, command: Command[None], deadline: Deadline) -> None:
        """Change a job; an array for the elements for which the scheduler can, unless there are none."""
        async with self._changing(job_id, deadline):
            try:
                await self._runner.run(command, deadline)
            except ElementsLeftOut as left_out:
                snapshot = await self._reader.live(JobQuery(job_id=job_id), deadline)
                others = [
                    one for one in snapshot.records if one.elements is not None and one.elements - left_out.elements
                ]
                if self._dialect.select(job_id, others) is None:
                    raise left_out.error from None

    async def attach(self, job_id: str, command: str, deadline: Deadline) -> None:
        """Run a shell command in the job; see the port. Raises Conflict if the job does not run."""
        self._require(Operation.ATTACH)
        snapshot = await self._reader.live(JobQuery(job_id=job_id), deadline)
        if self._dialect.select(job_id, snapshot.records) is None:
            await self.job(job_id, deadline)  # raises NotFound if there is no such job
            raise Conflict("The job has ended")
        raw_id = self._dialect.raw_job_id(job_id, snapshot.records)
        if raw_id is None:
            raise Conflict(f"{job_id} names several jobs or a waiting one. Name one running job.")
        await self._runner.run(self._dialect.attach(raw_id, command), deadline)

    async def nodes(self, deadline: Deadline) -> list[Node]:
        """All nodes; see the port."""
        return await self._shared(Kind.NODES, "all", self._dialect.nodes, deadline)

    async def partitions(self, deadline: Deadline, *, hidden: bool) -> list[Partition]:
        """Partitions; see the port. Without hidden ones the list depends on the user's groups."""
        make = partial(self._dialect.partitions, hidden=hidden)
        return await self._shared(Kind.PARTITIONS, hidden, make, deadline, personal=not hidden)

    async def reservations(self, deadline: Deadline) -> list[Reservation]:
        """Reservations; see the port."""
        return await self._shared(Kind.RESERVATIONS, "all", self._dialect.reservations, deadline)

    async def accounts(self, deadline: Deadline) -> list[Account] | None:
        """The user's accounts; see the port. None as well if the accounting database is too slow."""
        if Operation.ACCOUNTS not in self.capabilities.operations:
            return None
        make = partial(self._dialect.accounts, self._username)
        try:
            return await self._shared(Kind.ACCOUNTS, "own", make, before(deadline), personal=True)
        except Timeout as error:
            self._lookup.note_failure("accounts", error)
            return None

    async def _shared(
        self, kind: Kind, key: Hashable, make: Callable[[], Command[T]], deadline: Deadline, *, personal: bool = False
    ) -> T:
        """Run a command about the cluster, or take the answer of an earlier run: then no command is made."""
        if self._cluster_reads is None:
            return await self._runner.run(make(), deadline)
        personal = personal or self._account is None
        known: Answer[T] | None = self._cluster_reads.known(self._username, kind, key, personal=personal)
        if known is not None:
            return self._taken(known)

        async def run(runner: CommandRunner, deadline: Deadline) -> T:
            value: Any = await runner.run(make(), deadline)
            return cast("T", SharedList(value) if type(value) is list else value)

        own = partial(run, self._runner)
        for_all = None if personal or self._account is None else partial(run, self._account)
        return self._taken(await self._cluster_reads.read(self._username, kind, key, own, for_all, deadline))

    async def ping(self, deadline: Deadline) -> None:
        """Check that the scheduler answers; see the port."""
        await self._runner.run(self._dialect.ping(), deadline)

    def _require(self, operation: Operation) -> None:
        self.capabilities.check_operation(operation, self._dialect.name)

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
