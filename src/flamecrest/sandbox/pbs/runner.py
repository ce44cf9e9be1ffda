"""The start of jobs, and the process that runs one."""

# ruff: noqa: PTH118, PTH123
from __future__ import annotations

import contextlib
import os
import signal
import time

from .store import NODE, SERVER, State, ctime

OVER_WALLTIME = -29


def start_all(folder: str) -> None:
    """Start each job that nothing holds, in a process that outlives this one."""
    with State(folder) as state:
        for job_id in list(state.startable()):
            job = state.jobs[job_id]
            now = time.time()
            job |= {"job_state": "R", "substate": 42, "stime": ctime(now), "exec_host": f"{NODE}/0", "_started": now}
            job |= {"exec_vnode": f"({NODE}:ncpus=1)", "run_count": job.get("run_count", 0) + 1}
            job["comment"] = f"Job run at {time.strftime('%a %b %d at %H:%M')} on ({NODE}:ncpus=1)"
            _detached(folder, job_id)


def _detached(folder: str, job_id: str) -> None:
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.closerange(3, 1024)
    try:
        _run(folder, job_id)
    finally:
        os._exit(0)


def _run(folder: str, job_id: str) -> None:
    with State(folder) as state:
        job = dict(state.jobs[job_id])
    script = os.path.join(folder, f"{job_id}.SC")
    with open(script, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(job["_script"])
    os.chmod(script, 0o700)  # noqa: PTH101
    shell = os.fork()
    if shell == 0:
        _become(script, job_id, job)
    with State(folder) as state:
        state.jobs[job_id]["_pid"] = shell
        deleted = state.jobs[job_id]["substate"] == 91
    if deleted:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell, signal.SIGTERM)
    over, status = _wait(shell, job["_limit"])
    with State(folder) as state:
        _end(state, job_id, OVER_WALLTIME if over else status)
    start_all(folder)


def _become(script: str, job_id: str, job: dict) -> None:  # type: ignore[type-arg]
    """Replace this process by the user's shell that runs the script."""
    os.setsid()
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PBS_")}
    variables |= job["Variable_List"] | {
        "PBS_JOBID": job_id,
        "PBS_JOBNAME": job["Job_Name"],
        "PBS_ENVIRONMENT": "PBS_BATCH",
    }
    if "array_index" in job:
        variables["PBS_ARRAY_INDEX"] = str(job["array_index"])
    for number, key in ((1, "Output_Path"), (2, "Error_Path")):
        path = job[key].partition(":")[2].replace("^array_index^", str(job.get("array_index", "")))
        with contextlib.suppress(OSError):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    if job["Join_Path"] == "oe":
        os.dup2(1, 2)
    try:
        os.chdir(job["Variable_List"]["PBS_O_HOME"])
        os.execve("/bin/bash", ["-bash", "-c", 'exec "$0"', script], variables)
    finally:
        os._exit(127)


def _wait(shell: int, limit: float) -> tuple[bool, int]:
    """Wait for the script: whether it was over its limit, and its Exit_status."""
    until, over = time.monotonic() + limit, False
    while True:
        ended, status = os.waitpid(shell, os.WNOHANG)
        if ended:
            return over, 256 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        if time.monotonic() > until and not over:
            over = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell, signal.SIGKILL)
        time.sleep(0.02)


def _end(state: State, job_id: str, status: int) -> None:
    job, now = state.jobs[job_id], time.time()
    used = int(now - job["_started"])
    clock = f"{used // 3600:02}:{used // 60 % 60:02}:{used % 60:02}"
    job["resources_used"] = {"cpupercent": 0, "cput": "00:00:00", "mem": "0kb", "ncpus": 1, "walltime": clock}
    job |= {"Exit_status": status, "obittime": ctime(now), "history_timestamp": int(now), "job_state": "F"}
    if job["substate"] != 91:
        job["substate"] = 92 if status == 0 else 93
    job["comment"] += " and finished" if job["substate"] == 92 else " and failed"
    close_array(state, job_id)


def close_array(state: State, job_id: str) -> None:
    """End an array all of whose elements have ended."""
    parent = f"{job_id.partition('[')[0]}[].{SERVER}"
    if "[" not in job_id or parent not in state.jobs:
        return
    array, elements = state.jobs[parent], [state.jobs[one] for one in state.elements(parent)]
    states = {one["job_state"] for one in elements}
    if states == {"F"}:
        failed = any(one["substate"] == 93 for one in elements)
        deleted = all(one["substate"] == 91 for one in elements)
        array |= {
            "job_state": "F",
            "substate": 91 if deleted else 93 if failed else 92,
            "history_timestamp": int(time.time()),
        }
        if not deleted:
            array["Exit_status"] = 0  # also if an element has failed
    elif states & {"R", "F"}:
        array |= {"job_state": "B", "substate": 70}
