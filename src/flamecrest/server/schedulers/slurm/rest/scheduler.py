"""The Scheduler port over slurmrestd."""

from __future__ import annotations

import posixpath
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from flamecrest.server.errors import Conflict, GatewayError, Timeout, TooLarge, Unavailable, Unsupported, Upstream
from flamecrest.server.schedulers.capabilities import Capabilities, Operation, changed_fields, sent_fields
from flamecrest.server.schedulers.dialect import JobQuery
from flamecrest.server.schedulers.job_errors import job_not_found, maybe_submitted, scheduler_down
from flamecrest.server.schedulers.job_lookup import JobLookup, before
from flamecrest.server.schedulers.merging import JobRecord
from flamecrest.server.schedulers.once.marked_jobs import MarkedJobs
from flamecrest.server.schedulers.once.submissions import Submissions, submitted
from flamecrest.server.schedulers.reading.host_in_paths import with_host
from flamecrest.server.schedulers.reading.scheduler import ReadingScheduler
from flamecrest.server.schedulers.reading.sharing import Kind
from flamecrest.server.schedulers.script_files import with_text
from flamecrest.server.schedulers.slurm.ids import SlurmJobId
from flamecrest.server.schedulers.slurm.jobs import MARKED_WINDOW
from flamecrest.server.schedulers.values import (
    Account,
    Job,
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

from . import resources, submission
from .client import NotSent
from .directives import with_directives
from .errors import ENDED, UNKNOWN_JOB, Reply, error_of, is_about_ended, is_failure
from .fields import items
from .jobs import marked_jobs, parse_live, parse_metadata, parse_recorded_metadata
from .reader import RestReader

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.schedulers.cli_reader import CommandRunners
    from flamecrest.server.schedulers.reading.cluster_reads import ClusterReads
    from flamecrest.server.schedulers.reading.job_reads import JobReads
    from flamecrest.server.schedulers.reading.shared_answers import Answer

    from .client import RestClient
    from .versions import ApiVersion

T = TypeVar("T")


class RestScheduler(ReadingScheduler):
    """The Scheduler port for one user. Client, lookup, reads and submissions are those of the cluster.

    Without `reads` and `cluster_reads` every call asks slurmrestd. `account` is who asks what all users share;
    without it, nothing is shared. `runners` read the scripts that are on the cluster, as slurmrestd takes texts only.
    `clock` returns seconds since the epoch.
    """

    name = "slurmrestd"

    def __init__(
        self,
        client: RestClient,
        lookup: JobLookup,
        identity: Identity,
        *,
        reads: JobReads | None = None,
        cluster_reads: ClusterReads | None = None,
        account: Callable[[Deadline], Awaitable[Identity]] | None = None,
        submissions: Submissions | None = None,
        runners: CommandRunners | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._lookup = lookup
        self._username = identity.username
        self._reads = reads
        self._cluster_reads = cluster_reads
        self._account = account
        self._submissions = submissions or Submissions()
        self._clock = clock
        self._client = client
        self._identity = identity
        self._runners = runners
        self._rest = RestReader(client, identity, clock=clock)

    @property
    def _reader(self) -> RestReader:
        return self._rest

    @property
    def capabilities(self) -> Capabilities:
        """What the version in use can do; until it is known, what the newest can do."""
        return self._client.known_version.capabilities

    @property
    def is_down(self) -> bool:
        """Whether slurmrestd could not be reached a moment ago."""
        return self._client.is_down

    @property
    def lists_are_large(self) -> bool:
        """Whether the cluster has so many jobs that lists of them are slow."""
        return self._client.lists_are_large

    async def prepare(self, deadline: Deadline) -> None:
        """Find out the version, so that `capabilities` are those of this slurmrestd. Raises NotSent and others."""
        await self._client.version(self._identity, deadline)

    async def submit(self, spec: JobSpec, deadline: Deadline) -> str:
        """Submit a job; see the port."""
        version = await self._client.version(self._identity, deadline)
        spec = await self._with_text(spec, version, deadline)
        directed, _ = with_directives(spec, self._clock(), version)
        version.capabilities.check_fields(directed, self.name)
        if spec.marker is None:
            submitting = self._submissions.submit(self, self._username, spec, deadline)
        else:
            submitting = self.submit_marked(spec, deadline)
        return await submitted(submitting, self._reads, self._username)

    async def _with_text(self, spec: JobSpec, version: ApiVersion, deadline: Deadline) -> JobSpec:
        """The job with the text of its script, and with the name that sbatch gives to a job whose script is a file."""
        if spec.script_path is None:
            return spec
        if self._runners is None:
            raise Unsupported("slurmrestd takes the text of a script, not its path: scriptPath is not supported")
        read = await with_text(spec, self._runners.of(self._identity), deadline)
        directed, _ = with_directives(read, self._clock(), version)
        return read if directed.name else replace(read, name=posixpath.basename(spec.script_path))

    def batch(self, specs: Sequence[JobSpec], seconds: float) -> AbstractAsyncContextManager[Mapping[str, str]]:
        """A block that submits these jobs; see the port."""
        return self._submissions.batch(self, self._username, specs, seconds)

    async def submit_marked(self, spec: JobSpec, deadline: Deadline) -> str:
        """Submit a job with its marker; see MarkedSubmitter."""
        version = await self._client.version(self._identity, deadline)
        given = sent_fields(spec)
        spec, more = with_directives(spec, self._clock(), version)
        spec = submission.marked(spec, keyed=spec.idempotency_key is not None)
        body = submission.body(spec, self._username, version, more)
        try:
            reply = await self._client.request("POST", ("job", "submit"), self._identity, deadline, body=body)
        except (Timeout, Upstream, TooLarge) as error:
            raise maybe_submitted(error) from error
        return submission.job_id(reply, spec.script, own_token=self._client.own_token, given=given)

    async def settle(self, prefix: str, deadline: Deadline) -> None:
        """Nothing: slurmrestd does not tell which requests it still works on."""

    async def find(self, marker: str, deadline: Deadline) -> str | None:
        """The id of the job with this marker; see the port. Slurm may be configured not to record comments."""
        if (found := await self.find_live(marker, deadline)) is not None:
            return found
        return (await self._marked_history(deadline)).first(marker)

    async def find_live(self, marker: str, deadline: Deadline) -> str | None:
        """The same among the jobs that slurmctld knows."""
        return (await self.marked_live(deadline)).first(marker)

    async def marked(self, deadline: Deadline) -> MarkedJobs:
        """All jobs with markers; see MarkedSubmitter."""
        return (await self.marked_live(deadline)).and_also(await self._marked_history(deadline))

    async def marked_live(self, deadline: Deadline) -> MarkedJobs:
        """Those that slurmctld knows."""
        live = await self._rest.live(JobQuery(user=self._username), deadline)
        return marked_jobs(live.records, self._username)

    async def _marked_history(self, deadline: Deadline) -> MarkedJobs:
        history = await self._rest.history(JobQuery(user=self._username, window=MARKED_WINDOW), deadline)
        return marked_jobs(history.records, self._username)

    async def check(self, spec: JobSpec, deadline: Deadline) -> SubmissionCheck:  # noqa: ARG002 - the port's
        """Not possible: see `capabilities`."""
        raise Unsupported("slurmrestd does not support this operation: check")

    async def job(self, job_id: str, deadline: Deadline) -> list[Job]:
        """The job; see the port."""
        return await super().job(self._local(job_id), deadline)

    async def metadata(self, job_id: str, deadline: Deadline) -> list[JobMetadata]:
        """The paths of a job; see the port. slurmrestd does not give scripts.

        The accounting knows the paths of a job that the controller has forgotten from v0.0.42 on.
        """
        job = SlurmJobId.parse(self._local(job_id))
        await self._check_part(job_id, deadline)
        rows = await self._reader.rows(("job", job.base_id), deadline)
        found = parse_metadata(rows, job)
        if found is None:
            await self.job(job_id, deadline)  # raises NotFound if there is no such job
            rows = await self._reader.rows(("job", job.base_id), deadline, plugin="slurmdb")
            return [parse_recorded_metadata(rows, job)]
        return [await with_host(found, self.nodes, deadline)]

    async def cancel(self, job_id: str, deadline: Deadline) -> None:
        """Cancel the job; see the port."""
        await self._check_component(job_id, deadline)
        if "+" in job_id:
            SlurmJobId.parse(job_id).check_alone(await self._known(job_id, deadline))
        with self._writing():
            reply = await self._kill(job_id, None, deadline)
        numbers = {error.number for error in reply.errors}
        if not is_failure(reply):
            return
        if numbers.isdisjoint({ENDED, UNKNOWN_JOB}):
            raise error_of(reply, own_token=self._client.own_token)
        found = await self._job_or_error(job_id, deadline)  # a job that only the accounting knows has ended
        if not isinstance(found, GatewayError):
            self._check_own(found)
        elif ENDED not in numbers:
            raise found

    async def signal(self, job_id: str, signal: str, deadline: Deadline) -> None:
        """Send a signal to the job's script and steps; see the port."""
        checked = submission.signal_name(signal)
        async with self._changing(job_id, deadline):
            reply = await self._kill(job_id, checked, deadline)
            if not (is_about_ended(reply) and await self._has_others(job_id, reply, deadline)):
                self._check(reply)
        if not self._client.known_version.has_many:  # such a version accepts signals to ended jobs
            try:
                known = await self._known(job_id, deadline)
            except NotSent:  # slurmrestd has ended after it has sent the signal
                return
            if all(record.stage is Stage.ENDED for record in SlurmJobId.parse(job_id).parts(known)):
                raise Conflict("The job has ended")

    async def _has_others(self, job_id: str, reply: Reply, deadline: Deadline) -> bool:
        """Whether the job has parts of which the answer does not say that they have ended."""
        job = SlurmJobId.parse(job_id)
        if str(job) in reply.named:
            return False
        return any(part.job.id not in reply.named for part in job.parts(await self._known(job_id, deadline)))

    async def _kill(self, job_id: str, signal: str | None, deadline: Deadline) -> Reply:
        job = SlurmJobId.parse(self._local(job_id))
        version = await self._client.version(self._identity, deadline)
        if version.has_many:  # DELETE /job/… does not tell in each version whether it was refused
            body: dict[str, Any] = {"jobs": [str(job)]}
            if signal is not None:
                body |= {"signal": signal, "flags": ["FULL_JOB"]}
            return await self._client.request("DELETE", ("jobs",), self._identity, deadline, body=body)
        query = [] if signal is None else [("signal", signal)]
        return await self._client.request("DELETE", ("job", str(job)), self._identity, deadline, query=query)

    async def act(self, job_id: str, action: JobAction, deadline: Deadline) -> None:
        """Hold, release or requeue the job; see the port."""
        version = await self._client.version(self._identity, deadline)
        version.capabilities.check_operation(Operation(action), self.name)
        if action is JobAction.REQUEUE:
            async with self._changing(job_id, deadline):  # slurmrestd reports nothing of an element that does not exist
                for name in SlurmJobId.parse(job_id).begun(await self._known(job_id, deadline)):
                    self._check(await self._client.request("GET", ("job", name, "requeue"), self._identity, deadline))
            return
        await self._update(job_id, {"hold": action is JobAction.HOLD}, deadline)

    async def change(self, job_id: str, change: JobChange, deadline: Deadline) -> None:
        """Change the fields of a job; see the port."""
        version = await self._client.version(self._identity, deadline)
        version.capabilities.check_change(change, self.name)
        body = submission.change_body(change, version)
        await self._update(job_id, body, deadline, given=frozenset(changed_fields(change)))

    async def _update(
        self, job_id: str, body: Mapping[str, Any], deadline: Deadline, given: Collection[str] = ()
    ) -> None:
        """Update each record of the job by its number: for an id with a part slurmrestd updates another record."""
        async with self._changing(job_id, deadline):
            job, known = SlurmJobId.parse(job_id), await self._known(job_id, deadline)
            by_name = self._client.known_version.updates_arrays and all(one.component is None for one in known)
            names = [str(job.without_ended(known))] if by_name else job.numbers(known)
            paths = [("job", name) for name in names]
            replies = [await self._client.request("POST", path, self._identity, deadline, body=body) for path in paths]
            lasting = [reply for reply in replies if not is_about_ended(reply)]  # elements may have ended meanwhile
            for reply in lasting or replies:
                self._check(reply, given)

    async def _known(self, job_id: str, deadline: Deadline) -> Sequence[JobRecord]:
        """The controller's records of the job, and of all other parts of its array or heterogeneous job."""
        job = SlurmJobId.parse(self._local(job_id))
        return parse_live(await self._reader.rows(("job", job.base_id), deadline), self._clock()).records

    def _check(self, reply: Reply, given: Collection[str] = ()) -> None:
        if is_failure(reply):
            raise error_of(reply, own_token=self._client.own_token, given=given)

    async def attach(self, job_id: str, command: str, deadline: Deadline) -> None:  # noqa: ARG002 - the port's
        """Not possible: see `capabilities`."""
        raise Unsupported("slurmrestd cannot run commands in jobs")

    async def nodes(self, deadline: Deadline) -> list[Node]:
        """All nodes; see the port."""

        async def ask(asker: Identity, deadline: Deadline) -> list[Node]:
            return resources.parse_nodes(await self._read(("nodes",), "nodes", asker, deadline))

        return await self._shared(Kind.NODES, "all", ask, deadline)

    async def partitions(self, deadline: Deadline, *, hidden: bool) -> list[Partition]:
        """Partitions; see the port."""

        async def ask(asker: Identity, deadline: Deadline) -> list[Partition]:
            rows = await self._read(("partitions",), "partitions", asker, deadline)
            return resources.parse_partitions(rows, hidden=hidden)

        return await self._shared(Kind.PARTITIONS, hidden, ask, deadline, personal=not hidden)

    async def reservations(self, deadline: Deadline) -> list[Reservation]:
        """Reservations; see the port."""

        async def ask(asker: Identity, deadline: Deadline) -> list[Reservation]:
            rows = await self._read(("reservations",), "reservations", asker, deadline)
            return resources.parse_reservations(rows, self._clock())

        return await self._shared(Kind.RESERVATIONS, "all", ask, deadline)

    async def accounts(self, deadline: Deadline) -> list[Account] | None:
        """The user's accounts; see the port. None as well if the accounting does not answer."""
        user = self._username

        async def ask(asker: Identity, deadline: Deadline) -> list[Account]:
            path, query = ("associations",), [("user", user)]
            rows = await self._read(path, "associations", asker, deadline, query=query, plugin="slurmdb")
            return resources.parse_accounts(rows, user)

        try:
            return await self._shared(Kind.ACCOUNTS, "own", ask, before(deadline), personal=True)
        except (Timeout, Unavailable, Upstream) as error:
            self._lookup.note_failure("accounts", error)
            return None

    async def _shared(
        self,
        kind: Kind,
        key: Hashable,
        ask: Callable[[Identity, Deadline], Coroutine[Any, Any, list[T]]],
        deadline: Deadline,
        *,
        personal: bool = False,
    ) -> list[T]:
        """The answer to the question; one that other users share unless it is personal, or kept private."""
        if self._cluster_reads is None:
            return await ask(self._identity, deadline)
        personal = personal or self._account is None
        known: Answer[list[T]] | None = self._cluster_reads.known(self._username, kind, key, personal=personal)
        if known is not None:
            return self._taken(known)

        async def own(deadline: Deadline) -> list[T]:
            return SharedList(await ask(self._identity, deadline))

        async def for_all(deadline: Deadline, account: Callable[[Deadline], Awaitable[Identity]]) -> list[T]:
            return SharedList(await ask(await account(deadline), deadline))

        shared = None if personal or self._account is None else partial(for_all, account=self._account)
        return self._taken(await self._cluster_reads.read(self._username, kind, key, own, shared, deadline))

    async def ping(self, deadline: Deadline) -> None:
        """Check that the controller answers; see the port."""
        reply = await self._client.request("GET", ("ping",), self._identity, deadline)
        self._check(reply)
        if not resources.is_controller_up(reply.body):
            raise scheduler_down("slurmctld is down, or refuses the token")

    async def _read(
        self,
        path: Sequence[str],
        key: str,
        asker: Identity,
        deadline: Deadline,
        *,
        query: Sequence[tuple[str, str]] = (),
        plugin: str = "slurm",
    ) -> Sequence[Mapping[str, Any]]:
        reply = await self._client.request("GET", path, asker, deadline, query=query, plugin=plugin)
        self._check(reply)
        return items(reply.body.get(key))

    def _local(self, job_id: str) -> str:
        """The id, if it is one of the cluster that slurmrestd serves."""
        job = SlurmJobId.parse(job_id)
        if job.cluster:
            raise job_not_found(f"slurmrestd serves the jobs of one cluster, not those of {job.cluster}")
        return job_id
