"""The scheduler: which pending jobs start now, and the reasons of the others. It runs in every command.

Each job is started by a runner (runner.py), a process in a session of its own.
"""

from __future__ import annotations

import os
import time

from flamecrest.sandbox.processes import started

from . import cluster
from .store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .store import StoredJob


def schedule(store: Store) -> None:
    """Start all jobs that can start. Returns immediately; the runners continue by themselves."""
    with store.transaction():
        _fail_lost(store)
        started = _place_jobs(store)
    if started:
        store.close()  # SQLite connections must not be used after a fork
        for number in started:
            _launch(store, number)
        store.open()


def schedule_if_due(store: Store) -> None:
    """Run the scheduler if a begin time has passed or a runner has died. For commands that only read."""
    now = time.time()
    for job in store.jobs("ended = 0"):
        due = not job.nodelist and 0 < job.begin <= now and job.reason == "BeginTime"
        if due or (job.runner and started(job.runner) != job.runner_began):
            schedule(store)
            return


def _place_jobs(store: Store) -> list[int]:
    """Allocate nodes to pending jobs by priority and age; return the numbers of the jobs to start."""
    jobs = store.jobs("ended = 0")
    cpus = int(store.setting("cpus"))
    used = cluster.used_cpus(jobs)
    running = [job for job in jobs if job.nodelist]
    started: list[int] = []
    blocked = False
    for job in sorted((job for job in jobs if not job.nodelist), key=lambda job: (-job.priority, job.id)):
        while True:
            reason = _pending_reason(store, job, running, cpus)
            if not reason and not (nodes := cluster.find_nodes(job, used, cpus)):
                reason, blocked = ("Priority" if blocked else "Resources"), True
            if reason:
                if reason != job.reason:
                    store.update(job.id, reason=reason)
                break
            left = job.pending_tasks
            number = _start(store, job, nodes)
            started.append(number)
            placed = store.jobs("id = ?", number)[0]
            running.append(placed)
            used = cluster.used_cpus(running)
            if len(left) < 2:
                break
            job = store.jobs("id = ?", job.id)[0]  # noqa: PLW2901 - the same record, with fewer tasks
    return started


def _pending_reason(store: Store, job: StoredJob, running: list[StoredJob], cpus: int) -> str:
    """The reason why the job must not start, apart from free nodes; "" if it may."""
    if job.held:
        return "JobHeldUser"
    if job.begin > time.time():
        return "BeginTime"
    if never := cluster.permanent_reason(job, cpus):
        return never
    if job.dependency and (waits := _dependency_reason(store, job.dependency)):
        return waits
    same = sum(1 for other in running if job.array_job is not None and other.array_job == job.array_job)
    return "JobArrayTaskLimit" if job.array_limit and same >= job.array_limit else ""


def _dependency_reason(store: Store, text: str) -> str:
    for part in text.split(","):
        kind, *numbers = part.split(":")
        for number in numbers:
            others = store.jobs("id = ? OR array_job = ?", number, number)
            if any(not other.finished for other in others):
                return "Dependency"
            well = all(other.state == "COMPLETED" for other in others)
            if (kind == "afterok" and not well) or (kind == "afternotok" and well):
                return "DependencyNeverSatisfied"
    return ""


def _start(store: Store, job: StoredJob, nodes: str) -> int:
    """Mark the job, or the first pending task of an array, as allocated; return its number."""
    if job.array_job is None or job.array_task is not None:
        store.update(job.id, nodelist=nodes, reason="None", reason_before_start=job.reason)
        return job.id
    first, *rest = job.pending_tasks
    changes: dict[str, object] = {
        "array_task": first,
        "array_tasks": "",
        "nodelist": nodes,
        "reason": "None",
        "reason_before_start": job.reason,
    }
    if not rest:  # the last task keeps the array's number
        store.update(job.id, **changes)
        return job.id
    store.update(job.id, array_tasks=",".join(map(str, rest)))
    return store.split(job, **changes)


def _launch(store: Store, number: int) -> None:
    """Fork a runner in a session of its own."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        if os.fork() == 0:
            os.setsid()  # the job's processes can be found by the runner's session
            from . import runner  # noqa: PLC0415 - only this process needs it

            runner.main(store.folder, number)
            schedule(Store(store.folder))
    finally:
        os._exit(0)


def _fail_lost(store: Store) -> None:
    """End the jobs whose runner is gone, because it was killed or the machine was restarted."""
    for job in store.jobs("ended = 0 AND runner > 0"):
        if started(job.runner) != job.runner_began:
            now = time.time()
            store.update(job.id, state="NODE_FAIL", reason="NodeDown", end=int(now), ended=now, status=0)


def cancel(store: Store, job: StoredJob, cancelled_by: int) -> None:
    """Cancel a pending job; within transaction()."""
    now = time.time()
    store.update(job.id, state="CANCELLED", cancelled_by=cancelled_by, end=int(now), ended=now)


def cancel_tasks(store: Store, job: StoredJob, gone: set[int], cancelled_by: int) -> None:
    """Remove pending tasks from an array. Slurm forgets them, unless no task is left. Within transaction()."""
    left = [task for task in job.pending_tasks if task not in gone]
    if left:
        store.update(job.id, array_tasks=",".join(map(str, left)))
    else:
        cancel(store, job, cancelled_by)
