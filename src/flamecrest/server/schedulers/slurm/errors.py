"""From error messages of Slurm's commands to gateway errors.

The messages are compared as text because Slurm's commands have no error codes. Those that a healthy or a stopped Slurm
prints are in recordings (tests/recorded/slurm-*), the others are quoted from its sources.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from flamecrest.server.errors import (
    Conflict,
    Denied,
    Field,
    GatewayError,
    Invalid,
    Timeout,
    TooLarge,
    Unavailable,
    Upstream,
)
from flamecrest.server.schedulers.job_environment import env_too_large
from flamecrest.server.schedulers.job_errors import (
    Refusal,
    Refusals,
    job_not_found,
    maybe_submitted,
    one_line,
    refusal_kind,
    refused,
    scheduler_down,
)
from flamecrest.server.schedulers.once.programs import is_unclear

if TYPE_CHECKING:
    from collections.abc import Collection

    from flamecrest.server.ssh.command import Output

_ACCOUNTING = frozenset({"sacct", "sacctmgr"})  # they ask a daemon of their own
_MAX_TEXT = 1000  # characters of a program's message that callers are shown
_PREFIX = re.compile(r"^[a-z]+: (?:error: |fatal: )?", re.MULTILINE)
_NOISE = re.compile(
    r"^(?:scancel: Terminating job|srun: Check SLURM_JOB_ID|.*: warning: setlocale:).*\n?", re.MULTILINE
)
# Messages of libslurm (slurm_errno.c), of sbatch, and of the system (strerror), compared without regard to case.
# Of the messages below: no user gets an answer.
_NOBODY = (
    "Unable to contact slurm controller",
    "Protocol authentication error",
    "Munge encode failed",
    "Failed to connect to authentication agent",
    "Connection refused",
    "No route to host",
    "Network is unreachable",
    "Host is down",
    "controller in standby mode",
)
# The request was not sent or not accepted, and the cause passes: nothing was done.
_PASSING = (
    "Unable to contact slurm controller",
    "Protocol authentication error",
    "Munge encode failed",
    "Invalid authentication credential",
    "Authentication credential invalid",
    "Failed to connect to authentication agent",
    "Error generating job credential",
    "Connection refused",
    "No route to host",
    "Network is unreachable",
    "Network is down",
    "Host is down",
    "Temporary failure in name resolution",
    "Problem talking to the database",
    "Unable to connect to database",
    "Database connection reference is invalid",
    "Unable to process configuration file",
    "Could not establish a configuration source",
    "Resource temporarily unavailable",
    "Cannot allocate memory",
    "Too many open files",
    "standby mode",
    "temporarily unable to accept job",
    "job queue full",
    "Job creation temporarily disabled",
    "Requested nodes are busy",
    "Unable to create job record, try again",
    "I/O error writing script/environment to file",
    "System submissions disabled",
    "Requested operation is presently disabled",
)
# The request was sent, and no whole answer came: the outcome of a change is unclear.
_NO_ANSWER = (
    "Socket timed out on send/recv operation",
    "Zero Bytes were transmitted or received",
    "Unable to contact slurm controller (send failure)",
    "Unable to contact slurm controller (receive failure)",
    "Unable to contact slurm controller (shutdown failure)",
    "Message send failure",
    "Message receive failure",
    "Failed to send entire message",
    "Communication connection failure",
    "Communication shutdown failure",
    "Unexpected message received",
    "Unexpected missing socket error",
    "Received zero length message",
    "Received message length < 0",
    "Insane message length",
    "Header lengths are longer than data received",
    "Transport endpoint is not connected",
    "Connection reset by peer",
    "Connection timed out",
    "Broken pipe",
)
# The installation of the programs is faulty: no mistake of the caller.
_FAULTY = (
    "Incompatible versions of client and server code",
    "Plugin initialization failed",
    "Failed to initialize plugin",
    "Slurm internal error",
    "Can't find an address, check slurm.conf",
    "error while loading shared libraries",
)
_DENIED = ("Access/permission denied", "Access denied", "Invalid user id")
# Why a job is refused. The texts of slurmctld are those of slurmrestd, too.
REFUSALS: Refusals = (
    (Refusal.PARTITION, ("partition",), (
        "Invalid partition name specified", "invalid partition specified", "No partition specified")),
    (Refusal.PARTITION_DOWN, ("partition",), (
        "Required partition not available", "Partition in DOWN state", "Requested partition configuration not avail")),
    (Refusal.PERMISSION, ("partition",), ("group not permitted to use this partition",)),
    (Refusal.PERMISSION, ("reservation",), ("Access denied to requested reservation",)),
    (Refusal.ACCOUNT, ("account",), ("Invalid account or account/partition combination", "Invalid wckey")),
    (Refusal.QOS, ("qos",), ("Invalid qos specification",)),
    (Refusal.RESERVATION, ("reservation",), ("Requested reservation is invalid", "Requested reservation not usable")),
    (Refusal.QUOTA, (), ("Job violates accounting/QOS policy", "breached requested QOS usage threshold")),
    (Refusal.TIME_LIMIT, ("timeLimit", "deadline"), (
        "Requested time limit is invalid", "Invalid --time specification", "Invalid time limit specification")),
    (Refusal.TIME, ("begin",), ("Invalid --begin specification",)),
    (Refusal.TIME, ("deadline",), ("Invalid --deadline specification",)),
    (Refusal.TIME, ("begin", "deadline"), ("Invalid time specified", "Invalid time specification")),
    (Refusal.FEATURES, ("constraints", "resources.features"), (
        "Invalid feature specification", "Invalid preferred feature", "Active features not subset")),
    (Refusal.LICENSES, ("licenses",), ("Invalid license specification",)),
    (Refusal.DEPENDENCIES, ("dependencies",), (
        "Job dependency problem", "Circular job dependency", "Invalid --dependency specification")),
    (Refusal.ARRAY, ("array",), ("Invalid job array specification",)),
    (Refusal.SIGNAL, ("signal",), ("Invalid --signal specification",)),
    (Refusal.RESOURCES, ("resources.gpus", "resources.gpusPerNode", "resources.gpuType"), (
        "generic resource (gres) specification", "Invalid GRES specification", "Insufficient GRES", "Invalid Trackable",
        "Requested GRES option unsupported")),
    (Refusal.RESOURCES, ("resources.memory", "resources.memoryPerCpu"), (
        "Memory required by task is not available", "Memory specification can not be satisfied")),
    (Refusal.RESOURCES, ("resources.nodes",), (
        "Node count specification invalid", "is not a valid node count", "Requested nodes not in this partition")),
    (Refusal.RESOURCES, ("resources.tasks", "resources.cpusPerTask", "resources.tasksPerNode"), (
        "More processors requested than permitted", "Requested more tasks than available", "CPU count specification",
        "CPU count per node can not be satisfied", "Task count specification invalid")),
    (Refusal.RESOURCES, (), ("Requested node configuration is not available", "Job size specification needs to be")),
    (Refusal.SCRIPT, ("script", "scriptPath"), (
        "This does not look like a batch script", "Batch script is empty", "Batch script contains", "NULL character",
        "Unable to open file", "Job script not specified", "Batch script is too large",
        "is not a regular file", "is larger than 512 MiB")),
    (Refusal.OPTION, ("native",), ("unrecognized option", "invalid option", "requires an argument", "is ambiguous")),
)  # fmt: skip
MAX_SCRIPT = 4 * 1024 * 1024  # bytes; Slurm's default
_LONG_SCRIPT = 64 * 1024  # bytes
_PATH_NAME = "Pathname of a file, directory or other parameter too long"
_UNKNOWN_CLUSTER = re.compile(r"No cluster '[^']*' known by database")
_UNKNOWN_ID = "Invalid job id"
_UNKNOWN_PART = re.compile(r"^Job [0-9]+[_+][0-9]+ not found\s*\Z")  # scontrol show job
_ENDED = ("Job/step already completing or completed", "has expired")
_TASK = re.compile(r": tasks? [0-9,-]+: ")
_PENDING = "Job is pending execution"
_SUBMISSION_FAILED = "submission failed: "
_OUTCOME = re.compile(r"(?<=\S)\s*\n(?=[^\n]*submission failed: )")  # the line after those that name the mistake
_TEST_ONLY = re.compile(r"Job [0-9]+ to start at ")
_TOO_WIDE = ("Too wide of a date range", "Query result exceeds size limit")
_CANCELLING = "Terminating job"
_NOT_CANCELLED = "error: Kill job error on job id "
_NOT_ALONE = "Operation not permitted on individual component of heterogeneous job"
_NO_ACCOUNTING = ("accounting storage is disabled", "not running a supported accounting_storage plugin")
_REPORTED = re.compile(r"^(?:(?:squeue|sacct): (?:error|fatal): |slurm_load_jobs error: )", re.MULTILINE)
_UNKNOWN_NAME = re.compile(r"squeue: error: Invalid user: (\S+)")
_UNKNOWN_USER = ("Invalid user id:", "Invalid user:")  # sacct, squeue


def error_text(output: Output) -> str:
    """The program's messages as one line, without prefixes and control characters, cut at 1000 characters."""
    printed = _NOISE.sub("", output.errors()) or output.stdout.decode("utf-8", "replace")
    return one_line(_OUTCOME.sub("; ", _PREFIX.sub("", printed)))


