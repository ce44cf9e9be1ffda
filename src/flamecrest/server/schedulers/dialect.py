"""What one batch system's command line has to tell the driver (cli.py): the Dialect port and its values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from flamecrest.server.ssh.command import Command

    from .merging import JobRecord, Snapshot
    from .values import Account, Job, JobMetadata, JobSpec, Node, Partition, Reservation

JOB_NOT_FOUND = "Job not found"  # clients look for these words
MAYBE_SUBMITTED = "The job may have been submitted all the same: look at your jobs before you submit it again."


@dataclass(frozen=True, slots=True)
class JobQuery:
    """A question about jobs: about one, or about those of a user (None: of all) in the last `window` seconds."""

    job_id: str | None = None
    user: str | None = None
    account: str | None = None
    name: str | None = None
    window: int = 0


class CancelOutcome(Enum):
    """What became of an attempt to cancel a job."""

    DONE = auto()
    ENDED = auto()  # it had ended before
    UNKNOWN = auto()  # the live scheduler does not know it: never, or no longer


class Dialect(Protocol):
    """One batch system's commands and how to read what they print. No I/O.

    Factories raise Invalid for what can never work and Unsupported for what the system cannot do.
    """

    name: str

    def submit(self, spec: JobSpec) -> Command[str]:
        """Submit; the job's id."""
        ...

    def live(self, ask: JobQuery) -> Command[Snapshot]:
        """What the scheduler knows now. An unknown job is an empty Reading."""
        ...

    def history(self, ask: JobQuery) -> Command[Snapshot] | None:
        """What its records hold; None where live tells all there is."""
        ...

    def matches(self, ask: JobQuery, job: Job) -> bool:
        """Whether the job's account and name are those of the question: the commands may answer more."""
        ...

    def select(self, job_id: str, records: Iterable[JobRecord]) -> Job | None:
        """The one job that an id means among records."""
        ...

    def raw_job_id(self, job_id: str, records: Iterable[JobRecord]) -> str | None:
        """What `attach` needs to name that job; None if the id means several or none."""
        ...

    def metadata(self, job_id: str) -> Command[JobMetadata | None]:
        """Its paths; None if the scheduler does not know it now."""
        ...

    def scripts(self, job_id: str) -> Sequence[Command[str | None]]:
        """The ways to its script, live first; each None where it finds none."""
        ...

    def cancel(self, job_id: str) -> Command[CancelOutcome]:
        """Cancel; Denied."""
        ...

    def attach(self, number: str, command: str) -> Command[None]:
        """Run a shell command in the job's allocation."""
        ...

    def nodes(self) -> Command[list[Node]]:
        """All nodes."""
        ...

    def partitions(self, *, hidden: bool) -> Command[list[Partition]]:
        """Partitions or queues."""
        ...

    def reservations(self) -> Command[list[Reservation]]:
        """Reservations."""
        ...

    def accounts(self, user: str) -> Command[list[Account] | None]:
        """The user's accounts."""
        ...

    def ping(self) -> Command[None]:
        """Ask the scheduler whether it is there."""
        ...
