"""Values of the port from the answers of the local scheduler's program. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flamecrest.server.schedulers.array_elements import ArrayElements
from flamecrest.server.schedulers.merging import JobRecord, Snapshot
from flamecrest.server.schedulers.values import Job, JobMetadata, JobTimes, JobUsage, Node, Stage

from .states import stage_of
from .submission import PARTITION

Answer = Mapping[str, Any]


def parse_jobs(found: Sequence[Answer], user: str) -> Snapshot:
    """The jobs of a list."""
    return Snapshot(tuple(_record(one, user) for one in found))


def parse_metadata(found: Answer, job_id: str) -> JobMetadata:
    """Script and paths."""
    return JobMetadata(job_id, found.get("script"), found["in"], found["out"], found["err"])


def parse_node(found: Answer) -> Node:
    """The machine, with what the user's own jobs have of it."""
    cpus, idle = found["cpus"], max(0, found["idle"])
    state = "IDLE" if idle == cpus else "MIXED" if idle else "ALLOCATED"
    return Node(
        name=found["name"],
        states=(state,),
        cpus=cpus,
        partitions=(PARTITION,),
        cpu_load=found["load"],
        free_memory=found.get("available"),
        allocated_memory=found["allocated"],
        allocated_cpus=cpus - idle,
        idle_cpus=idle,
        address=found["name"],
        hostname=found["name"],
    )


def _record(one: Answer, user: str) -> JobRecord:
    base, listed, state = one["id"], one.get("els"), one["state"]
    elements = None if listed is None else ArrayElements.parse(listed)
    stage = stage_of(state, ended=one.get("end") is not None)
    job_id = base
    started = one.get("start") is not None
    if elements is not None:
        most = f"%{one['max']}" if one.get("max") and stage is Stage.WAITING else ""
        job_id = f"{base}_{listed}" if started or len(elements) == 1 else f"{base}_[{listed}{most}]"
    job = Job(
        id=job_id,
        name=one.get("name", ""),
        state=state,
        stage=stage,
        user=user,
        reason=one.get("reason"),
        exit_code=one.get("exit"),
        signal=one.get("sig"),
        times=_times(one, stage),
        partition=PARTITION,
        nodes=one["host"] if started else "",
        node_count=1,
        priority=one.get("prio"),
        working_directory=one["dir"],
        cpus=one["cpus"],
        memory=one.get("mem"),
        dependency=one.get("deps") if stage is Stage.WAITING else None,
        comment=one.get("comment"),
        standard_output=one["out"],
        standard_error=one["err"],
        usage=JobUsage(one["cpu"], one.get("rss")) if one.get("cpu") is not None else None,
        marker=one.get("marker"),
    )
    return JobRecord(job, base, elements=elements, restarts=one["runs"])


def _times(one: Answer, stage: Stage) -> JobTimes:
    start, end, slept = one.get("start"), one.get("end"), one.get("slept") or 0
    elapsed = end - start - slept if start is not None and end is not None else one["ran"] or None
    return JobTimes(
        submit=one["submit"],
        start=start if start is not None else one.get("begin") if stage is Stage.WAITING else None,
        end=end,
        elapsed=elapsed,
        suspended=slept or None,
        limit=one.get("limit"),
    )
