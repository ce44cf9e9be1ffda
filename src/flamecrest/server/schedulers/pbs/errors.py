"""Errors from what the programs of PBS print. Their exit status is an error number modulo 256, so the text counts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import Conflict, Denied, GatewayError, Timeout, Upstream
from flamecrest.server.schedulers.job_environment import invalid_field
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

if TYPE_CHECKING:
    from collections.abc import Collection

    from flamecrest.server.ssh.command import Output

_MAX_TEXT: Final = 1000  # characters of a program's message that callers are shown
_PREFIX: Final = re.compile(r"^[a-z_]+: ", re.MULTILINE)
_USAGE: Final = re.compile(r"^usage: ", re.MULTILINE)
_NO_CONNECTION: Final = re.compile(r"cannot connect to server|Couldn't connect to cluster|Connection refused", re.ASCII)
_UNKNOWN_JOB: Final = "Unknown Job Id"
_ENDED: Final = re.compile(r"Job has finished|Request invalid for finished array subjob")
_WRONG_STATE: Final = re.compile(r"Request invalid for state of job|Cannot modify attribute while job running")
_DENIED: Final = re.compile(r"Unauthorized Request|Bad [UG]ID for job execution|Illegal operation for")
_NO_FOLDER: Final = re.compile(r"^\S*sh: (?:\S+ )*cd: (.*)$", re.MULTILINE)
_NO_CONFIGURATION: Final = "pbsconf error"
_ENDED_EARLY: Final = 124  # the status of timeout


# Why a job is refused: the texts of qsub and of the server.
_REFUSALS: Final[Refusals] = (
    (Refusal.PARTITION, ("partition",), ("Unknown queue",)),
    (Refusal.PARTITION_DOWN, ("partition",), ("Queue is not enabled",)),
    (Refusal.QUOTA, (), ("Job violates queue and/or server resource limits", "would exceed", "Maximum number of jobs")),
    (Refusal.PERMISSION, (), ("Unauthorized Request", "Bad UID for job execution", "Bad GID for job execution")),
    (Refusal.TIME_LIMIT, ("timeLimit",), ("Resource_List.walltime",)),
    (Refusal.TIME, ("begin",), ("illegal -a value",)),
    (Refusal.ARRAY, ("array",), ("illegal -J value", "Array job exceeds")),
    (Refusal.RESOURCES, ("resources.memory", "resources.memoryPerCpu"), ("resource value Resource_List.mem",)),
    (Refusal.RESOURCES, ("resources.cpusPerTask",), ("resource value Resource_List.ncpus",)),
    (Refusal.RESOURCES, (), ("Illegal attribute or resource value", 'cannot be used with "select"')),
    (Refusal.OPTION, ("native",), ("Unknown resource", "invalid option", "directive error", "illegal -l value")),
    (Refusal.DEPENDENCIES, ("dependencies",), ("illegal -W value",)),
    (Refusal.OPTION, ("name",), ("illegal -N value", "Job name is too long")),
    (Refusal.OPTION, ("priority",), ("illegal -p value",)),
    (Refusal.OPTION, ("standardOutput",), ("illegal -o value",)),
    (Refusal.OPTION, ("standardError",), ("illegal -e value",)),
    (Refusal.SCRIPT, ("script", "scriptPath"), ("script contains cr, lf", "script not a file", "script file")),
)


def error_text(output: Output) -> str:
    """The program's message as one line, without prefixes, usage and control characters."""
    printed = output.errors() or output.stdout.decode("utf-8", "replace")
    usage = _USAGE.search(printed)
    if usage is not None and usage.start() > 0:
        printed = printed[: usage.start()]
    return one_line(_PREFIX.sub("", printed))


def command_error(program: str, output: Output) -> GatewayError:
    """The error for a failure that any command can have."""
    message, detail = error_text(output), f"{program}: status {output.status}: {output.errors()[:_MAX_TEXT]!r}"
    if output.status in (126, 127):
        return Upstream(f"The scheduler's command {program} cannot be run on this cluster", detail=detail)
    if _NO_CONNECTION.search(message):
        return scheduler_down(message, detail)
    if _NO_CONFIGURATION in message:
        return Upstream(f"PBS is not configured on the login node: {message}", detail=detail)
    if _DENIED.search(message):
        return Denied(message, detail=detail, refusal=refusal_kind(message, _REFUSALS))
    return Upstream(f"The scheduler's command {program} failed: {message or 'no message'}", detail=detail)


def submit_error(output: Output, given: Collection[str] = ()) -> GatewayError:
    """The error for a failed qsub. The message of PBS about a rejected job is passed on unchanged.

    `given`: the fields that the request sets, by their names on the wire.
    """
    no_folder = _NO_FOLDER.search(output.errors())
    if no_folder is not None:
        return invalid_field("workingDirectory", f"cannot be entered on the cluster: {no_folder[1][:200]}")
    error, message = command_error("qsub", output), error_text(output)
    if output.status == 0:
        return maybe_submitted(Upstream(f"The scheduler printed no job id, but: {message}", detail=error.detail))
    if type(error) is not Upstream or _NO_CONFIGURATION in message or output.status in (126, 127):
        return error
    if output.status == _ENDED_EARLY or not output.errors():
        return maybe_submitted(Timeout(error.public, detail=error.detail))
    return refused(message, _REFUSALS, given, detail=error.detail)


def change_error(program: str, output: Output, given: Collection[str] = ()) -> GatewayError:
    """The error for a change of a job that PBS has refused. `given`: as for submit_error."""
    message = error_text(output)
    if _UNKNOWN_JOB in message:
        return job_not_found(message)
    if _ENDED.search(message):
        return Conflict(f"The job has ended: {message}")
    if _WRONG_STATE.search(message):
        return Conflict(message)
    error = command_error(program, output)
    is_refusal = type(error) is Upstream and output.status not in (126, 127) and output.errors()
    return refused(message, _REFUSALS, given, detail=error.detail) if is_refusal else error


def is_unknown_job(output: Output) -> bool:
    """Whether the program reports an unknown job id."""
    return _UNKNOWN_JOB in output.errors()


def refusals(output: Output) -> tuple[int, int]:
    """How many ids the program does not know, and how many are of jobs that have ended."""
    lines = output.errors().splitlines()
    return sum(_UNKNOWN_JOB in line for line in lines), sum(bool(_ENDED.search(line)) for line in lines)
