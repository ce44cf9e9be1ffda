"""Job records of the live scheduler and of its accounting history: how they are merged, and summed up. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .array_elements import ArrayElements
from .values import Job, JobStep, JobTimes, Stage

_NUMBER = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What one source knows about a job, an array element, or a set of elements (`14_[2-4%2]`).

    `base_id` is the id without element, `raw_id` another id under which the scheduler knows the job. A `placeholder`
    is a history row that was written before the job's start was recorded: only id and steps are valid.
    """

    job: Job
    base_id: str
    raw_id: str = ""
    elements: ArrayElements | None = None
    component: int | None = None  # of a heterogeneous job
    restarts: int = 0
    placeholder: bool = False

    @property
    def stage(self) -> Stage:
        """The stage of the job."""
        return self.job.stage

    @property
    def is_group(self) -> bool:
        """Whether the record describes a set of array elements: `14_[2-4]`. `14[2].server` is one element of PBS."""
        return "_[" in self.job.id

    @property
    def is_plain(self) -> bool:
        """Whether the record is that of a job, not of an element or component."""
        return self.elements is None and self.component is None

    @property
    def is_final(self) -> bool:
        """Whether the job has ended, and this is its end."""
        return self.stage is Stage.ENDED and not self.placeholder

    @property
    def lacks_exit_code(self) -> bool:
        """Whether it is the end of a job that no signal has ended, without the exit code."""
        return self.is_final and self.job.exit_code is None and self.job.signal is not None

    def is_later_run_than(self, earlier: JobRecord) -> bool:
        """Whether the job was requeued, or its id used again, since that record."""
        submitted, before = self.job.times.submit, earlier.job.times.submit
        return self.restarts > 0 or (submitted is not None and before is not None and submitted > before)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The answer of one source: its records, the number of unreadable rows, and the unknown states.

    `unknown_users`: those of several users asked for of whom the source does not know anything.
    """

    records: Sequence[JobRecord] = ()
    unreadable_rows: int = 0
    unknown_states: Sequence[str] = ()
    unknown_users: frozenset[str] = frozenset()


def join(live: JobRecord, past: JobRecord | None) -> JobRecord:
    """What the two sources know about one job."""
    if past is None:
        return live
    if past.placeholder:
        return replace(live, job=replace(live.job, steps=_valid_steps(live.stage, past.job.steps)))
    submitted, recorded = live.job.times.submit, past.job.times.submit
    if submitted is not None and recorded is not None and submitted != recorded:
        return live if submitted > recorded else past
    # After a restart the history may still contain the end of the previous run, with the same submission time.
    # An end without an exit code is told by the live scheduler a moment later, with it.
    latest = past if past.stage > live.stage and not live.restarts and not past.lacks_exit_code else live
    times = latest.job.times
    if latest.stage is not Stage.WAITING and times.suspended is None and past.job.times.suspended is not None:
        times = replace(times, suspended=past.job.times.suspended)
    changes: dict[str, Any] = {
        "name": live.job.name,
        "times": times,
        "kill_request_user": latest.job.kill_request_user or past.job.kill_request_user,
        "standard_output": latest.job.standard_output or live.job.standard_output,
        "standard_error": latest.job.standard_error or live.job.standard_error,
        "usage": latest.job.usage or (past.job.usage if latest.stage is Stage.ENDED else None),
        "steps": _valid_steps(latest.stage, past.job.steps),
    }
    raw_id = live.raw_id or past.raw_id
    # A copy takes ten times as long as the comparison, and most jobs of a long list wait: both sources say the same.
    if raw_id == latest.raw_id and all(getattr(latest.job, name) == value for name, value in changes.items()):
        return latest
    return replace(latest, job=replace(latest.job, **changes), raw_id=raw_id)


def merge(
    live: Iterable[JobRecord] | None,
    history: Iterable[JobRecord] | None,
    joined: Callable[[JobRecord, JobRecord | None], JobRecord] = join,
) -> list[JobRecord]:
    """Each job that either source knows, once, oldest first. None is a source that did not answer.

    The live record takes precedence. The history adds steps, and jobs that the live source no longer knows.
    Within one run the later stage wins; a later submission (a requeue) wins over an earlier one. `joined` returns the
    result of `join`, and may remember it.
    """
    past = {record.job.id: record for record in history or () if not record.is_group}
    now = {record.job.id: record for record in live or () if not record.is_group}
    single = {key: joined(record, past.get(key)) for key, record in now.items()}
    accepted = {key: record for key, record in past.items() if live is None or not record.placeholder}
    single = {**accepted, **single}
    groups = [record for source in (live, history) for record in source or () if record.is_group]
    return sorted([*single.values(), *_remaining_groups(groups, single.values())], key=sort_key)


def _valid_steps(stage: Stage, steps: Sequence[JobStep]) -> Sequence[JobStep]:
    """The steps without running ones if the job has ended: the history may lag behind."""
    if stage is Stage.ENDED:
        return tuple(step for step in steps if step.times.end is not None)
    return steps


def _remaining_groups(groups: Iterable[JobRecord], single: Iterable[JobRecord]) -> Iterator[JobRecord]:
    """The groups, without elements that have a record of their own or are in an earlier group."""
    seen: dict[str, ArrayElements] = {}
    for record in single:
        if record.elements is not None:
            seen[record.base_id] = seen.get(record.base_id, ArrayElements()) | record.elements
    for record in groups:
        if record.elements is None:
            continue
        known = seen.get(record.base_id, ArrayElements())
        rest = record.elements - known
        seen[record.base_id] = known | record.elements
        if rest == record.elements:
            yield record
        elif rest:
            yield replace(record, elements=rest, job=replace(record.job, id=f"{record.base_id}_[{rest}]"))


def sort_key(record: JobRecord) -> tuple[int, int, str, int]:
    """The place of a job in lists: oldest first."""
    number = _NUMBER.match(record.base_id)
    lowest = record.elements.lowest() if record.elements else record.component or 0
    return (record.job.times.submit or 0, int(number[0]) if number else 0, record.base_id, lowest)


def part_of(record: JobRecord, elements: ArrayElements, name: Callable[[ArrayElements], str]) -> JobRecord | None:
    """The record, reduced to the elements that are in `elements`; None if there are none. `name` makes the id."""
    if record.elements is None or not (common := record.elements & elements):
        return None
    if common == record.elements:
        return record
    return replace(record, elements=common, job=replace(record.job, id=name(common)))


def sum_up(job_id: str, records: Sequence[JobRecord], severity: Callable[[str], int]) -> Job:
    """One Job that stands for an array or a heterogeneous job. Each of its parts becomes a step.

    Its state is PENDING until a part has started and RUNNING until all have ended (also between two elements; the
    components of a heterogeneous job start together, so while one waits and none runs the job waits).
    Then it is the most severe final state of the parts, with exit code and reason of that part. `elapsed` is that
    of the longest part. Paths are those of all parts, or none.
    `severity` puts the final states of the scheduler in order.
    """
    begun = [record for record in records if record.stage is not Stage.WAITING]
    running = [record for record in begun if record.stage is Stage.RUNNING]
    stage = _whole_stage(records)
    if stage is Stage.ENDED:
        model = max(records, key=lambda record: severity(record.job.state)).job
        state, code, signal = model.state, model.exit_code, model.signal
    elif stage is Stage.RUNNING:
        model = (running or begun)[0].job
        words = {record.job.state for record in running}
        state, code, signal = words.pop() if len(words) == 1 else "RUNNING", 0, 0
    else:
        model = next(record for record in records if record.stage is Stage.WAITING).job
        state, code, signal = model.state, None, None
    return replace(
        model,
        id=job_id,
        state=state,
        stage=stage,
        exit_code=code,
        signal=signal,
        times=_span([record.job.times for record in records], ended=stage is Stage.ENDED),
        nodes=",".join(dict.fromkeys(record.job.nodes for record in running or begun if record.job.nodes)),
        node_count=max(record.job.node_count for record in records),
        standard_output=_common(record.job.standard_output for record in records),
        standard_error=_common(record.job.standard_error for record in records),
        steps=tuple(_step(record.job) for record in begun),
    )


def _whole_stage(records: Sequence[JobRecord]) -> Stage:
    """The stage of the job that these parts make up. A part that was cancelled while it waited has not started it."""
    if all(record.stage is Stage.ENDED for record in records):
        return Stage.ENDED
    if any(record.stage is Stage.RUNNING for record in records):
        return Stage.RUNNING
    times = (record.job.times for record in records if record.stage is Stage.ENDED and record.component is None)
    return Stage.RUNNING if any(one.start is not None or one.elapsed for one in times) else Stage.WAITING


def _span(times: Sequence[JobTimes], *, ended: bool) -> JobTimes:
    def known(name: str) -> list[int]:
        return [value for one in times if (value := getattr(one, name)) is not None]

    return JobTimes(
        submit=min(known("submit"), default=None),
        start=min(known("start"), default=None),
        end=max(known("end"), default=None) if ended else None,
        elapsed=max(known("elapsed"), default=None),
        suspended=max(known("suspended"), default=None),
        limit=max(known("limit"), default=None),
    )


def _common(paths: Iterable[str | None]) -> str | None:
    found = set(paths)
    return found.pop() if len(found) == 1 else None


def _step(job: Job) -> JobStep:
    return JobStep(job.id, job.name, job.state, job.exit_code, job.signal, job.times)