def command_error(program: str, output: Output) -> GatewayError:
    """The error for a failure that any command can have."""
    message, detail = error_text(output), f"{program}: status {output.status}: {output.errors()[:_MAX_TEXT]!r}"
    if output.status in (126, 127):
        missing = output.missing_program  # may be one that it is run with, such as timeout
        reason = "" if missing in {None, program} else f": {missing} is not installed"
        return Upstream(f"The scheduler's command {program} cannot be run on this cluster{reason}", detail=detail)
    if _has(message, (*_PASSING, *_NO_ANSWER)):
        if _has(message, _NOBODY) and program not in _ACCOUNTING:
            return scheduler_down(message, detail)
        return Unavailable(f"The scheduler does not answer: {message}", detail=detail)
    if program != "sbatch" and _UNKNOWN_CLUSTER.search(message):
        return job_not_found(message)
    if _has(message, _DENIED):
        return Denied(message, detail=detail, refusal=refusal_kind(message, REFUSALS))
    return Upstream(f"The scheduler's command {program} failed: {message or 'no message'}", detail=detail)


def submit_error(output: Output, given: Collection[str] = ()) -> GatewayError:
    """The error for a failed sbatch. Slurm's message about a rejected job is passed on unchanged.

    `given`: the fields that the request sets, by their names on the wire.
    """
    message = error_text(output)
    if output.status == 126 and "Argument list too long" in message:
        return env_too_large()
    error = command_error("sbatch", output)
    if _has(message, _NO_ANSWER):
        return maybe_submitted(Timeout(f"The scheduler did not answer: {message}", detail=error.detail))
    if output.status == 0 and _TEST_ONLY.search(message):
        return Invalid(f"The script contains --test-only, so no job was submitted: {message}")
    if output.status == 0:
        return maybe_submitted(Upstream(f"The scheduler printed no job id, but: {message}", detail=error.detail))
    if is_unclear(output):
        return maybe_submitted(error)
    if type(error) is Upstream and message and output.status in (1, 255) and not _has(message, _FAULTY):
        return refused(message, REFUSALS, given, detail=error.detail)
    return error


