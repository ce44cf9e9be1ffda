"""The dialect of Slurm's command-line programs: their arguments, and the parser of each output. No I/O.

The parsers are in `jobs` and `resources`, error messages in `errors`, state names in `states`, job ids in `ids`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from flamecrest.server.errors import Field, Invalid, Unavailable
from flamecrest.server.schedulers.dialect import CancelOutcome, JobQuery
from flamecrest.server.schedulers.merging import Snapshot
from flamecrest.server.schedulers.values import Account, Job, JobMetadata, JobSpec, Node, Partition, Reservation
from flamecrest.server.ssh.command import Command, Output

from . import errors, resources
from . import jobs as slurm_jobs
from .ids import SlurmJobId

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flamecrest.server.schedulers.merging import JobRecord

T = TypeVar("T")

# Read NAME=VALUE entries up to an empty one, each ended by NUL, from standard input; leave the rest of it, the
# script, to sbatch. bash reads a pipe byte by byte here, so it takes nothing of the rest. The program is found
# before PATH may change; LC_ALL is ours and no business of the job.
LOADER = (
    'run=$(type -P -- "$1") || { printf "%s: command not found\\n" "$1" >&2; exit 127; }; '
    'shift; set -- "$run" "$@"; unset LC_ALL run; '
    'while IFS= read -r -d "" FLAMECREST_ENTRY && [ -n "$FLAMECREST_ENTRY" ]; '
    'do export "$FLAMECREST_ENTRY"; done; unset FLAMECREST_ENTRY; exec "$@"'
)
# Variables that bash computes, counts with or does not let go: they would arrive changed, or be run as arithmetic.
BASH_OWN = frozenset({
    "BASHOPTS", "BASHPID", "BASH_ALIASES", "BASH_ARGC", "BASH_ARGV", "BASH_CMDS", "BASH_COMMAND",
    "BASH_COMPAT", "BASH_LINENO", "BASH_MONOSECONDS", "BASH_SOURCE", "BASH_SUBSHELL", "BASH_TRAPSIG",
    "BASH_VERSINFO", "BASH_XTRACEFD",
    "DIRSTACK", "EPOCHREALTIME", "EPOCHSECONDS", "EUID", "FLAMECREST_ENTRY", "FUNCNAME", "GROUPS",
    "HISTCMD", "LINENO", "OPTIND", "PIPESTATUS", "PPID", "RANDOM", "SECONDS", "SHELLOPTS", "SHLVL",
    "SRANDOM", "UID", "_",
})  # fmt: skip

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_NO_TEXT = re.compile(r"[\x00\ud800-\udfff]")
_JOB_LINE = re.compile(r"([0-9]+)(?:;\S+)?")
_FILTER = re.compile(r"[A-Za-z0-9_.+=@:/][A-Za-z0-9_.+=@:/-]*")  # what squeue and sacct compare as it stands
_LONGEST_FIELD = 4096
_LONGEST_COMMAND = 100_000  # bytes: one argument may have 128 KiB
_EPOCH = {"SLURM_TIME_FORMAT": "%s"}
_WHOLE = {**_EPOCH, "SLURM_BITSTR_LEN": "0"}  # array expressions uncut

# JobSpec's one-line fields: sbatch's option and the name on the wire.
_OPTIONS = (
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
    """A separator that no name can hold, since nobody can know it before the command runs."""
    return f"\x1f{secrets.token_hex(4)}"


class Slurm:
    """The dialect of Slurm's own commands, 20.11 and later.

    `bin_dir` is where they are, None for the PATH; `cluster` is Slurm's own name of the cluster, to tell its
    accounts from those of others in the same database and for jobs whose row does not name it.
    """

    name = "slurm"

    def __init__(
        self, *, bin_dir: str | None = None, cluster: str = "", mark: Callable[[], str] = random_separator
    ) -> None:
        self.bin_dir = bin_dir
        self.cluster = cluster
        self._mark = mark

    # jobs

    def submit(self, spec: JobSpec) -> Command[str]:
        """sbatch, with environment and script over standard input: neither is seen in a process list."""
        if (spec.script is None) == (spec.script_path is None):
            raise _invalid("script", "give exactly one of script and scriptPath")
        options = ["--parsable"]
        for field, option, wire in _OPTIONS:
            if value := getattr(spec, field):
                options.append(f"{option}={_line(wire, value)}")
        if spec.env:
            options.append("--export=ALL")  # or a site's SBATCH_EXPORT keeps the variables from the job
        if spec.script_path is not None:
            options += ["--", _absolute("scriptPath", _line("scriptPath", spec.script_path))]
        _absolute("workingDirectory", spec.working_directory)
        script = _text("script", spec.script or "")
        argv = ("bash", "-c", LOADER, "flamecrest", self._program("sbatch"), *options)
        return Command(argv, _submitted, stdin=_environment(spec.env) + b"\0" + script)

    def live(self, ask: JobQuery) -> Command[Snapshot]:
        """squeue: what the controller knows, just ended jobs too."""
        mark = self._mark()
        argv = [self._program("squeue"), "--all", "--noheader", "--states=all"]
        argv.append("--Format=" + ",".join(f"{column}:{mark}" for column in slurm_jobs.SQUEUE_COLUMNS))
        argv += self._filters(ask, account="--account", jobs="--jobs")

        def parse(output: Output) -> Snapshot:
            if output.status != 0 and errors.is_unknown_job(output):
                return Snapshot()
            # An unknown column is only a complaint to squeue.
            if output.status != 0 or "Invalid job format specification" in output.errors():
                raise errors.command_error("squeue", output)
            return slurm_jobs.parse_squeue(_display(output), mark, self.cluster)

        return Command(argv, parse, env=_WHOLE, repeatable=True)

    def history(self, ask: JobQuery) -> Command[Snapshot]:
        """sacct: what the database knows, some seconds late."""
        mark = self._mark()
        argv = [self._program("sacct"), "--noheader", "--parsable", f"--delimiter={mark}"]
        argv.append("--format=" + ",".join(slurm_jobs.SACCT_COLUMNS))
        argv += self._filters(ask, account="--accounts", jobs="--jobs")
        if ask.job_id is None:
            argv += [f"--starttime=now-{ask.window}seconds", *(["--allusers"] if ask.user is None else [])]

        def parse(output: Output) -> Snapshot:
            if output.status != 0 and (errors.has_no_accounting(output) or errors.is_unknown_user(output)):
                return Snapshot()
            if output.status != 0:
                raise errors.command_error("sacct", output)
            return slurm_jobs.parse_sacct(_display(output), mark, self.cluster)

        return Command(argv, parse, env=_WHOLE, repeatable=True)

    def _filters(self, ask: JobQuery, *, account: str, jobs: str) -> list[str]:
        """What the commands can select by themselves. The caller selects again, by the exact value."""
        if ask.job_id is not None:
            return [f"{jobs}={SlurmJobId.parse(ask.job_id).asked}"]
        chosen = [] if ask.user is None else [f"--user={ask.user}"]
        for option, value in ((account, ask.account), ("--name", ask.name)):
            if value is not None and _FILTER.fullmatch(value):
                chosen.append(f"{option}={value}")
        return chosen

    def select(self, job_id: str, records: Iterable[JobRecord]) -> Job | None:
        """The one job that the id means among records."""
        return SlurmJobId.parse(job_id).select(records)

    def raw_job_id(self, job_id: str, records: Iterable[JobRecord]) -> str | None:
        """The number of the one job that the id means; None if it means several or none."""
        parts = SlurmJobId.parse(job_id).parts(records)
        return parts[0].raw if len(parts) == 1 and not parts[0].is_group else None

    def matches(self, ask: JobQuery, job: Job) -> bool:
        """Whether account and name are those that are asked for.

        Slurm keeps account names in lower case and takes them in any; its database has a ` for each " in a name.
        """
        account = ask.account is None or ask.account.lower() == (job.account or "").lower()
        return account and (ask.name is None or job.name in (ask.name, ask.name.replace('"', "`")))

    def metadata(self, job_id: str) -> Command[JobMetadata | None]:
        """The job as `scontrol show job` tells it: the paths; None for a job that the controller has forgotten."""
        job = SlurmJobId.parse(job_id)
        element = str(job.elements.lowest()) if job.elements is not None and len(job.elements) == 1 else ""

        def parse(output: Output) -> JobMetadata | None:
            if output.status != 0 and errors.is_unknown_job(output):
                return None
            if output.status != 0:
                raise errors.command_error("scontrol", output)
            return slurm_jobs.parse_job_paths(_display(output), job.base, element)

        return Command((self._program("scontrol"), "show", "job", job.asked), parse, repeatable=True)

    def scripts(self, job_id: str) -> tuple[Command[str | None], ...]:
        """The ways to a job's script, the best first; None where there is none or it is not the caller's."""
        asked = SlurmJobId.parse(job_id).asked
        live = (self._program("scontrol"), "write", "batch_script", asked, "-")
        past = (self._program("sacct"), f"--jobs={asked}", "--batch-script")
        return Command(live, _live_script, repeatable=True), Command(past, _past_script, repeatable=True)

    def cancel(self, job_id: str) -> Command[CancelOutcome]:
        """scancel, which only tells with --verbose what became of it."""

        def parse(output: Output) -> CancelOutcome:
            if errors.has_ended(output):
                return CancelOutcome.ENDED
            if errors.is_unknown_job(output):
                return CancelOutcome.UNKNOWN
            if output.status != 0:
                raise errors.command_error("scancel", output)
            return CancelOutcome.DONE

        return Command((self._program("scancel"), "--verbose", str(SlurmJobId.parse(job_id))), parse)

    def attach(self, number: str, command: str) -> Command[None]:
        """srun, once, in the allocation of the job with this number (srun takes no element of an array)."""
        shell = _text("command", command).decode()
        if not shell.strip() or len(shell.encode()) > _LONGEST_COMMAND:
            raise _invalid("command", f"has 1 to {_LONGEST_COMMAND} bytes")
        srun = (self._program("srun"), f"--jobid={number}", "--overlap", "--nodes=1", "--ntasks=1", "--input=none")

        def parse(output: Output) -> None:
            if output.status != 0:
                raise errors.attach_error(output)

        return Command(("env", "-u", "LC_ALL", *srun, "bash", "-c", shell), parse)

    # the cluster

    def nodes(self) -> Command[list[Node]]:
        """sinfo, one row for each node and partition."""
        mark = self._mark()
        columns = ",".join(f"{column}:{mark}" for column in resources.SINFO_COLUMNS)
        argv = (self._program("sinfo"), "--all", "--Node", "--noheader", f"--Format={columns}")
        return self._read(argv, lambda shown: resources.parse_nodes(shown, mark))

    def partitions(self, *, hidden: bool) -> Command[list[Partition]]:
        """By `scontrol show partitions`."""
        every = ("--all",) if hidden else ()
        argv = (self._program("scontrol"), *every, "--oneliner", "show", "partitions")
        return self._read(argv, resources.parse_partitions)

    def reservations(self) -> Command[list[Reservation]]:
        """By `scontrol show reservations`."""
        argv = (self._program("scontrol"), "--all", "--oneliner", "show", "reservations")
        return self._read(argv, resources.parse_reservations)

    def accounts(self, user: str) -> Command[list[Account] | None]:
        """sacctmgr, everything in one call; None where there are no records, or they are down."""
        columns = "format=user,defaultaccount,account,cluster"
        argv = (
            self._program("sacctmgr"),
            "--noheader",
            "--parsable2",
            "show",
            "user",
            f"name={user}",
            "withassoc",
            columns,
        )

        def parse(output: Output) -> list[Account] | None:
            if output.status == 0:
                return resources.parse_accounts(_display(output), self.cluster)
            error = errors.command_error("sacctmgr", output)
            if isinstance(error, Unavailable) or errors.has_no_accounting(output):
                return None
            raise error

        return Command(argv, parse, repeatable=True)

    def ping(self) -> Command[None]:
        """Ask by `scontrol ping`: it answers at once, also when the controller does not."""

        def parse(output: Output) -> None:
            shown = _display(output)
            if resources.is_controller_up(shown):
                return
            if shown.strip():
                raise Unavailable(f"The scheduler does not answer: {errors.error_text(output)}")
            raise errors.command_error("scontrol", output)

        return Command((self._program("scontrol"), "ping"), parse, repeatable=True)

    def _program(self, name: str) -> str:
        return name if self.bin_dir is None else f"{self.bin_dir.rstrip('/')}/{name}"

    def _read(self, argv: tuple[str, ...], parse: Callable[[str], T]) -> Command[T]:
        """A question about the cluster, which fails if and only if the exit status says so."""

        def checked(output: Output) -> T:
            if output.status != 0:
                raise errors.command_error(argv[0].rpartition("/")[2], output)
            return parse(_display(output))

        return Command(argv, checked, env=_EPOCH, repeatable=True)


