"""The dialect of Slurm's command-line programs: their arguments, and the parser of each output. No I/O.

The parsers are in `jobs` and `resources`, error messages in `errors`, state names in `states`, job ids in `ids`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from flamecrest.server.errors import GatewayError, Unavailable, Unsupported
from flamecrest.server.schedulers.dialect import CancelOutcome, JobQuery
from flamecrest.server.schedulers.job_environment import (
    check_absolute_path,
    check_line,
    encode_text,
    invalid_field,
    submit_command,
)
from flamecrest.server.schedulers.job_errors import WindowTooWide
from flamecrest.server.schedulers.merging import Snapshot
from flamecrest.server.schedulers.values import Account, Job, JobMetadata, JobSpec, Node, Partition, Reservation
from flamecrest.server.ssh.command import RUNNING, Command, Output

from . import errors, resources
from . import jobs as slurm_jobs
from .ids import SlurmJobId

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flamecrest.server.schedulers.merging import JobRecord

T = TypeVar("T")

_PLAIN: Final = re.compile(r"[A-Za-z0-9_.+=@:/][A-Za-z0-9_.+=@:/-]*")  # filters that squeue and sacct compare literally
_STYLE: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")  # colours of a terminal
# Lines with an id in the output of sbatch, the most certain first. The sentence comes if a wrapper drops --parsable.
# Of several lines of one kind the last counts: wrappers and plug-ins print lines of their own.
_WITH_CLUSTER: Final = re.compile(r"\s*([0-9]{1,10});([^\s;]+)\s*", re.ASCII)
_ID_LINES: Final = (
    _WITH_CLUSTER,
    re.compile(r".*\bSubmitted batch job ([0-9]{1,10})\b(?: on cluster ([\w.-]*\w))?.*", re.ASCII),
    re.compile(r"\s*([0-9]{1,10})\s*()", re.ASCII),
)
_CLUSTERS_DIRECTIVE: Final = re.compile(r"^#SBATCH\b.*\s(?:--clus|-[A-Za-z]*M)", re.MULTILINE)
_CLUSTER_NAME: Final = re.compile(r"^ClusterName\s*=\s*(\S+)\s*$", re.MULTILINE)
_MAX_END: Final = 32 * 1024  # bytes of the beginning, and of the end, of sbatch's output that are read
_MAX_COMMAND: Final = 100_000  # bytes: one argument may have 128 KiB
_EPOCH: Final = {"SLURM_TIME_FORMAT": "%s"}
_UNCUT: Final = {**_EPOCH, "SLURM_BITSTR_LEN": "0"}  # array expressions in full

# The one-line fields of a JobSpec: sbatch's option and the field's name on the wire.
_OPTIONS: Final = (
    ("working_directory", "--chdir", "workingDirectory"),
    ("name", "--job-name", "name"),
    ("account", "--account", "account"),
    ("partition", "--partition", "partition"),
    ("reservation", "--reservation", "reservation"),
    ("constraints", "--constraint", "constraints"),
    ("standard_input", "--input", "standardInput"),
    ("standard_output", "--output", "standardOutput"),
    ("standard_error", "--error", "standardError"),
)


def random_separator() -> str:
    """A column separator that no job name can contain: it is chosen when the command is made."""
    return f"\x1f{secrets.token_hex(4)}"


class Slurm:
    """The dialect of Slurm's commands. Recorded versions: 22.05, 24.11, 26.05.

    `bin_dir` is the folder of the commands, None for the PATH; `separator` makes a column separator.
    """

    name = "slurm"

    def __init__(self, *, bin_dir: str | None = None, separator: Callable[[], str] = random_separator) -> None:
        self._bin = "" if bin_dir is None else f"{bin_dir.rstrip('/')}/"
        self._separator = separator

    # jobs

    def submit(self, spec: JobSpec) -> Command[str]:
        """Run sbatch, with environment and script over standard input."""
        if (spec.script is None) == (spec.script_path is None):
            raise invalid_field("script", "give exactly one of script and scriptPath")
        options = ["--parsable"]
        for field, option, wire in _OPTIONS:
            if value := getattr(spec, field):
                options.append(f"{option}={check_line(wire, value)}")
        if spec.env:
            options.append("--export=ALL")  # otherwise a site's SBATCH_EXPORT may withhold the variables
        if spec.script_path is not None:
            options += ["--", check_absolute_path("scriptPath", check_line("scriptPath", spec.script_path))]
        check_absolute_path("workingDirectory", spec.working_directory)
        command = submit_command([f"{self._bin}sbatch", *options], spec, partial(_parse_job_id, spec))
        return replace(command, is_enough=partial(_has_job_id, spec))  # --wait: sbatch stays until the job has ended

    def local_id(self, job_id: str) -> Command[str] | None:
        """Run `scontrol show config` for the name of the login node's cluster."""
        job = SlurmJobId.parse(job_id)
        if not job.cluster:
            return None

        def parse(output: Output) -> str:
            if output.status != 0:
                raise errors.command_error("scontrol", output)
            name = _CLUSTER_NAME.search(_display(output))
            return str(job) if name is not None and name[1].lower() == job.cluster.lower() else job.shown

        return Command((f"{self._bin}scontrol", "show", "config"), parse, repeatable=True)

    def live(self, query: JobQuery) -> Command[Snapshot]:
        """Run squeue: the jobs that the controller knows, including those that ended just now."""
        separator = self._separator()
        argv = [f"{self._bin}squeue", "--all", "--noheader", "--states=all"]
        argv.append("--Format=" + ",".join(f"{column}:{separator}" for column in slurm_jobs.SQUEUE_COLUMNS))
        argv += self._filters(query, account="--account", jobs="--jobs")

        def parse(output: Output) -> Snapshot:
            if output.status != 0 and query.job_id is not None and errors.is_unknown_job(output):
                return Snapshot()
            # squeue exits with 0 although it does not know a column.
            if output.status != 0 or "Invalid job format specification" in output.errors():
                raise errors.command_error("squeue", output)
            return _checked(slurm_jobs.parse_squeue(_display(output), separator), "squeue", output)

        return Command(argv, parse, env=_UNCUT, repeatable=True)

    def history(self, query: JobQuery) -> Command[Snapshot]:
        """Run sacct: the jobs in the accounting database, which may lag by some seconds."""
        separator = self._separator()
        argv = [f"{self._bin}sacct", "--noheader", "--parsable", f"--delimiter={separator}"]
        argv.append("--format=" + ",".join(slurm_jobs.SACCT_COLUMNS))
        argv += self._filters(query, account="--accounts", jobs="--jobs")
        if query.window:
            argv.append(f"--starttime=now-{query.window}seconds")
        if query.job_id is None and query.user is None:
            argv.append("--allusers")

        def parse(output: Output) -> Snapshot:
            if errors.is_too_wide(output):
                raise WindowTooWide(errors.error_text(output))
            if output.status != 0 and (errors.has_no_accounting(output) or errors.is_unknown_user(output)):
                return Snapshot()
            if output.status != 0:
                raise errors.command_error("sacct", output)
            return _checked(slurm_jobs.parse_sacct(_display(output), separator), "sacct", output)

        return Command(argv, parse, env=_UNCUT, repeatable=True)

    def _filters(self, query: JobQuery, *, account: str, jobs: str) -> list[str]:
        """The options that preselect jobs. `matches` compares the exact values afterwards."""
        if query.job_id is not None:
            job = SlurmJobId.parse(query.job_id)
            return [f"{jobs}={job.argument}", *job.clusters]
        chosen = [] if query.user is None else [f"--user={query.user}"]
        for option, value in ((account, query.account), ("--name", query.name)):
            if value is not None and _PLAIN.fullmatch(value):
                chosen.append(f"{option}={value}")
        return chosen

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
        """Whether account and name of the job are those of the query.

        Slurm stores account names in lower case and accepts any case. Its database replaces each " in a job name by `.
        """
        account = query.account is None or query.account.lower() == (job.account or "").lower()
        return account and (query.name is None or job.name in (query.name, query.name.replace('"', "`")))

    def metadata(self, job_id: str) -> Command[JobMetadata | None]:
        """Run `scontrol show job` for the paths; None for a job that the controller no longer knows."""
        job = SlurmJobId.parse(job_id)
        element = str(job.elements.lowest()) if job.elements is not None and len(job.elements) == 1 else ""

        def parse(output: Output) -> JobMetadata | None:
            if output.status != 0 and errors.is_unknown_job(output):
                return None
            if output.status != 0:
                raise errors.command_error("scontrol", output)
            paths = slurm_jobs.parse_job_paths(_display(output), job.base_id, element)
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
            if errors.is_not_cancelled(output):
                raise errors.command_error("scancel", output)
            return CancelOutcome.DONE if errors.is_cancelling(output) else CancelOutcome.UNCONFIRMED

        job = SlurmJobId.parse(job_id)
        return Command((f"{self._bin}scancel", "--verbose", *job.clusters, str(job)), parse)

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

    def accounts(self, user: str) -> Command[list[Account] | None]:
        """Run sacctmgr; None if there is no accounting or its database is down."""
        columns = "format=user,defaultaccount,account,cluster"
        sacctmgr = (f"{self._bin}sacctmgr", "--noheader", "--parsable2")
        argv = (*sacctmgr, "show", "user", f"name={user}", "withassoc", columns)

        def parse(output: Output) -> list[Account] | None:
            if output.status == 0:
                return resources.parse_accounts(_display(output))
            error = errors.command_error("sacctmgr", output)
            if isinstance(error, Unavailable) or errors.has_no_accounting(output):
                return None
            raise error

        return Command(argv, parse, repeatable=True)

    def ping(self) -> Command[None]:
        """Run `scontrol ping`, which answers at once even if the controller does not."""

        def parse(output: Output) -> None:
            printed = _display(output)
            if resources.is_controller_up(printed):
                return
            if printed.strip():
                raise Unavailable(f"The scheduler does not answer: {errors.error_text(output)}")
            raise errors.command_error("scontrol", output)

        return Command((f"{self._bin}scontrol", "ping"), parse, repeatable=True)

    def _read(self, argv: tuple[str, ...], parse: Callable[[str], T]) -> Command[T]:
        """A command about the cluster, whose exit status tells reliably whether it failed."""

        def checked(output: Output) -> T:
            if output.status != 0:
                raise errors.command_error(argv[0].rpartition("/")[2], output)
            return parse(_display(output))

        return Command(argv, checked, env=_EPOCH, repeatable=True)


