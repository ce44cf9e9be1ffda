"""Jobs as the wire shows them. Knows no route."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flamecrest.server.schedulers.array_elements import ArrayPlace
from flamecrest.server.schedulers.reason_hints import reason_hint
from flamecrest.server.schedulers.values import Stage

if TYPE_CHECKING:
    from flamecrest.server.schedulers.values import Job, JobTimes


def _status(
    state: str, reason: str | None, hint: str | None, exit_code: int | None, signal: int | None
) -> dict[str, Any]:
    return {
        "state": state,
        "stateReason": reason,
        "stateHint": hint,
        "exitCode": exit_code,
        "interruptSignal": signal,
    }


def _time(times: JobTimes) -> dict[str, Any]:
    return {
        "elapsed": times.elapsed,
        "start": times.start,
        "end": times.end,
        "suspended": times.suspended,
        "limit": times.limit,
    }


def show_job(job: Job) -> dict[str, Any]:
    """The fields of a wire JobModel."""
    hint = reason_hint(job.reason, ended=job.stage is Stage.ENDED)
    return {
        "jobId": job.id,
        "name": job.name,
        "status": _status(job.state, job.reason, hint, job.exit_code, job.signal),
        "tasks": [
            {
                "id": step.id,
                "name": step.name,
                "status": _status(step.state, None, None, step.exit_code, step.signal),
                "time": _time(step.times),
            }
            for step in job.steps
        ],
        "time": _time(job.times),
        "account": job.account,
        "allocationNodes": job.node_count,
        "cluster": job.cluster,
        "group": job.group,
        "nodes": job.nodes,
        "partition": job.partition,
        "killRequestUser": job.kill_request_user,
        "user": job.user,
        "workingDirectory": job.working_directory,
        "priority": job.priority,
        "submitTime": job.times.submit,
        "cpus": job.cpus,
        "memory": job.memory,
        "gpus": job.gpus,
        "qos": job.qos,
        "dependency": job.dependency,
        "comment": job.comment,
        "standardOutput": job.standard_output,
        "standardError": job.standard_error,
        "usage": _usage(job),
        "array": _array(job.id),
        "source": job.source,
    }


def _array(job_id: str) -> dict[str, Any] | None:
    place = ArrayPlace.of(job_id) if not job_id.isdecimal() else None
    if place is None:
        return None
    return {
        "jobId": place.array_id,
        "element": place.element,
        "elements": place.elements,
        "maxRunning": place.max_running,
    }


def _usage(job: Job) -> dict[str, Any] | None:
    """What an ended job has used of what it had."""
    used, times = job.usage, job.times
    if used is None:
        return None
    had = (job.cpus or 0) * (times.elapsed or 0)
    cpu = None if used.cpu_seconds is None or not had else round(used.cpu_seconds / had, 3)
    room = (job.memory or 0) / max(1, job.node_count)  # of one node
    memory = None if used.max_memory is None or not room else round(used.max_memory / room, 3)
    return {
        "cpuSeconds": used.cpu_seconds,
        "maxMemory": used.max_memory,
        "cpuEfficiency": cpu,
        "memoryEfficiency": memory,
    }
