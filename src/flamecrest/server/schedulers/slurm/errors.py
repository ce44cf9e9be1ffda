"""What Slurm's commands say when they fail, turned into errors of the one tree. By text, since they have no codes.

Every phrase here is in a recording (tests/recorded/slurm-22.05).
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
    NotFound,
    Timeout,
    Unavailable,
    Upstream,
)
from flamecrest.server.schedulers.dialect import JOB_NOT_FOUND, MAYBE_SUBMITTED

if TYPE_CHECKING:
    from flamecrest.server.ssh.command import Output

_LONGEST = 1000  # characters of a program's words that a caller gets to see
_PREFIX = re.compile(r"^[a-z]+: (?:error: |fatal: )?", re.MULTILINE)
_CHATTER = re.compile(
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
_UNSTARTED = "Job is pending execution"
_ONLY_TESTED = re.compile(r"Job [0-9]+ to start at ")
_NO_RECORDS = ("accounting storage is disabled", "not running a supported accounting_storage plugin")
_UNKNOWN_USER = "Invalid user id:"


def error_text(output: Output) -> str:
    """What the program said, as one line without its prefixes, control characters and excess."""
    said = _CHATTER.sub("", output.errors()) or output.stdout.decode("utf-8", "replace")
    said = " ".join(_PREFIX.sub("", said).split())
    return "".join(char for char in said if char.isprintable())[:_LONGEST]


def command_error(program: str, output: Output) -> GatewayError:
    """The error for a command that failed for reasons that every command can have."""
    said, detail = error_text(output), f"{program}: status {output.status}: {output.errors()[:_LONGEST]!r}"
    if output.status in (126, 127):
        return Upstream(f"The scheduler's command {program} cannot be run on this cluster", detail=detail)
    if any(phrase in said for phrase in (*_UNREACHABLE, *_NO_ANSWER)):
        return Unavailable(f"The scheduler does not answer: {said}", detail=detail)
    if any(phrase in said for phrase in _DENIED):
        return Denied(said, detail=detail)
    return Upstream(f"The scheduler's command {program} failed: {said or 'it said nothing'}", detail=detail)


def submit_error(output: Output) -> GatewayError:
    """Why sbatch did not submit; a refusal keeps Slurm's own words."""
    said = error_text(output)
    if output.status == 126 and "Argument list too long" in said:
        message = "is too large: one variable may have 128 KiB, all together about 2 MiB"
        return Invalid(f"env {message}", fields=(Field("body", "env", message),))
    error = command_error("sbatch", output)
    if any(phrase in said for phrase in _NO_ANSWER):
        return Timeout(f"The scheduler did not answer: {said}. {MAYBE_SUBMITTED}", detail=error.detail)
    if isinstance(error, Upstream) and said and output.status in (1, 255):
        return Invalid(said, detail=error.detail)
    if output.status == 0 and _ONLY_TESTED.search(said):
        return Invalid(f"The script asks for a test only, no job was submitted: {said}")
    if output.status == 0:
        return Upstream(f"The scheduler named no job. It said: {said}. {MAYBE_SUBMITTED}", detail=error.detail)
    return error


def attach_error(output: Output) -> GatewayError:
    """Why srun did not run the command in the job, or that the command itself failed.

    Standard error is the command's own too, so only srun's lines tell which.
    """
    own = [line for line in output.errors().splitlines() if line.startswith("srun: ")]
    if any(_TASK.search(line) for line in own):
        return Invalid(f"The command ended with exit status {output.status}: {error_text(output)}")
    output = replace(output, stderr="\n".join(own).encode() or output.stderr)
    said = error_text(output)
    if is_unknown_job(output):
        return NotFound(f"{JOB_NOT_FOUND}: {said}")
    if _UNSTARTED in said:
        return Conflict(f"The job does not run yet: {said}")
    if any(phrase in said for phrase in _ENDED):
        return Conflict(f"The job has ended: {said}")
    return command_error("srun", output)


def is_unknown_job(output: Output) -> bool:
    """Whether the program does not know the job id."""
    return _UNKNOWN_ID in output.errors()


def has_ended(output: Output) -> bool:
    """Whether the program says that the job has ended."""
    return any(phrase in output.errors() for phrase in _ENDED)


def has_no_accounting(output: Output) -> bool:
    """Whether this Slurm has no accounting at all, so that its history is empty and not broken."""
    return any(phrase in output.errors() for phrase in _NO_RECORDS)


def is_unknown_user(output: Output) -> bool:
    """Whether sacct does not know the user whose jobs are asked for."""
    return _UNKNOWN_USER in output.errors()
