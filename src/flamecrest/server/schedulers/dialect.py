"""The Dialect port: the command-line programs of one batch system, as the driver (cli.py) needs them."""

# ruff: noqa: ARG002 - what a batch system lacks needs no arguments

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple, Protocol

from flamecrest.server.errors import Unsupported

from .once.marked_jobs import MarkedJobs

if TYPE_CHECKING:
    from flamecrest.server.ssh.command import Command, Output

    from .capabilities import Capabilities
    from .merging import JobRecord, Snapshot
    from .reading.sharing import Kind
    from .values import (
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


class JobQuery(NamedTuple):
    """Which jobs are wanted: one job, several, or those of a user (None: all users) within the last `window` seconds.

    For jobs by their ids a window of 0 means all times. Unknown ids among several are ignored. `asker` is the user on
    whose login the command runs: what its output shows of the programs may hold for that user alone.
    """

    job_id: str | None = None
    job_ids: Sequence[str] = ()  # of jobs that have a `queue_id`
    user: str | None = None
    account: str | None = None
    name: str | None = None
    window: int = 0
    asker: str = ""


class CancelOutcome(Enum):
    """The result of an attempt to cancel a job."""

    DONE = auto()
    ENDED = auto()  # the job had ended before
    UNCONFIRMED = auto()  # the command did not say what it has done
    UNKNOWN = auto()  # the live scheduler does not know the job: it never did, or no longer does


class Dialect(Protocol):
    """Commands of one batch system and the parsers of their output. No I/O.

    Methods raise Invalid for what can never work and Unsupported for what the system cannot do. A dialect derives from
    this class: the methods that have a body here are those of a batch system with plain job ids and one source of jobs,
    without what `capabilities` need not have.
    """

    name: str
    capabilities: Capabilities
    takes_script_paths: bool = True  # False: a script that is on the cluster is read and submitted as a text
    has_history: bool = False  # False if `live` knows ended jobs as well: then `history` returns None

    def submit(self, spec: JobSpec) -> Command[str]:
        """Submit a job. Returns its id."""
        ...

    def check(self, spec: JobSpec) -> Command[SubmissionCheck]:
        """Ask whether the job would be accepted."""
        raise Unsupported(f"{self.name} cannot check a job without submitting it")

    def marked(self, user: str) -> tuple[Command[MarkedJobs], ...]:
        """Searches for the user's jobs with markers: the live ones first, then those that it does not know."""
        command = self.live(JobQuery(user=user, asker=user))

        def parse(output: Output) -> MarkedJobs:
            mine = (one for one in command.parse(output).records if one.job.user == user)
            return MarkedJobs.of((one.job.marker, one.base_id) for one in mine if one.job.marker is not None)

        return (replace(command, parse=parse),)  # type: ignore[arg-type, return-value]

    def local_id(self, job_id: str) -> Command[str] | None:
        """The id of a submitted job without its cluster if that is the login node's; None if it names no cluster."""
        return None

    def queue_id(self, job_id: str) -> str | None:
        """The `base_id` of the job's records in a list of jobs; None if no list has it (a job of another cluster)."""
        ...

    def live(self, query: JobQuery) -> Command[Snapshot]:
        """Read the scheduler's current jobs. An unknown job is an empty Snapshot."""
        ...

    def live_of(self, users: Sequence[str]) -> Command[Snapshot] | None:
        """Read the current jobs of several users, each with its user; None if one command cannot.

        Users whom the scheduler does not know are the snapshot's `unknown_users`; any other error is raised, even
        beside jobs. The names are neither options, nor numbers, nor lists.
        """
        return None

    def history(self, query: JobQuery) -> Command[Snapshot] | None:
        """Read the accounting records. None if `live` knows ended jobs as well.

        The command raises WindowTooWide if the accounting refuses to search that long a time.
        """
        return None

    def matches(self, query: JobQuery, job: Job) -> bool:
        """Whether account and name of the job are those of the query; the commands may return more jobs."""
        return query.account in (None, job.account) and query.name in (None, job.name)

    def select(self, job_id: str, records: Iterable[JobRecord]) -> Job | None:
        """The one job that the id means, among records."""
        return next((one.job for one in records if one.base_id == self.queue_id(job_id)), None)

    def raw_job_id(self, job_id: str, records: Iterable[JobRecord]) -> str | None:
        """The id of that job for `attach`; None if `job_id` means several jobs or none."""
        return self.queue_id(job_id)

    def metadata(self, job_id: str) -> Command[JobMetadata | None]:
        """Read the job's paths; None if the live scheduler does not know the job."""
        ...

    def scripts(self, job_id: str) -> Sequence[Command[str | None]]:
        """The commands that can read the job's script, the live one first; each returns None if it finds none."""
        return ()

    def cancel(self, job_id: str) -> Command[CancelOutcome]:
        """Cancel the job. Raises Denied."""
        ...

    def act(self, job_id: str, action: JobAction) -> Command[None]:
        """Hold, release, requeue, suspend or resume the job."""
        raise Unsupported(f"{self.name} does not {action} jobs")

    def signal(self, job_id: str, signal: str) -> Command[None]:
        """Send a signal to the job's processes."""
        raise Unsupported(f"{self.name} does not send signals to jobs")

    def change(self, job_id: str, change: JobChange) -> Command[None]:
        """Change the fields of a job."""
        raise Unsupported(f"{self.name} does not change jobs")

    def attach(self, raw_job_id: str, command: str) -> Command[None]:
        """Run a shell command in the job's allocation."""
        raise Unsupported(f"{self.name} cannot run a command in the allocation of a job")

    def nodes(self) -> Command[list[Node]]:
        """Read all nodes."""
        ...

    def partitions(self, *, hidden: bool) -> Command[list[Partition]]:
        """Read the partitions or queues."""
        ...

    def reservations(self) -> Command[list[Reservation]]:
        """Read the reservations."""
        raise Unsupported(f"{self.name} has no reservations")

    def private(self) -> Command[frozenset[Kind]] | None:
        """Read what the scheduler does not show to all users alike; None: take everything as such."""
        return None

    def accounts(self, user: str) -> Command[list[Account] | None]:
        """Read the user's accounts; None if the system keeps none."""
        raise Unsupported(f"{self.name} keeps no accounts of users")

    def ping(self) -> Command[None]:
        """Check that the scheduler answers."""
        ...
