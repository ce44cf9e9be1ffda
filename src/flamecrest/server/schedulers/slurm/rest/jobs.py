"""Parsers of jobs in slurmrestd's answers: those of the controller (`/slurm`) and of the accounting (`/slurmdb`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from flamecrest.server.schedulers.array_elements import ArrayElements
from flamecrest.server.schedulers.merging import JobRecord, Snapshot
from flamecrest.server.schedulers.once.marked_jobs import MarkedJobs
from flamecrest.server.schedulers.once.marked_paths import marker_in, without_marker
from flamecrest.server.schedulers.once.submissions import is_marker
from flamecrest.server.schedulers.slurm.ids import SlurmJobId
from flamecrest.server.schedulers.slurm.jobs import own_comment
from flamecrest.server.schedulers.slurm.states import JOB_STATES, JobState, parse_job_state
from flamecrest.server.schedulers.values import Job, JobMetadata, JobStep, JobTimes, Stage

from .fields import exit_status, mapping, moment, number, text, words
from .job_resources import JobPaths, live_paths, live_resources, recorded_paths, recorded_resources, usage

_Row = Mapping[str, Any]
# Flags of a state that say less than the state itself, or that Slurm's commands show in its place.
_SHOWN_FLAGS: Final = ("COMPLETING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "STAGE_OUT", "RESIZING")
_BITMAP: Final = re.compile(r"0x[0-9A-Fa-f]{1,1000001}")
_MINUTE: Final = 60


def parse_live(rows: Iterable[_Row], now: float) -> Snapshot:
    """The jobs that the controller knows. `now`: seconds since the epoch, for the time that a job has run."""
    return _snapshot(rows, lambda row, unknown: _of_controller(row, unknown, now))


def parse_history(rows: Iterable[_Row]) -> Snapshot:
    """The jobs in the accounting."""
    return _snapshot(rows, _of_accounting)


def parse_metadata(rows: Sequence[_Row], job: SlurmJobId) -> JobMetadata | None:
    """The paths of a job of the controller; None if it has none. Those of a whole array keep the patterns."""
    records = [(row, record) for row in rows if (record := _of_controller(row, [], 0)) is not None]
    mine = {one.raw_id for one in job.parts([record for _, record in records])}
    found = [row for row, record in records if record.raw_id in mine]
    if not found:
        return None
    row = next((row for row in found if str(number(row.get("job_id"))) == job.base_id), found[0])
    element = job.elements.lowest() if job.elements is not None and len(job.elements) == 1 else None
    is_shared = bool(number(row.get("array_job_id"))) and (element is None or number(row.get("array_task_id")) is None)
    node = None if is_shared else text(row.get("batch_host")) or None
    return JobMetadata(str(job), None, *live_paths(row, whole_array=is_shared, element=element), node=node)


def parse_recorded_metadata(rows: Sequence[_Row], job: SlurmJobId) -> JobMetadata:
    """The paths of a job in the accounting. Those of a whole array are not known: each element has its own."""
    records = [(row, record) for row in rows if (record := _of_accounting(row, [])) is not None]
    found = [row for row, record in records if job.parts([record])]
    return JobMetadata(str(job), None, *(recorded_paths(found[-1]) if len(found) == 1 else JobPaths()))


def _snapshot(rows: Iterable[_Row], parse: Any) -> Snapshot:
    unknown: list[str] = []
    found = [parse(row, unknown) for row in rows]
    records = [record for record in found if record is not None]
    return Snapshot(records, len(found) - len(records), tuple(unknown))


def _of_controller(row: _Row, unknown: list[str], now: float) -> JobRecord | None:
    start, end = moment(row.get("start_time")), moment(row.get("end_time"))
    nodes = text(row.get("nodes"))
    state = _state(words(row.get("job_state")), unknown, started=bool(nodes), ended=False)
    waiting = state.stage is Stage.WAITING
    code, signal = (None, None) if waiting else exit_status(row.get("exit_code"))
    # without nodes the start is an estimate, or the time of the cancellation
    begun = None if waiting or not nodes else start
    resources = live_resources(row)
    element = number(row.get("array_task_id"))
    said, folder = text(row.get("comment")), text(row.get("current_working_directory"))
    paths = live_paths(row, whole_array=bool(number(row.get("array_job_id"))) and element is None)
    job = Job(
        id=_id(
            row,
            row.get("array_job_id"),
            element,
            row.get("array_task_string"),
            row.get("het_job_id"),
            row.get("het_job_offset"),
        ),
        name=text(row.get("name")),
        state=state.state,
        stage=state.stage,
        user=text(row.get("user_name")) or None,
        reason=text(row.get("state_reason")) or None,
        exit_code=code,
        signal=signal,
        times=_live_times(row, state, begun, end, now),
        account=text(row.get("account")) or None,
        group=text(row.get("group_name")) or None,
        partition=text(row.get("partition")),
        cluster=text(row.get("cluster")),
        nodes=nodes,
        node_count=number(row.get("node_count")) or 0,
        priority=number(row.get("priority")),
        working_directory=without_marker(folder),
        qos=text(row.get("qos")) or None,
        cpus=resources.cpus,
        memory=resources.memory,
        gpus=resources.gpus,
        standard_output=paths.standard_output,
        standard_error=paths.standard_error,
        dependency=text(row.get("dependency")) or None,
        comment=own_comment(said),
        marker=said if is_marker(said) else marker_in(folder),
    )
    return _record(job, row, number(row.get("restart_cnt")) or 0)


def _live_times(row: _Row, state: JobState, begun: int | None, end: int | None, now: float) -> JobTimes:
    """The times of a job of slurmctld, which has a time of the end for jobs that have not ended, too."""
    ended = state.stage is Stage.ENDED
    halted = not ended and state.state in {"SUSPENDED", "STOPPED"}
    limit = number(row.get("time_limit"))
    return JobTimes(
        submit=moment(row.get("submit_time")),
        start=begun,
        end=end if ended else None,
        elapsed=_elapsed(row, begun, end if ended else int(now), halted=halted),
        limit=None if limit is None else limit * _MINUTE,
    )


def marked_jobs(records: Iterable[JobRecord], user: str) -> MarkedJobs:
    """The user's jobs with markers."""
    mine = (one for one in records if one.job.user == user)
    return MarkedJobs.of((one.job.marker, one.base_id) for one in mine if one.job.marker is not None)


