"""From error messages of Slurm's commands to gateway errors.

The messages are compared as text because Slurm's commands have no error codes. Each one is in a recording
(tests/recorded/slurm-*).
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
    Unavailable,
    Upstream,
)
from flamecrest.server.schedulers.job_errors import MAYBE_SUBMITTED, job_not_found

if TYPE_CHECKING:
    from flamecrest.server.ssh.command import Output

_MAX_TEXT = 1000  # characters of a program's message that callers are shown
_PREFIX = re.compile(r"^[a-z]+: (?:error: |fatal: )?", re.MULTILINE)
_NOISE = re.compile(
    r"^(?:scancel: Terminating job|srun: Check SLURM_JOB_ID|.*: warning: setlocale:).*\n?", re.MULTILINE
)
_UNREACHABLE = (
    "Unable to contact slurm controller",
    "Protocol authentication error",
    "Munge encode failed",
    "Connection refused",
    "Problem talking to the database",
)
_NO_ANSWER = ("Socket timed out on send/recv operation",)
_DENIED = ("Access/permission denied", "Access denied", "Invalid user id")
_UNKNOWN_ID = "Invalid job id"
_ENDED = ("Job/step already completing or completed", "has expired")
_TASK = re.compile(r": tasks? [0-9,-]+: ")
_PENDING = "Job is pending execution"
_TEST_ONLY = re.compile(r"Job [0-9]+ to start at ")
_NO_ACCOUNTING = ("accounting storage is disabled", "not running a supported accounting_storage plugin")
_UNKNOWN_USER = "Invalid user id:"


def error_text(output: Output) -> str:
    """The program's message as one line, without prefixes and control characters, cut at 1000 characters."""
    printed = _NOISE.sub("", output.errors()) or output.stdout.decode("utf-8", "replace")
    line = " ".join(_PREFIX.sub("", printed).split())
    return "".join(char for char in line if char.isprintable())[:_MAX_TEXT]


def command_error(program: str, output: Output) -> GatewayError:
    """The error for a failure that any command can have."""
    message, detail = error_text(output), f"{program}: status {output.status}: {output.errors()[:_MAX_TEXT]!r}"
    if output.status in (126, 127):
        missing = output.missing_program  # may be one that it is run with, such as timeout
        reason = "" if missing in {None, program} else f": {missing} is not installed"
        return Upstream(f"The scheduler's command {program} cannot be run on this cluster{reason}", detail=detail)
    if any(phrase in message for phrase in (*_UNREACHABLE, *_NO_ANSWER)):
        return Unavailable(f"The scheduler does not answer: {message}", detail=detail)
    if any(phrase in message for phrase in _DENIED):
        return Denied(message, detail=detail)
    return Upstream(f"The scheduler's command {program} failed: {message or 'no message'}", detail=detail)


def submit_error(output: Output) -> GatewayError:
    """The error for a failed sbatch. Slurm's message about a rejected job is passed on unchanged."""
    message = error_text(output)
    if output.status == 126 and "Argument list too long" in message:
        limits = "is too large: the limits are 128 KiB for one variable and about 2 MiB for all"
        return Invalid(f"env {limits}", fields=(Field("body", "env", limits),))
    error = command_error("sbatch", output)
    if any(phrase in message for phrase in _NO_ANSWER):
        return Timeout(f"The scheduler did not answer: {message}. {MAYBE_SUBMITTED}", detail=error.detail)
    if isinstance(error, Upstream) and message and output.status in (1, 255):
        return Invalid(message, detail=error.detail)
    if output.status == 0 and _TEST_ONLY.search(message):
        return Invalid(f"The script contains --test-only, so no job was submitted: {message}")
    if output.status == 0:
        return Upstream(f"The scheduler printed no job id, but: {message}. {MAYBE_SUBMITTED}", detail=error.detail)
    return error


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
    if any(phrase in message for phrase in _ENDED):
        return Conflict(f"The job has ended: {message}")
    return command_error("srun", output)


def is_unknown_job(output: Output) -> bool:
    """Whether the program reports an unknown job id."""
    return _UNKNOWN_ID in output.errors()


def has_ended(output: Output) -> bool:
    """Whether the program reports that the job has ended."""
    return any(phrase in output.errors() for phrase in _ENDED)


def has_no_accounting(output: Output) -> bool:
    """Whether this Slurm runs without accounting: then the history is empty, and nothing has failed."""
    return any(phrase in output.errors() for phrase in _NO_ACCOUNTING)


def is_unknown_user(output: Output) -> bool:
    """Whether sacct reports an unknown user."""
    return _UNKNOWN_USER in output.errors()
