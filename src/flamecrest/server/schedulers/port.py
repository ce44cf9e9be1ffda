"""The Scheduler port: the operations of a batch system for one user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from flamecrest.server.schedulers.values import Account, Job, JobMetadata, JobSpec, Node, Partition, Reservation

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline


class Scheduler(Protocol):
    """A batch system as one user. All methods except submit, cancel and attach can be repeated safely.

    All raise Upstream if the scheduler's programs fail, Unavailable if it is down, Timeout at the deadline, and
    Unsupported for an operation that this scheduler does not have.
    """

    async def submit(self, spec: JobSpec, deadline: Deadline) -> str:
        """Submit a job and return its id. Raises Invalid with the scheduler's message if it rejects the job.

        The text of an error says so if the job may have been submitted.
        """
        ...

    async def jobs(
        self, *, all_users: bool, account: str | None, name: str | None, window: int, deadline: Deadline
    ) -> list[Job]:
        """Jobs that were queued or running within the last `window` seconds, ended ones included, oldest first."""
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
