"""The dialect of tinyq: its command lines, and the parsers of what it prints. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from flamecrest.server.errors import Conflict, Denied, Field, GatewayError, Invalid, Unavailable, Upstream
from flamecrest.server.schedulers.capabilities import Capabilities, Operation, sent_fields
from flamecrest.server.schedulers.dialect import CancelOutcome, Dialect, JobQuery
from flamecrest.server.schedulers.job_environment import check_absolute_path, check_line, submit_command
from flamecrest.server.schedulers.job_errors import (
    Refusal,
    Refusals,
    job_not_found,
    maybe_submitted,
    one_line,
    refused,
)
from flamecrest.server.schedulers.merging import JobRecord, Snapshot
from flamecrest.server.schedulers.once.programs import is_unclear
from flamecrest.server.schedulers.values import (
    Job,
    JobAction,
    JobMetadata,
    JobSpec,
    JobTimes,
    Node,
    Partition,
    Stage,
)
from flamecrest.server.ssh.command import Command, Output

if TYPE_CHECKING:
    from collections.abc import Collection

T = TypeVar("T")

# tinyq's state -> the state that callers see, and the stage. tinyq(1), "States"
STATES: Final = MappingProxyType(
    {
        "waiting": ("PENDING", Stage.WAITING),
        "held": ("PENDING", Stage.WAITING),
        "running": ("RUNNING", Stage.RUNNING),
        "done": ("COMPLETED", Stage.ENDED),
        "failed": ("FAILED", Stage.ENDED),
        "stopped": ("CANCELLED", Stage.ENDED),
        "late": ("TIMEOUT", Stage.ENDED),
    }
)
CAPABILITIES: Final = Capabilities(
    fields=frozenset(
        {"name", "partition", "standardOutput", "standardError", "timeLimit", "hold", "resources.cpusPerTask"}
    ),
    changes=frozenset(),
    operations=frozenset({Operation.HOLD, Operation.RELEASE, Operation.FIND}),
)
_REFUSALS: Final[Refusals] = (
    (Refusal.PARTITION, ("partition",), ("no such line",)),
    (Refusal.RESOURCES, ("resources.cpusPerTask",), ("more cpus than the host has",)),
    (Refusal.SCRIPT, ("script", "scriptPath"), ("no script",)),
)
# tinyq(1), "Exit status"
_UNKNOWN_JOB, _NOT_YOURS, _WRONG_STATE, _DOWN = 3, 4, 5, 6
_KINDS: Final[Mapping[int, Callable[[str], GatewayError]]] = MappingProxyType(
    {_UNKNOWN_JOB: job_not_found, _NOT_YOURS: Denied, _WRONG_STATE: Conflict, _DOWN: Unavailable}
)
_ID: Final = re.compile(r"[0-9]{1,15}", re.ASCII)
_QUEUED: Final = re.compile(r"^queued ([0-9]+)$", re.MULTILINE | re.ASCII)
_ACTIONS: Final = MappingProxyType({JobAction.HOLD: "hold", JobAction.RELEASE: "free"})


class TinyQ(Dialect):
    """The dialect for all users. tinyq itself remembers ended jobs, so there is no other history."""

    name = "tinyq"
    capabilities = CAPABILITIES

    def submit(self, spec: JobSpec) -> Command[str]:
        """Run `tinyq submit`, with the script over standard input."""
        given = sent_fields(spec)

        def parse(output: Output) -> str:
            found = _QUEUED.search(output.text())
            if found is None:
                raise _submit_error(output, given)
            return found[1]

        return submit_command(("tinyq", "submit", *_options(spec)), spec, parse)

    def queue_id(self, job_id: str) -> str:
        """The id itself, if it is one."""
        if not _ID.fullmatch(job_id):
            message = "Invalid job id. Example: 123"
            raise Invalid(message, fields=(Field("path", "job_id", message),))
        return str(int(job_id))

    def live(self, query: JobQuery) -> Command[Snapshot]:
        """Run `tinyq show`, which leaves unknown ids out."""
        ids = (query.job_id,) if query.job_id is not None else query.job_ids
        of_user = ("-u", query.user) if query.user is not None and not ids else ()
        return _read(("show", *of_user, *map(self.queue_id, ids)), _snapshot)

    def metadata(self, job_id: str) -> Command[JobMetadata | None]:
        """Run `tinyq show` for the paths."""

        def parse(found: list[Mapping[str, Any]]) -> JobMetadata | None:
            return next((JobMetadata(job_id, None, None, one["out"], one["err"]) for one in found), None)

        return _read(("show", self.queue_id(job_id)), parse)

    def cancel(self, job_id: str) -> Command[CancelOutcome]:
        """Run `tinyq stop`."""

        def parse(output: Output) -> CancelOutcome:
            outcome = {0: CancelOutcome.DONE, _WRONG_STATE: CancelOutcome.ENDED, _UNKNOWN_JOB: CancelOutcome.UNKNOWN}
            if output.status not in outcome:
                raise _error(output)
            return outcome[output.status]

        return Command(("tinyq", "stop", self.queue_id(job_id)), parse)

    def act(self, job_id: str, action: JobAction) -> Command[None]:
        """Run `tinyq hold` or `tinyq free`."""
        return Command(("tinyq", _ACTIONS[action], self.queue_id(job_id)), _check)

    def nodes(self) -> Command[list[Node]]:
        """Run `tinyq hosts`."""
        return _read(("hosts",), lambda found: [Node(one["host"], ("IDLE",), one["cpus"]) for one in found])

    def partitions(self, *, hidden: bool) -> Command[list[Partition]]:
        """Run `tinyq lines`: a line is a queue. All are shown to everybody."""
        del hidden
        return _read(("lines",), lambda found: [Partition(one["line"], "UP") for one in found])

    def ping(self) -> Command[None]:
        """Run `tinyq hosts`."""
        return _read(("hosts",), lambda _found: None)


def _options(spec: JobSpec) -> Iterator[str]:
    yield from ("-d", check_absolute_path("workingDirectory", check_line("workingDirectory", spec.working_directory)))
    limit = None if spec.time_limit is None else str(spec.time_limit)
    cpus = None if spec.resources.cpus_per_task is None else str(spec.resources.cpus_per_task)
    for option, field, value in (
        ("-n", "name", spec.name), ("-l", "partition", spec.partition), ("-o", "standardOutput", spec.standard_output),
        ("-e", "standardError", spec.standard_error), ("-t", "timeLimit", limit),
        ("-c", "resources.cpusPerTask", cpus), ("-m", "marker", spec.marker),
    ):  # fmt: skip
        if value is not None:
            yield from (option, check_line(field, value))
    if spec.hold:
        yield "-H"
    if spec.script_path is not None:
        yield check_absolute_path("scriptPath", check_line("scriptPath", spec.script_path))


def _snapshot(found: list[Mapping[str, Any]]) -> Snapshot:
    unknown = tuple(str(one["state"])[:40] for one in found if one["state"] not in STATES)
    return Snapshot([_record(one) for one in found], unknown_states=unknown)


def _record(one: Mapping[str, Any]) -> JobRecord:
    begun = Stage.WAITING if one["start"] is None else Stage.RUNNING
    state, stage = STATES.get(one["state"], ("UNKNOWN", begun))  # what is not known has not ended
    job = Job(
        id=str(one["id"]),
        name=one["name"],
        state=state,
        stage=stage,
        user=one["user"],
        exit_code=one["code"],
        signal=None if one["code"] is None else 0,
        times=JobTimes(one["submit"], one["start"], one["end"], limit=one["limit"]),
        partition=one["line"],
        nodes=one["host"] or "",
        working_directory=one["dir"],
        cpus=one["cpus"],
        standard_output=one["out"],
        standard_error=one["err"],
        marker=one["mark"],
    )
    return JobRecord(job, job.id)


def _read(arguments: tuple[str, ...], parse: Callable[[Any], T]) -> Command[T]:
    """A command that changes nothing, and prints one JSON document."""

    def checked(output: Output) -> T:
        _check(output)
        try:
            return parse(json.loads(output.stdout))
        except (ValueError, TypeError, KeyError) as error:
            raise Upstream("The scheduler's command tinyq printed no list", detail=repr(error)) from None

    return Command(("tinyq", *arguments), checked, repeatable=True)


def _check(output: Output) -> None:
    if output.status != 0:
        raise _error(output)


def _error(output: Output) -> GatewayError:
    message = one_line(output.errors()).removeprefix("tinyq: ")
    if output.status in _KINDS:
        return _KINDS[output.status](message)
    return Upstream(
        f"The scheduler's command tinyq failed: {message or 'no message'}", detail=f"status {output.status}"
    )


def _submit_error(output: Output, given: Collection[str]) -> GatewayError:
    """The error of a submission without an id; what tinyq says of a job that it refuses is passed on unchanged."""
    if output.status == 1 and output.errors():
        return refused(one_line(output.errors()).removeprefix("tinyq: "), _REFUSALS, given)
    error = _error(output)
    return maybe_submitted(error) if is_unclear(output) else error
