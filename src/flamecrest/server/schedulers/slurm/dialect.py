"""The dialect of Slurm's command-line programs: their arguments, and the parser of each output. No I/O.

The parsers are in `jobs` and `resources`, error messages in `errors`, state names in `states`, job ids in `ids`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from flamecrest.server.errors import Conflict, Unavailable, Unsupported
from flamecrest.server.schedulers.dialect import CancelOutcome, Dialect, JobQuery
from flamecrest.server.schedulers.job_environment import (
    encode_text,
    invalid_field,
)
from flamecrest.server.schedulers.job_errors import scheduler_down
from flamecrest.server.schedulers.merging import Snapshot
from flamecrest.server.schedulers.once.marked_jobs import MarkedJobs
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
from flamecrest.server.ssh.command import Command, Output

from . import control, errors, resources, submission
from . import jobs as slurm_jobs
from .fields import display
from .ids import NOT_ALONE, SlurmJobId
from .job_lists import UNCUT, JobLists

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flamecrest.server.schedulers.merging import JobRecord
    from flamecrest.server.schedulers.reading.sharing import Kind

T = TypeVar("T")

_CLUSTER_NAME: Final = re.compile(r"^ClusterName\s*=\s*(\S+)\s*$", re.MULTILINE)
_MAX_COMMAND: Final = 100_000  # bytes: one argument may have 128 KiB
_SCRIPT: Final = re.compile(r"^#!", re.MULTILINE)
_EPOCH: Final = {"SLURM_TIME_FORMAT": "%s"}


def random_separator() -> str:
    """A column separator that no job name can contain: it is chosen when the command is made."""
    return f"\x1f{secrets.token_hex(4)}"


class Slurm(Dialect):
    """The dialect of Slurm's commands. Recorded versions: 22.05, 24.11, 26.05.

    `bin_dir` is the folder of the commands, None for the PATH; `separator` makes a column separator. `details`: ask for
    the columns that not every version has, until a command says that it does not know one of them. `clock` returns
    seconds since the epoch. `unrecorded`: for which jobs a search waits.
    """

    name = "slurm"
    capabilities = submission.CAPABILITIES
    has_history = True

    def __init__(
        self,
        *,
        bin_dir: str | None = None,
        separator: Callable[[], str] = random_separator,
        details: bool = True,
    ) -> None:
        self._bin = "" if bin_dir is None else f"{bin_dir.rstrip('/')}/"
        self._separator = separator
        self._lists = JobLists(self._bin, separator, details=details)

    # jobs

    def submit(self, spec: JobSpec) -> Command[str]:
        """Run sbatch, with environment and script over standard input."""
        return submission.submit(f"{self._bin}sbatch", spec)

    def check(self, spec: JobSpec) -> Command[SubmissionCheck]:
        """Run `sbatch --test-only`."""
        return submission.check(f"{self._bin}sbatch", spec)

    def marked(self, user: str) -> tuple[Command[MarkedJobs], ...]:
        """Run squeue, then sacct, for comments and for the arguments of sbatch.

        While the accounting does not have jobs whose markers the queue does not show, the search is not certain. Of
        jobs that were held until they were cancelled sacct shows those in a `--state` that is given, and no others.
        """
        separator = self._separator()
        hidden: dict[str, str] = {}
        squeue = [f"{self._bin}squeue", "--all", "--noheader", "--states=all", f"--user={user}"]
        squeue.append("--Format=" + ",".join(f"{column}:{separator}" for column in slurm_jobs.MARKED_SQUEUE_COLUMNS))
        sacct = [f"{self._bin}sacct", "--noheader", "--parsable", f"--delimiter={separator}", "--allocations"]
        sacct.append("--format=" + ",".join(slurm_jobs.MARKED_SACCT_COLUMNS))
        sacct += [f"--user={user}", f"--starttime=now-{slurm_jobs.MARKED_WINDOW}seconds", "--endtime=now"]
        sacct.append(f"--state={slurm_jobs.EVERY_STATE}")

        def parse_squeue(output: Output) -> MarkedJobs:
            if output.status != 0 or (errors.reports_error(output) and not errors.is_unknown_user(output)):
                raise errors.command_error("squeue", output)
            printed = display(output)
            hidden.update(slurm_jobs.hidden_markers(printed, separator))
            return MarkedJobs.of(slurm_jobs.marked_jobs(printed, separator, slurm_jobs.MARKED_SQUEUE_COLUMNS, user))

        def parse_sacct(output: Output) -> MarkedJobs:
            if errors.has_no_accounting(output) or errors.is_unknown_user(output):
                return MarkedJobs({}, frozenset(hidden.values()))
            if output.status != 0 or errors.reports_error(output):
                raise errors.command_error("sacct", output)
            printed = display(output)
            found = slurm_jobs.marked_jobs(printed, separator, slurm_jobs.MARKED_SACCT_COLUMNS, user)
            missing = hidden.keys() - slurm_jobs.recorded_ids(printed, separator)
            return MarkedJobs.of(found, hidden=frozenset(hidden[job_id] for job_id in missing))

        return (
            Command(squeue, parse_squeue, env=UNCUT, repeatable=True),
            Command(sacct, parse_sacct, env=UNCUT, repeatable=True),
        )

    def local_id(self, job_id: str) -> Command[str] | None:
        """Run `scontrol show config` for the name of the login node's cluster."""
        job = SlurmJobId.parse(job_id)
        if not job.cluster:
            return None

        def parse(output: Output) -> str:
            if output.status != 0:
                raise errors.command_error("scontrol", output)
            name = _CLUSTER_NAME.search(display(output))
            return str(job) if name is not None and name[1].lower() == job.cluster.lower() else job.shown

        return Command((f"{self._bin}scontrol", "show", "config"), parse, repeatable=True)

    def queue_id(self, job_id: str) -> str | None:
        """The number of the job or of its array; None for a job of another cluster."""
        job = SlurmJobId.parse(job_id)
        return None if job.cluster else job.base_id

    def live(self, query: JobQuery) -> Command[Snapshot]:
        """Run squeue: the jobs that the controller knows, including those that ended just now."""
        return self._lists.live(query)

    def live_of(self, users: Sequence[str]) -> Command[Snapshot]:
        """Run squeue for several users."""
        return self._lists.live_of(users)

    def history(self, query: JobQuery) -> Command[Snapshot]:
        """Run sacct: the jobs in the accounting database, which may lag by some seconds."""
        return self._lists.history(query)

    def select(self, job_id: str, records: Iterable[JobRecord]) -> Job | None:
        """The one job that the id means, among records; see SlurmJobId."""
        return SlurmJobId.parse(job_id).select(records)

    def raw_job_id(self, job_id: str, records: Iterable[JobRecord]) -> str | None:
        """The number of that job, which srun needs; None if the id means several jobs or none."""
        job = SlurmJobId.parse(job_id)
        if job.cluster:
            raise Unsupported("Commands can only be run in jobs of the cluster that was asked, not of another one")
        parts = job.parts(records)
        return parts[0].raw_id if len(parts) == 1 and not parts[0].is_group else None

    def matches(self, query: JobQuery, job: Job) -> bool:
        """Whether account and name of the job are those of the query."""
        return slurm_jobs.matches(query, job)

    def metadata(self, job_id: str) -> Command[JobMetadata | None]:
        """Run `scontrol show job` for the paths; None for a job that the controller no longer knows."""
        job = SlurmJobId.parse(job_id)
        element = str(job.elements.lowest()) if job.elements is not None and len(job.elements) == 1 else ""

        def parse(output: Output) -> JobMetadata | None:
            if output.status != 0 and errors.is_unknown_job(output):
                return None
            if output.status != 0:
                raise errors.command_error("scontrol", output)
            paths = slurm_jobs.parse_job_paths(display(output), job.base_id, element)
            return replace(paths, id=job.with_cluster(paths.id))

        return Command((f"{self._bin}scontrol", *job.clusters, "show", "job", job.argument), parse, repeatable=True)

    def scripts(self, job_id: str) -> tuple[Command[str | None], ...]:
        """Read the script from the controller, else from the database; None if missing or owned by another user."""
        job = SlurmJobId.parse(job_id)
        live = (f"{self._bin}scontrol", *job.clusters, "write", "batch_script", job.argument, "-")
        past = (f"{self._bin}sacct", f"--jobs={job.argument}", *job.clusters, "--batch-script")
        return Command(live, _live_script, repeatable=True), Command(past, _past_script, repeatable=True)

    def cancel(self, job_id: str) -> Command[CancelOutcome]:
        """Run scancel. Only with --verbose does it print whether the job existed."""

        def parse(output: Output) -> CancelOutcome:
            if errors.has_ended(output):
                return CancelOutcome.ENDED
            if errors.is_unknown_job(output):
                return CancelOutcome.UNKNOWN
            if errors.is_not_alone(output):
                raise Conflict(NOT_ALONE, detail=errors.error_text(output))
            if errors.is_not_cancelled(output):
                raise errors.command_error("scancel", output)
            return CancelOutcome.DONE if errors.is_cancelling(output) else CancelOutcome.UNCONFIRMED

        job = SlurmJobId.parse(job_id)
        return Command((f"{self._bin}scancel", "--verbose", *job.clusters, str(job)), parse, joined=True)

    def act(self, job_id: str, action: JobAction) -> Command[None]:
        """Run scontrol."""
        return control.act(f"{self._bin}scontrol", SlurmJobId.parse(job_id), action)

    def signal(self, job_id: str, signal: str) -> Command[None]:
        """Run `scancel --signal`."""
        return control.signal(f"{self._bin}scancel", SlurmJobId.parse(job_id), signal)

    def change(self, job_id: str, change: JobChange) -> Command[None]:
        """Run `scontrol update`."""
        return control.change(f"{self._bin}scontrol", SlurmJobId.parse(job_id), change)

    def attach(self, raw_job_id: str, command: str) -> Command[None]:
        """Run srun, one task, in the allocation of the job. srun accepts no id of an array element."""
        shell = encode_text("command", command).decode()
        if not shell.strip() or len(shell.encode()) > _MAX_COMMAND:
            raise invalid_field("command", f"must have 1 to {_MAX_COMMAND} bytes")
        srun = (f"{self._bin}srun", f"--jobid={raw_job_id}", "--overlap", "--nodes=1", "--ntasks=1", "--input=none")

        def parse(output: Output) -> None:
            if output.status != 0:
                raise errors.attach_error(output)

        return Command((*srun, "bash", "-c", shell), parse, for_job=True)

    # nodes, partitions, reservations, accounts

    def nodes(self) -> Command[list[Node]]:
        """Run sinfo, which prints one row for each pair of node and partition."""
        separator = self._separator()
        columns = ",".join(f"{column}:{separator}" for column in resources.SINFO_COLUMNS)
        argv = (f"{self._bin}sinfo", "--all", "--Node", "--noheader", f"--Format={columns}")
        return self._read(argv, lambda printed: resources.parse_nodes(printed, separator))

    def partitions(self, *, hidden: bool) -> Command[list[Partition]]:
        """Run `scontrol show partitions`."""
        every = ("--all",) if hidden else ()
        argv = (f"{self._bin}scontrol", *every, "--oneliner", "show", "partitions")
        return self._read(argv, resources.parse_partitions)

    def reservations(self) -> Command[list[Reservation]]:
        """Run `scontrol show reservations`."""
        argv = (f"{self._bin}scontrol", "--all", "--oneliner", "show", "reservations")
        return self._read(argv, resources.parse_reservations)

    def private(self) -> Command[frozenset[Kind]]:
        """Run `scontrol show config` for PrivateData and MCSParameters."""
        return self._read((f"{self._bin}scontrol", "show", "config"), resources.parse_private)

    def accounts(self, user: str) -> Command[list[Account] | None]:
        """Run sacctmgr; None if there is no accounting or its database is down."""
        columns = "format=user,defaultaccount,account,cluster"
        sacctmgr = (f"{self._bin}sacctmgr", "--noheader", "--parsable2")
        argv = (*sacctmgr, "show", "user", f"name={user}", "withassoc", columns)

        def parse(output: Output) -> list[Account] | None:
            if output.status == 0:
                return resources.parse_accounts(display(output))
            error = errors.command_error("sacctmgr", output)
            if isinstance(error, Unavailable) or errors.has_no_accounting(output):
                return None
            raise error

        return Command(argv, parse, repeatable=True)

    def ping(self) -> Command[None]:
        """Run `scontrol ping`, which answers at once even if the controller does not."""

        def parse(output: Output) -> None:
            printed = display(output)
            if resources.is_controller_up(printed):
                return
            if printed.strip():
                raise scheduler_down(errors.error_text(output))
            raise errors.command_error("scontrol", output)

        return Command((f"{self._bin}scontrol", "ping"), parse, repeatable=True)

    def _read(self, argv: tuple[str, ...], parse: Callable[[str], T]) -> Command[T]:
        """A command about the cluster, whose exit status tells reliably whether it failed."""

        def checked(output: Output) -> T:
            if output.status != 0:
                raise errors.command_error(argv[0].rpartition("/")[2], output)
            return parse(display(output))

        return Command(argv, checked, env=_EPOCH, repeatable=True)


def _live_script(output: Output) -> str | None:
    """The exit status of scontrol is always 0 here; a message on standard error says that there is no script.

    Every script of Slurm's begins with `#!`: lines before it are those of plug-ins.
    """
    if output.status != 0 or "script retrieval failed" in output.errors():
        return None
    printed = display(output)
    found = _SCRIPT.search(printed)
    return (printed if found is None else printed[found.start() :]) or None


def _past_script(output: Output) -> str | None:
    return None if output.status != 0 else slurm_jobs.parse_stored_script(display(output))