def of_script(error: GatewayError, script: str | None) -> GatewayError:
    """The error of a submission with this script. Of one that is too large Slurm says that a path name is too long."""
    size = len((script or "").encode("utf-8", "replace"))
    if size < _LONG_SCRIPT or not isinstance(error, Invalid) or _PATH_NAME not in error.public:
        return error
    message = f"has {size} bytes; Slurm takes {MAX_SCRIPT} unless max_script_size in its configuration says otherwise"
    return TooLarge(f"The script {message}", detail=error.detail, fields=(Field("body", "script", message),),
                    refusal=Refusal.SCRIPT)  # fmt: skip


def check_error(output: Output, given: Collection[str] = ()) -> GatewayError:
    """The error for a failed `sbatch --test-only`, in the words of Slurm; no job was submitted in any case."""
    message = error_text(output)
    error = command_error("sbatch", output)
    if type(error) is Upstream and message and output.status in (1, 255) and not _has(message, _FAULTY):
        return refused(message, REFUSALS, given, detail=error.detail)
    return error


def is_not_submitted(output: Output) -> bool:
    """Whether sbatch says that it has submitted no job: it has failed, or the script contains --test-only."""
    said = output.errors()
    return _SUBMISSION_FAILED in said if output.status else _TEST_ONLY.search(said) is not None


