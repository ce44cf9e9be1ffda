"""Toy srun: runs a command as a step of a running job. It cannot allocate jobs."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

from flamecrest.sandbox.processes import started
from flamecrest.sandbox.slurm import cluster
from flamecrest.sandbox.slurm.formats import CommandFailedError, fail, write_error
from flamecrest.sandbox.slurm.options import MAYBE, NO, YES, Options

from .directives import OPTIONS as SBATCH
from .program import Caller, controller_failure
from .squeue import known_jobs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from flamecrest.sandbox.slurm.store import Store, StoredJob

_FLAGS = "disable-status exact multi-prog no-allocate overlap preserve-env pty quit-on-interrupt unbuffered whole"
_VALUES = "cpu-bind epilog het-group jobid mpi msg-timeout prolog relative slurmd-debug task-epilog task-prolog threads"
OPTIONS = Options(
    "srun",
    {
        **{
            name: kind
            for name, kind in SBATCH.names.items()
            if name not in {"array", "export-file", "wrap", "parsable"}
        },
        **dict.fromkeys(_FLAGS.split(), NO),
        **dict.fromkeys(_VALUES.split(), YES),
        **dict.fromkeys(("immediate", "kill-on-bad-exit", "label"), MAYBE),
    },
    {**SBATCH.letters, "u": "unbuffered", "l": "label", "r": "relative", "I": "immediate", "K": "kill-on-bad-exit"},
)


_HINT = "srun: Check SLURM_JOB_ID environment variable. Expired or invalid job "
_FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def main(store: Store, words: Sequence[str]) -> int:
    options, command = OPTIONS.read(words)
    number = options.get("jobid") or os.environ.get("SLURM_JOB_ID", "")
    if not command:
        raise CommandFailedError("srun: fatal: No command given to execute.")
    if not number:
        fail("srun", "Unable to allocate resources: the toy Slurm runs srun in a job only")
    if not number.isdecimal():
        fail("srun", f'Invalid numeric value "{number}" for --jobid.')
    job = _job(store, number)
    return _run(store, job, options, command)


def _job(store: Store, number: str) -> StoredJob:
    if reason := controller_failure(store):
        raise _unconfirmed(number, reason)
    found = [job for job in known_jobs(store) if job.id == int(number)]
    if not found:
        raise _unconfirmed(number, "Invalid job id specified")
    job = found[0]
    if not Caller(store).owns(job.user):
        fail("srun", f"Unable to create step for job {number}: Access/permission denied")
    if job.finished or job.state == "COMPLETING":
        raise CommandFailedError(f"srun: error: Slurm job {number} has expired", _HINT + number)
    if job.state == "PENDING":
        raise _unconfirmed(number, "Job is pending execution")
    return job


def _unconfirmed(number: str, why: str) -> CommandFailedError:
    return CommandFailedError(
        f"srun: error: Unable to confirm allocation for job {number}: {why}",
        _HINT + number,
    )


def _run(store: Store, job: StoredJob, options: dict[str, str], command: list[str]) -> int:
    tasks = int(options.get("ntasks", "1"))
    name = options.get("job-name") or command[0].rpartition("/")[2]
    with store.transaction():
        step = store.add_step(job.id, name=name, start=int(time.time()))
    node = job.nodelist.partition(",")[0]
    status = 0
    sys.stdout.flush()
    for task in range(tasks):
        ended = _task(store, job, step, task, options, command)
        if ended:
            what = f"Exited with exit code {ended >> 8}" if ended >> 8 else _killed(ended & 0x7F)
            write_error(f"srun: error: {node}: task {task}: {what}")
            status = status or ended
    state = "COMPLETED" if not status else "FAILED" if status >> 8 else "CANCELLED"
    store.update_step(job.id, step, state=state, status=status, end=int(time.time()))
    return status >> 8 or (128 + (status & 0x7F) if status else 0)


def _killed(number: int) -> str:
    return {9: "Killed", 15: "Terminated"}.get(number, f"Signal {number}")


def _task(store: Store, job: StoredJob, step: int, task: int, options: dict[str, str], command: list[str]) -> int:
    """Run one task and wait for it. Returns its wait(2) status."""
    store.close()  # SQLite connections must not be used after a fork
    child = os.fork()
    if child == 0:
        _become(job, step, task, options, command)
    with contextlib.suppress(OSError):  # parent and child both do it, so that the group exists in both
        os.setpgid(child, child)
    for number in _FORWARDED:
        signal.signal(number, lambda number, _frame: os.killpg(child, number))
    store.open()
    store.update_step(job.id, step, process=child, process_began=started(child) or 0)
    return os.waitpid(child, 0)[1]


def _become(job: StoredJob, step: int, task: int, options: dict[str, str], command: list[str]) -> None:
    names = {
        "SLURM_JOB_ID": job.id,
        "SLURM_JOBID": job.id,
        "SLURM_STEP_ID": step,
        "SLURM_PROCID": task,
        "SLURM_NTASKS": options.get("ntasks", "1"),
        "SLURM_JOB_NODELIST": cluster.node_expression(job),
        "SLURMD_NODENAME": job.nodelist.partition(",")[0],
    }
    os.setpgid(0, 0)  # the end of the job kills this process group
    try:
        if options.get("input") == "none" or task > 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if "chdir" in options:
            os.chdir(options["chdir"])
        os.execvpe(command[0], command, {**os.environ, **{name: str(value) for name, value in names.items()}})
    except OSError as error:
        write_error(f"slurmstepd: error: execve(): {command[0]}: {error.strerror}")
        os._exit(2)