def _parse_job_id(spec: JobSpec, output: Output) -> str:
    """The id of the job in the output of sbatch, with the cluster if sbatch names one.

    An id is proof of a job, whatever the exit status: with --wait that is the job's own. The cluster in the sentence of
    a wrapper counts only if the job may have chosen one: otherwise it is the one that the site's commands work with.
    """
    complete = output.stdout.rfind(b"\n") + 1 if output.status == RUNNING else len(output.stdout)
    lines = _STYLE.sub("", _both_ends(output.stdout[:complete]).decode("utf-8-sig", "replace")).splitlines()
    if not (output.stderr and errors.is_not_submitted(output)):
        for pattern in _ID_LINES:
            for line in reversed(lines):
                if (found := pattern.fullmatch(line)) is not None:
                    chosen = found[2] if pattern is _WITH_CLUSTER or _may_choose_cluster(spec) else ""
                    if (job := SlurmJobId.printed(found[1], chosen or "")) is not None:
                        return job.shown
    raise errors.submit_error(output)


def _both_ends(printed: bytes) -> bytes:
    """The beginning and the end of a long output, without the lines between: an id is looked for in it again and again.

    A plug-in or a wrapper may print without end.
    """
    if len(printed) <= 2 * _MAX_END:
        return printed
    return printed[:_MAX_END].rpartition(b"\n")[0] + b"\n" + printed[-_MAX_END:].partition(b"\n")[2]