def _submitted(output: Output) -> str:
    """The job's id: the last line that can be one, since a .bashrc or a plugin may print before it."""
    if output.status != 0:
        raise errors.submit_error(output)
    for line in reversed(_display(output).splitlines()):
        if found := _JOB_LINE.fullmatch(line.strip()):
            return found[1]
    raise errors.submit_error(output)


def _live_script(output: Output) -> str | None:
    """Here scontrol exits with 0 whatever happens; it says on standard error that there is no script."""
    return None if output.status != 0 or "script retrieval failed" in output.errors() else _display(output) or None


def _past_script(output: Output) -> str | None:
    return None if output.status != 0 else slurm_jobs.parse_stored_script(_display(output))


def _display(output: Output) -> str:
    """Standard output as text to show: what is not UTF-8 is replaced."""
    return output.stdout.decode("utf-8", "replace")


def _environment(env: Mapping[str, str]) -> bytes:
    entries = []
    for name, value in env.items():
        if not _ENV_NAME.fullmatch(name) or name in BASH_OWN:
            raise _invalid("env", f"{name[:80]!r} cannot be the name of a variable")
        entries.append(f"{name}=".encode() + _text("env", value) + b"\0")
    return b"".join(entries)


def _line(field: str, value: str) -> str:
    """A value for a command line: one line of text."""
    if _CONTROL.search(value) or len(value) > _LONGEST_FIELD:
        raise _invalid(field, f"is one line of at most {_LONGEST_FIELD} characters")
    return value


def _absolute(field: str, value: str) -> str:
    if not value.startswith("/"):
        raise _invalid(field, "is an absolute path")
    return value


def _text(field: str, value: str) -> bytes:
    if _NO_TEXT.search(value):
        raise _invalid(field, "holds a NUL or something that is no character")
    return value.encode()


def _invalid(field: str, message: str) -> Invalid:
    return Invalid(f"{field}: {message}", fields=(Field("body", field, message),))
