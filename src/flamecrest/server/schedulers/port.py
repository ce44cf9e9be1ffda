"""The Scheduler port: what a batch system offers to one user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from flamecrest.server.schedulers.values import Account, Job, JobMetadata, JobSpec, Node, Partition, Reservation

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline


class Scheduler(Protocol):
    """A batch system, seen as one user. Every method but submit, cancel and attach can be repeated.

    All raise Upstream when the scheduler's own programs fail, Unavailable when it is down, Timeout at the
    deadline, and Unsupported for what this scheduler cannot do.
    """

    async def submit(self, spec: JobSpec, deadline: Deadline) -> str:
        """Submit a job and return its id. Invalid holds the scheduler's own words of refusal.

        Raised once the scheduler may have taken the job, an error says so in its text.
        """
        ...

    async def jobs(
        self, *, all_users: bool, account: str | None, name: str | None, window: int, deadline: Deadline
    ) -> list[Job]:
        """Jobs that were alive within the last `window` seconds, oldest first, live and finished."""
        ...

    async def job(self, job_id: str, deadline: Deadline) -> list[Job]:
        """The job; for an array without an element index one Job that sums it up. NotFound if there is none."""
        ...

    async def metadata(self, job_id: str, deadline: Deadline) -> list[JobMetadata]:
        """What the job was submitted with. NotFound if there is no such job."""
        ...

    async def cancel(self, job_id: str, deadline: Deadline) -> None:
        """Cancel the job; nothing happens to a finished one. NotFound, Denied."""
        ...

    async def attach(self, job_id: str, command: str, deadline: Deadline) -> None:
        """Run a shell command inside the running job's allocation and wait for it."""
        ...

    async def nodes(self, deadline: Deadline) -> list[Node]:
        """All nodes, each once, by name."""
        ...

    async def partitions(self, deadline: Deadline, *, hidden: bool) -> list[Partition]:
        """Partitions by the scheduler's order; hidden ones only when asked for."""
        ...

    async def reservations(self, deadline: Deadline) -> list[Reservation]:
        """Current and coming reservations."""
        ...

    async def accounts(self, deadline: Deadline) -> list[Account] | None:
        """The accounts this user may charge; None when the scheduler keeps none (or its records are down)."""
        ...

    async def ping(self, deadline: Deadline) -> None:
        """Return when the scheduler answers, raise Unavailable with what it said when not."""
        ...
