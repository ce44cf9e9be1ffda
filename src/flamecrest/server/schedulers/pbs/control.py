"""Changes of a job by qdel, qhold, qrls, qrerun, qsig and qalter. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from flamecrest.server.errors import Invalid
from flamecrest.server.schedulers.capabilities import changed_fields
from flamecrest.server.schedulers.dialect import CancelOutcome
from flamecrest.server.schedulers.job_environment import check_line, check_signal, invalid_signal
from flamecrest.server.schedulers.values import JobAction, JobChange
from flamecrest.server.ssh.command import Command, Output

from . import errors
from .ids import PbsJobId
from .submission import UTC_TIME, dependency_text, duration_text, time_text

_PROGRAMS: Final = {
    JobAction.HOLD: ("qhold",),
    JobAction.RELEASE: ("qrls",),
    JobAction.REQUEUE: ("qrerun",),
    JobAction.SUSPEND: ("qsig", "-s", "suspend"),
    JobAction.RESUME: ("qsig", "-s", "resume"),
}


def cancel(folder: str, job: PbsJobId) -> Command[CancelOutcome]:
    """Run qdel, which returns before a running job has ended."""

    def parse(output: Output) -> CancelOutcome:
        if output.status == 0:
            return CancelOutcome.DONE
        unknown, ended = errors.refusals(output)
        said = [line for line in output.errors().splitlines() if line.startswith("qdel: ")]
        if unknown + ended == len(said) > 0:
            if unknown + ended < len(job.candidates):
                return CancelOutcome.DONE
            return CancelOutcome.ENDED if ended else CancelOutcome.UNKNOWN
        raise errors.command_error("qdel", output)

    return Command((f"{folder}qdel", *job.candidates), parse, joined=True)


def act(folder: str, job: PbsJobId, action: JobAction) -> Command[None]:
    """Hold, release, requeue, suspend or resume the job. Only operators may do the last three."""
    program, *options = _PROGRAMS[action]
    return _change(folder, program, options, job)


def signal(folder: str, job: PbsJobId, name: str) -> Command[None]:
    """Run qsig. suspend, resume and the like are no signals."""
    checked = check_signal(name)
    if checked in {"SUSPEND", "RESUME"}:
        raise invalid_signal()
    return _change(folder, "qsig", ["-s", checked if checked.isdigit() else f"SIG{checked}"], job)


def change(folder: str, job: PbsJobId, change: JobChange) -> Command[None]:
    """Run qalter."""
    options = list(_alterations(change))
    if not options:
        raise Invalid("The change of the job has no field")
    return _change(folder, "qalter", options, job, frozenset(changed_fields(change)))


def _alterations(change: JobChange) -> Iterator[str]:
    for option, field, value in (("-N", "name", change.name), ("-A", "account", change.account)):
        if value is not None:
            yield from (option, check_line(field, value))
    if change.priority is not None:
        yield from ("-p", str(change.priority))
    if change.time_limit is not None:
        yield from ("-l", f"walltime={duration_text(change.time_limit)}")
    if change.begin is not None:
        yield from ("-a", time_text(change.begin))
    if change.dependencies is not None:
        yield from ("-W", f"depend={dependency_text(list(change.dependencies))}")


def _change(folder: str, program: str, options: list[str], job: PbsJobId, given: Collection[str] = ()) -> Command[None]:
    """A command for the job or, as a number alone may be that of an array, for whichever of the two exists.

    `given`: the fields to change, by their names on the wire.
    """

    def parse(output: Output) -> None:
        if output.status == 0:
            return
        unknown, _ = errors.refusals(output)
        if 0 < unknown < len(job.candidates) and unknown == len(output.errors().splitlines()):
            return
        known = [line for line in output.stderr.splitlines() if b"Unknown Job Id" not in line]
        refusal = Output(output.status, output.stdout, b"\n".join(known) or output.stderr)
        raise errors.change_error(program, refusal, given)

    return Command((f"{folder}{program}", *options, *job.candidates), parse, env=UTC_TIME)