def _elapsed(row: _Row, begun: int | None, until: int | None, *, halted: bool) -> int | None:
    """The seconds that a job has run, without its suspensions. `halted`: it is suspended now."""
    before = number(row.get("pre_sus_time")) or 0  # seconds that it had run when it was suspended last
    if begun is None:
        return 0
    if halted and before:
        return before
    if until is None:
        return None
    resumed = (moment(row.get("suspend_time")) or begun) if before else begun
    return max(0, until - resumed) + before


def _of_accounting(row: _Row, unknown: list[str]) -> JobRecord | None:
    times, array, het, current = (mapping(row.get(key)) for key in ("time", "array", "het", "state"))
    start, end = moment(times.get("start")), moment(times.get("end"))
    state = _state(words(current.get("current")), unknown, started=start is not None, ended=end is not None)
    waiting, nodes = state.stage is Stage.WAITING, text(row.get("nodes"))
    nodes = "" if nodes == "None assigned" else nodes
    code, signal = (None, None) if waiting else _recorded_exit(row, state)
    placeholder = text(row.get("name")) == "allocation" and not text(row.get("partition"))
    job_id = _id(
        row, array.get("job_id"), array.get("task_id"), array.get("task"), het.get("job_id"), het.get("job_offset")
    )
    association = mapping(row.get("association"))
    resources, paths = recorded_resources(row), recorded_paths(row)
    said, folder = text(mapping(row.get("comment")).get("job")), text(row.get("working_directory"))
    job = Job(
        id=job_id,
        name="" if placeholder else text(row.get("name")),
        state=state.state,
        stage=state.stage,
        user=text(row.get("user")) or text(association.get("user")) or None,
        reason=text(current.get("reason")) or None,
        exit_code=code,
        signal=signal,
        times=_recorded_times(times, waiting=waiting, begun=bool(nodes)),
        account=text(row.get("account")) or None,
        group=None if placeholder else text(row.get("group")) or None,
        partition=text(row.get("partition")),
        cluster=text(row.get("cluster")),
        nodes=nodes,
        node_count=number(row.get("allocation_nodes")) or 0,
        priority=number(row.get("priority")),
        working_directory=without_marker(folder),
        kill_request_user=text(row.get("kill_request_user")) or None,
        qos=text(row.get("qos")) or None,
        source="history",
        steps=tuple(_step(job_id, step, unknown) for step in row.get("steps") or () if isinstance(step, dict)),
        cpus=resources.cpus,
        memory=resources.memory,
        gpus=resources.gpus,
        standard_output=paths.standard_output,
        standard_error=paths.standard_error,
        comment=own_comment(said),
        marker=said if is_marker(said) else marker_in(folder),
        usage=usage(row) if state.stage is Stage.ENDED else None,
    )
    return _record(job, row, 0, placeholder=placeholder)


