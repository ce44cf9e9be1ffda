"""What live and history each say of jobs, and the one truth they add up to. Pure: it knows no scheduler and no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from .array_elements import ArrayElements
from .values import Job, JobStep

_NUMBER = re.compile(r"[0-9]+")


class Stage(IntEnum):
    """How far a job has come. Within one run of a job it only ever grows."""

    WAITING = 0
    RUNNING = 1
    ENDED = 2


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One source's word on a job, on an array element, or on several elements at once (`14_[2-4%2]`).

    `base` is the id without element; `raw` another number the scheduler knows the job by. A `placeholder`
    is a history row written before the history heard of the job's start: the id and the steps are true,
    nothing else is.
    """

    job: Job
    stage: Stage
    base: str
    raw: str = ""
    elements: ArrayElements | None = None
    offset: int | None = None  # the component of a heterogeneous job
    restarts: int = 0
    placeholder: bool = False

    @property
    def is_group(self) -> bool:
        """Whether it stands for a set of elements."""
        return "[" in self.job.id


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one source said: its records, how many rows could not be read, and states that no table knows."""

    records: Sequence[JobRecord] = ()
    unread: int = 0
    unknown_states: Sequence[str] = ()


def merge(live: Iterable[JobRecord] | None, history: Iterable[JobRecord] | None) -> list[JobRecord]:
    """Every job that either source knows, once, oldest first; None is a source that did not answer.

    Live is asked first and believed first; history adds the steps and the jobs that live has forgotten.
    Within one run the further stage wins, a later submission (a requeue) beats an earlier one.
    """
    past = {record.job.id: record for record in history or () if not record.is_group}
    now = {record.job.id: record for record in live or () if not record.is_group}
    single = {key: _join(record, past.get(key)) for key, record in now.items()}
    believed = {key: record for key, record in past.items() if live is None or not record.placeholder}
    single = {**believed, **single}
    groups = [record for source in (live, history) for record in source or () if record.is_group]
    return sorted([*single.values(), *_rest(groups, single.values())], key=_age)


def _join(live: JobRecord, past: JobRecord | None) -> JobRecord:
    if past is None:
        return live
    if past.placeholder:
        return replace(live, job=replace(live.job, steps=_believable(live.stage, past.job.steps)))
    submitted, recorded = live.job.times.submit, past.job.times.submit
    if submitted is not None and recorded is not None and submitted != recorded:
        return live if submitted > recorded else past
    # After a restart the history may still hold the end of the run before, under the same submission.
    further = past if past.stage > live.stage and not live.restarts else live
    times = further.job.times
    if further.stage is not Stage.WAITING and times.suspended is None and past.job.times.suspended is not None:
        times = replace(times, suspended=past.job.times.suspended)
    job = replace(
        further.job,
        name=live.job.name,
        times=times,
        kill_request_user=further.job.kill_request_user or past.job.kill_request_user,
        steps=_believable(further.stage, past.job.steps),
    )
    return replace(further, job=job, raw=live.raw or past.raw)


def _believable(stage: Stage, steps: Sequence[JobStep]) -> Sequence[JobStep]:
    """A job that has ended has no running step, even if the history has not heard of the step's end yet."""
    if stage is Stage.ENDED:
        return tuple(step for step in steps if step.times.end is not None)
    return steps


def _rest(groups: Iterable[JobRecord], single: Iterable[JobRecord]) -> Iterator[JobRecord]:
    """The groups, without the elements that are known one by one or from an earlier group."""
    taken: dict[str, ArrayElements] = {}
    for record in single:
        if record.elements is not None:
            taken[record.base] = taken.get(record.base, ArrayElements()) | record.elements
    for record in groups:
        if record.elements is None:
            continue
        known = taken.get(record.base, ArrayElements())
        rest = record.elements - known
        taken[record.base] = known | record.elements
        if rest == record.elements:
            yield record
        elif rest:
            yield replace(record, elements=rest, job=replace(record.job, id=f"{record.base}_[{rest}]"))


def _age(record: JobRecord) -> tuple[int, int, str, int]:
    number = _NUMBER.match(record.base)
    lowest = record.elements.lowest() if record.elements else record.offset or 0
    return (record.job.times.submit or 0, int(number[0]) if number else 0, record.base, lowest)