def _checked(snapshot: Snapshot, program: str, output: Output) -> Snapshot:
    """The snapshot. Raises the error that the program reports if there are no jobs: its exit status may be 0."""
    if not snapshot.records and errors.reports_error(output) and not errors.is_unknown_user(output):
        raise errors.command_error(program, output)
    return snapshot


def _may_choose_cluster(spec: JobSpec) -> bool:
    """Whether the submission names a cluster, or has a script that only the cluster can read."""
    if spec.script is None or not spec.env.keys().isdisjoint(("SBATCH_CLUSTERS", "SLURM_CLUSTERS")):
        return True
    return _CLUSTERS_DIRECTIVE.search(spec.script) is not None


def _has_job_id(spec: JobSpec, output: Output) -> bool:
    try:
        return bool(_parse_job_id(spec, output))
    except GatewayError:
        return False


def _live_script(output: Output) -> str | None:
    """The exit status of scontrol is always 0 here; a message on standard error says that there is no script."""
    return None if output.status != 0 or "script retrieval failed" in output.errors() else _display(output) or None


def _past_script(output: Output) -> str | None:
    return None if output.status != 0 else slurm_jobs.parse_stored_script(_display(output))


def _display(output: Output) -> str:
    """Standard output as text; bytes that are not UTF-8 are replaced."""
    return output.stdout.decode("utf-8", "replace")