def _recorded_exit(row: _Row, state: JobState) -> tuple[int | None, int | None]:
    """Exit code and signal in the accounting: v0.0.38 says SUCCESS and 0 of every program that no signal has ended."""
    code, signal = exit_status(row.get("exit_code"))
    unknown = mapping(row.get("exit_code")).get("status") == "SUCCESS" and state.stage is Stage.ENDED
    return (None if unknown and state.state != "COMPLETED" else code), signal


def _recorded_times(times: _Row, *, waiting: bool, begun: bool) -> JobTimes:
    """The times of a job of the accounting. `begun`: it had nodes; else the start is that of no run."""
    limit = number(times.get("limit"))
    return JobTimes(
        submit=moment(times.get("submission")),
        start=moment(times.get("start")) if begun and not waiting else None,
        end=None if waiting else moment(times.get("end")),
        elapsed=0 if waiting else number(times.get("elapsed")),
        suspended=None if waiting else number(times.get("suspended")),
        limit=None if limit is None else limit * _MINUTE,
    )


def _step(job_id: str, row: _Row, unknown: list[str]) -> JobStep:
    times, step = mapping(row.get("time")), mapping(row.get("step"))
    end = moment(times.get("end"))
    state = _state(words(row.get("state")), unknown, started=True, ended=end is not None)
    code, signal = _recorded_exit(row, state)
    given = step.get("id")
    name = (
        str(given)
        if isinstance(given, int)
        else text(given).rpartition(".")[2] or str(number(mapping(given).get("step_id")) or "")
    )
    shown = JobTimes(
        start=moment(times.get("start")),
        end=end,
        elapsed=number(times.get("elapsed")),
        suspended=number(times.get("suspended")),
    )
    return JobStep(f"{job_id}.{name}", text(step.get("name")), state.state, code, signal, shown)


def _id(row: _Row, array: Any, element: Any, elements: Any, het: Any, component: Any) -> str:
    """The id as Slurm's commands print it; "" if the row has none."""
    own, base, place = number(row.get("job_id")), number(array), number(element)
    if base and place is not None:
        return f"{base}_{place}"
    if base and (waiting := text(elements)):
        return f"{base}_[{_shown(waiting)}]"
    group, offset = number(het), number(component)
    if group and offset is not None:
        return f"{group}+{offset}"
    return str(own) if own else ""


def _record(job: Job, row: _Row, restarts: int, *, placeholder: bool = False) -> JobRecord | None:
    """The record of the job; None if its id cannot be read."""
    base, underscore, rest = job.id.partition("_")
    base, _, component = base.partition("+")
    if not base:
        return None
    try:
        elements = _elements(rest.strip("[]")) if underscore else None
    except ValueError:
        return None
    own = number(row.get("job_id"))
    return JobRecord(
        job,
        base,
        raw_id="" if own is None else str(own),
        elements=elements,
        component=int(component) if component else None,
        restarts=restarts,
        placeholder=placeholder,
    )


def _shown(waiting: str) -> str:
    """Elements as Slurm's commands print them; as they are if they cannot be read."""
    try:
        return str(_elements(waiting.strip("[]"))) if waiting.startswith("0x") else waiting.strip("[]")
    except ValueError:
        return waiting


def _elements(shown: str) -> ArrayElements:
    """The elements `2-3%2`, which the accounting writes as a bitmap: `0xC%2`. Raises ValueError."""
    plain = shown.partition("%")[0]
    if _BITMAP.fullmatch(plain):
        return ArrayElements(int(plain, 16))
    return ArrayElements.parse(shown)


def _state(found: Sequence[str], unknown: list[str], *, started: bool, ended: bool) -> JobState:
    """The state among a state and its flags (`["CANCELLED", "COMPLETING"]`), as squeue would show it."""
    shown = next((flag for flag in _SHOWN_FLAGS if flag in found), None)
    word = shown or next((one for one in found if one in JOB_STATES), found[0] if found else "UNKNOWN")
    state = parse_job_state(word, started=started, ended=ended)
    if not state.known:
        unknown.append(word[:80])
    return state
