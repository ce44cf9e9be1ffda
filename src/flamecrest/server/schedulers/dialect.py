"""The Dialect port: the command-line programs of one batch system, as the driver (cli.py) needs them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from flamecrest.server.ssh.command import Command

    from .merging import JobRecord, Snapshot
    from .values import Account, Job, JobMetadata, JobSpec, Node, Partition, Reservation


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Which jobs are wanted: one job, or those of a user (None: all users) within the last `window` seconds.

    For one job a window of 0 means all times.
    """

    job_id: str | None = None
    user: str | None = None
    account: str | None = None
    name: str | None = None
    window: int = 0


class CancelOutcome(Enum):
    """The result of an attempt to cancel a job."""

    DONE = auto()
    ENDED = auto()  # the job had ended before
    UNCONFIRMED = auto()  # the command did not say what it has done
    UNKNOWN = auto()  # the live scheduler does not know the job: it never did, or no longer does


class Dialect(Protocol):
    """Commands of one batch system and the parsers of their output. No I/O.

    Methods raise Invalid for what can never work and Unsupported for what the system cannot do.
    """

    name: str

    def submit(self, spec: JobSpec) -> Command[str]:
        """Submit a job. Returns its id."""
        ...

    def local_id(self, job_id: str) -> Command[str] | None:
        """The id of a submitted job without its cluster if that is the login node's; None if it names no cluster."""
        ...

    def live(self, query: JobQuery) -> Command[Snapshot]:
        """Read the scheduler's current jobs. An unknown job is an empty Snapshot."""
        ...

    def history(self, query: JobQuery) -> Command[Snapshot] | None:
        """Read the accounting records. None if `live` knows ended jobs as well.

        The command raises WindowTooWide if the accounting refuses to search that long a time.
        """
        ...

    def matches(self, query: JobQuery, job: Job) -> bool:
        """Whether account and name of the job are those of the query; the commands may return more jobs."""
        ...

    def select(self, job_id: str, records: Iterable[JobRecord]) -> Job | None:
        """The one job that the id means, among records."""
        ...

    def raw_job_id(self, job_id: str, records: Iterable[JobRecord]) -> str | None:
        """The id of that job for `attach`; None if `job_id` means several jobs or none."""
        ...

    def metadata(self, job_id: str) -> Command[JobMetadata | None]:
        """Read the job's paths; None if the live scheduler does not know the job."""
        ...

    def scripts(self, job_id: str) -> Sequence[Command[str | None]]:
        """The commands that can read the job's script, the live one first; each returns None if it finds none."""
        ...

    def cancel(self, job_id: str) -> Command[CancelOutcome]:
        """Cancel the job. Raises Denied."""
        ...

    def attach(self, raw_job_id: str, command: str) -> Command[None]:
        """Run a shell command in the job's allocation."""
        ...

    def nodes(self) -> Command[list[Node]]:
        """Read all nodes."""
        ...

    def partitions(self, *, hidden: bool) -> Command[list[Partition]]:
        """Read the partitions or queues."""
        ...

    def reservations(self) -> Command[list[Reservation]]:
        """Read the reservations."""
        ...

    def accounts(self, user: str) -> Command[list[Account] | None]:
        """Read the user's accounts; None if the system keeps none."""
        ...

    def ping(self) -> Command[None]:
        """Check that the scheduler answers."""
        ...