def attach_error(output: Output) -> GatewayError:
    """The error for a failed srun, or for a command that srun ran and that failed.

    The command writes to the same standard error, so only lines that begin with `srun: ` are compared.
    """
    own = [line for line in output.errors().splitlines() if line.startswith("srun: ")]
    if any(_TASK.search(line) for line in own):
        return Invalid(f"The command ended with exit status {output.status}: {error_text(output)}")
    output = replace(output, stderr="\n".join(own).encode() or output.stderr)
    message = error_text(output)
    if is_unknown_job(output):
        return job_not_found(message)
    if _PENDING in message:
        return Conflict(f"The job is not running yet: {message}")
    if _has(message, _ENDED):
        return Conflict(f"The job has ended: {message}")
    return command_error("srun", output)


def is_unknown_job(output: Output) -> bool:
    """Whether the program reports an unknown job id."""
    said = output.errors()
    return _UNKNOWN_ID in said or _UNKNOWN_PART.search(said or output.stdout.decode("utf-8", "replace")) is not None


def has_ended(output: Output) -> bool:
    """Whether the program reports that the job has ended."""
    return _has(output.errors(), _ENDED)


def is_cancelling(output: Output) -> bool:
    """Whether `scancel --verbose` says that it has asked for the end of a job."""
    return _CANCELLING in output.errors()


def is_not_cancelled(output: Output) -> bool:
    """Whether scancel reports a failure for a job. Its exit status may be 0 all the same."""
    return output.status != 0 or _NOT_CANCELLED in output.errors()


def is_not_alone(output: Output) -> bool:
    """Whether the program refuses to end one component of a heterogeneous job that waits."""
    return _NOT_ALONE in output.errors()


def is_too_wide(output: Output) -> bool:
    """Whether the accounting database refuses to search that long a time (MaxQueryTimeRange, or too many rows)."""
    return _has(output.errors(), _TOO_WIDE)


def has_no_accounting(output: Output) -> bool:
    """Whether this Slurm runs without accounting: then the history is empty, and nothing has failed."""
    return _has(output.errors(), _NO_ACCOUNTING)


def reports_error(output: Output) -> bool:
    """Whether squeue or sacct reports an error, whatever its exit status is."""
    return _REPORTED.search(output.errors()) is not None


def is_unknown_user(output: Output) -> bool:
    """Whether the program reports an unknown user."""
    return _has(output.errors(), _UNKNOWN_USER)


def unknown_users(output: Output) -> frozenset[str]:
    """The users that the program reports as unknown; none if it reports another error as well."""
    reported = output.errors().splitlines()
    found = [_UNKNOWN_NAME.fullmatch(line.strip()) for line in reported if _REPORTED.match(line)]
    return frozenset(one[1] for one in found if one is not None) if all(found) else frozenset()


def is_passing(message: str) -> bool:
    """Whether Slurm's message means that the request was not accepted for a cause that passes."""
    return _has(message, _PASSING)


def is_unanswered(message: str) -> bool:
    """Whether Slurm's message means that the request was sent and no whole answer came."""
    return _has(message, _NO_ANSWER)


def _has(message: str, phrases: tuple[str, ...]) -> bool:
    folded = message.casefold()
    return any(phrase.casefold() in folded for phrase in phrases)
