"""Changes of a job by scontrol and scancel: hold, release, requeue, suspend, resume, signal, update. No I/O."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from flamecrest.server.errors import Conflict, Denied, GatewayError, Upstream
from flamecrest.server.schedulers.array_elements import ArrayElements
from flamecrest.server.schedulers.capabilities import changed_fields
from flamecrest.server.schedulers.job_environment import check_line, check_signal, invalid_field
from flamecrest.server.schedulers.job_errors import ElementsLeftOut, job_not_found, refused
from flamecrest.server.schedulers.values import JobAction, JobChange
from flamecrest.server.ssh.command import Command, Output

from . import errors
from .ids import SlurmJobId
from .submission import check_time, dependency_text, duration_text

_DENIED: Final = ("Access/permission denied", "Access denied", "Invalid user id")
_WRONG_STATE: Final = (
    "Job is pending execution",
    "Job/step already completing or completed",
    "Job has already finished",
    "Job can not be altered now",
    "Requested operation is presently disabled",
    "Job/step already suspended",
    "Job is not suspended",
    "Transition state",
    "Job cannot be altered while completing",
    "Job is no longer pending execution",
    "Only pending jobs can be",
)
# scancel repeats a signal to a job without processes for minutes, and says so only if it is asked to be verbose.
_REPEATED: Final = "Job is in transitional state"
_VERBOSE: Final = re.compile(r"^scancel: (?!error:|Unknown job signal).*\n?", re.MULTILINE)
# Of 22.05, 24.11 and 26.05: slurmctld answers with an error of a kind that these commands do not expect.
_UNKNOWN_TO_SUSPEND: Final = re.compile(r"^Unexpected message received for job \S+\s*\Z")
# scontrol tells the outcome for each part of an array if it has failed for one of them, with exit status 1; `update` of
# 24.11 and 26.05 leaves out the parts for which it has not failed.
_PART: Final = re.compile(r"^[0-9]+_\[?([0-9,-]+)\]?: (.+?)[ \t\r]*(?:\n|\Z)", re.MULTILINE)
_PART_DONE: Final = "No error"
_PART_UNKNOWN: Final = "Invalid job id specified"  # also of elements that were cancelled before they started
# What a part of an array can be left out for, while the others are changed.
_ENDED: Final = "Job has already finished"
_LEFT_OUT: Final = {
    JobAction.SUSPEND: "Job/step already completing or completed",
    JobAction.RESUME: "Job/step already completing or completed",
    JobAction.REQUEUE: "Job is pending execution",
}
_WORDS: Final = (
    ("name", "JobName"),
    ("account", "Account"),
    ("partition", "Partition"),
    ("qos", "QOS"),
    ("comment", "Comment"),
)


def act(scontrol: str, job: SlurmJobId, action: JobAction) -> Command[None]:
    """Hold, release, requeue, suspend or resume the job."""
    parse = _suspended if action in {JobAction.SUSPEND, JobAction.RESUME} else _done
    left_out = _LEFT_OUT.get(action, _ENDED)
    return Command((scontrol, *job.clusters, action.value, str(job)), partial(parse, left_out=left_out))


def signal(scancel: str, job: SlurmJobId, name: str) -> Command[None]:
    """Send a signal to the job's script and to its steps. scancel refuses the names that it does not know.

    A job that waits or is ending has no processes: that is Conflict at once.
    """
    checked = check_signal(name)

    def parse(output: Output) -> None:
        if _is_repeated(output):
            raise Conflict("The job waits or is ending: it has no processes that a signal could reach")
        output = replace(output, stderr=_VERBOSE.sub("", output.errors()).encode())
        if errors.is_unknown_job(output):
            raise job_not_found(errors.error_text(output))
        if "Unknown job signal" in output.errors():
            raise invalid_field("signal", errors.error_text(output))
        if errors.has_ended(output):
            raise Conflict(f"The job has ended: {errors.error_text(output)}")
        if errors.is_not_cancelled(output):
            raise control_error("scancel", output)

    argv = (scancel, "--full", "--verbose", f"--signal={checked}", *job.clusters, str(job))
    return Command(argv, parse, joined=True, is_enough=_is_repeated)


def _is_repeated(output: Output) -> bool:
    return _REPEATED.encode() in output.stdout + output.stderr


def change(scontrol: str, job: SlurmJobId, change: JobChange) -> Command[None]:
    """Run `scontrol update`."""
    parse = partial(_done, given=frozenset(changed_fields(change)))
    return Command((scontrol, *job.clusters, "update", f"JobId={job}", *_assignments(change)), parse)


def _assignments(change: JobChange) -> Iterator[str]:
    for field, name in _WORDS:
        if (value := getattr(change, field)) is not None:
            yield f"{name}={check_line(field, value)}"
    if change.priority is not None:
        yield f"Priority={change.priority}"
    if change.time_limit is not None:
        yield f"TimeLimit={duration_text(change.time_limit)}"
    if change.begin is not None:
        yield f"StartTime=uts{check_time('begin', change.begin)}"
    if change.dependencies is not None:
        yield f"Dependency={dependency_text(list(change.dependencies))}"


def _suspended(output: Output, left_out: str) -> None:
    """Raise what Slurm says of `suspend` and `resume`. Of a job that it does not know its commands say only this."""
    if output.status == 1 and _UNKNOWN_TO_SUSPEND.search(output.errors()):
        raise job_not_found("Slurm does not know the job")
    _done(output, left_out=left_out)


def _done(output: Output, given: Collection[str] = (), left_out: str = _ENDED) -> None:
    """Raise what scontrol refuses. Parts of an array that are `left_out` are no refusal while others are changed."""
    if output.status == 0 and not output.errors():
        return
    said = output.errors() or output.stdout.decode("utf-8", "replace")
    parts: list[tuple[str, str]] = _PART.findall(said)
    outcomes, passing = {words for _, words in parts}, {left_out, _PART_UNKNOWN}
    if parts and outcomes <= passing:
        raise _for_others(output, [elements for elements, _ in parts], unknown=left_out not in outcomes)
    if parts and outcomes <= {*passing, _PART_DONE}:
        return
    if not parts and errors.is_unknown_job(output):
        raise job_not_found(errors.error_text(output))
    if output.status == 0:
        return
    rest = _PART.sub(lambda part: "" if part[2] in passing else part[0], said)
    raise control_error("scontrol", replace(output, stderr=rest.encode()), given)


def _for_others(output: Output, parts: Iterable[str], *, unknown: bool) -> GatewayError:
    message = errors.error_text(output)
    error = job_not_found(message) if unknown else Conflict(message)
    try:
        return ElementsLeftOut(error, ArrayElements.parse(",".join(parts)))
    except ValueError:
        return error


def control_error(program: str, output: Output, given: Collection[str] = ()) -> GatewayError:
    """The error for a change that Slurm has refused. `given`: the fields to change, by their names on the wire."""
    message = errors.error_text(output)
    if any(words in message for words in _DENIED):
        return Denied(message)
    if any(words in message for words in _WRONG_STATE):
        return Conflict(message)
    error = errors.command_error(program, output)
    if type(error) is Upstream and output.status == 1:
        return refused(message, errors.REFUSALS, given, detail=error.detail)
    return error
