"""The Scheduler port: the operations of a batch system for one user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

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
    SubmissionCheck,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.errors import GatewayError
    from flamecrest.server.schedulers.capabilities import Capabilities


class Submitter(Protocol):
    """The part of a Scheduler that submits jobs."""

    async def submit(self, spec: JobSpec, deadline: Deadline) -> str:
        """Submit a job and return its id. Raises Invalid with the scheduler's message if it rejects the job.

        Raises Invalid as well for a field that the scheduler does not have. With an idempotency key the same job is
        submitted once: raises InProgress while that is being done, KeyReused for another job. UnclearSubmission: the
        job may have been submitted.
        """
        ...


class JobLookup(Protocol):
    """The part of a Scheduler that shows and cancels one job. Transfers through the gateway have it, too."""

    @property
    def age(self) -> float:
        """Seconds since the oldest of the answers was asked for that this object has returned; 0 without any."""
        ...

    async def wait_for_change(self, seconds: float) -> None:
        """Return when there may be news of the caller's jobs, after `seconds` at the latest. Asks nothing."""
        ...

    async def job(self, job_id: str, deadline: Deadline) -> list[Job]:
        """The job, as a list of one; a whole array is one Job that summarises it. Raises NotFound."""
        ...

    async def metadata(self, job_id: str, deadline: Deadline) -> list[JobMetadata]:
        """Script and paths that the job was submitted with, as a list of one. Raises NotFound."""
        ...

    async def cancel(self, job_id: str, deadline: Deadline) -> None:
        """Cancel the job; a job that has ended stays as it is. Raises NotFound, Denied."""
        ...


class Scheduler(Submitter, JobLookup, Protocol):
    """A batch system as one user. All methods except submit and those that change a job can be repeated safely.

    All raise Upstream if the scheduler's programs fail, Unavailable if it is down, Timeout at the deadline, and
    Unsupported for an operation that is not in `capabilities`.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What this scheduler can do."""
        ...

    def batch(self, specs: Sequence[JobSpec], seconds: float) -> AbstractAsyncContextManager[Mapping[str, str]]:
        """A block in which these jobs are submitted: for those with an idempotency key the searches are shared.

        Yields a mapping that is filled at the end of the block, from an id that `submit` has returned to that of the
        job that stays: another replica has submitted it before, and the second one is cancelled. That takes `seconds`
        at most.
        """
        ...

    async def check(self, spec: JobSpec, deadline: Deadline) -> SubmissionCheck:
        """Ask whether the job would be accepted, without submitting it. Raises Invalid if it would be rejected."""
        ...

    async def find(self, marker: str, deadline: Deadline) -> str | None:
        """The id of the caller's first job whose marker begins so, ended ones included; None if there is none.

        Raises NotRecordedYet while the scheduler does not show its latest jobs.
        """
        ...

    async def jobs(
        self, *, all_users: bool, account: str | None, name: str | None, window: int, deadline: Deadline
    ) -> list[Job]:
        """Jobs that were queued or running within the last `window` seconds, ended ones included, oldest first."""
        ...

    async def jobs_by_id(self, job_ids: Sequence[str], deadline: Deadline) -> dict[str, Job | GatewayError]:
        """For each id the job, or the error that `job` would raise for it (NotFound, Invalid, Upstream, …)."""
        ...

    async def act(self, job_id: str, action: JobAction, deadline: Deadline) -> None:
        """Hold, release, requeue, suspend or resume the job. Repeating it is no error.

        Raises NotFound, Denied; Conflict if the state of the job forbids it.
        """
        ...

    async def signal(self, job_id: str, signal: str, deadline: Deadline) -> None:
        """Send a signal (`USR1`, `15`) to the processes of a running job. Raises Invalid for an unknown signal.

        Raises NotFound, Denied; Conflict if the job does not run.
        """
        ...

    async def change(self, job_id: str, change: JobChange, deadline: Deadline) -> None:
        """Change the fields of a job. Raises NotFound, Denied; Invalid with the scheduler's message."""
        ...

    async def attach(self, job_id: str, command: str, deadline: Deadline) -> None:
        """Run a shell command in the allocation of a running job and wait for it.

        Raises NotFound, Denied; Conflict if the job is not running; Invalid if the command fails.
        """
        ...

    async def nodes(self, deadline: Deadline) -> list[Node]:
        """All nodes, each once, sorted by name."""
        ...

    async def partitions(self, deadline: Deadline, *, hidden: bool) -> list[Partition]:
        """Partitions in the scheduler's order; hidden ones only if `hidden`."""
        ...

    async def reservations(self, deadline: Deadline) -> list[Reservation]:
        """Current and future reservations."""
        ...

    async def accounts(self, deadline: Deadline) -> list[Account] | None:
        """The accounts that the user may charge; None if the scheduler has none or its database is down."""
        ...

    async def ping(self, deadline: Deadline) -> None:
        """Return if the scheduler answers. Raises Unavailable with its message."""
        ...
