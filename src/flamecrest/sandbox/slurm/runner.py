"""The runner of one job: a process that starts the script, enforces the time limit and records the end.

The scheduler runs in the same process when the job has ended.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from pathlib import Path

from flamecrest.sandbox.permissions import WRITE, View
from flamecrest.sandbox.processes import MARK, started
from flamecrest.sandbox.users import UnixUsers

from . import cluster, paths
from .store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .store import StoredJob

_SCRIPT = "slurm_script"
_NO_OUTPUT = 53  # the status of a job whose output file cannot be opened
_EVENTS = {signal.SIGCHLD, signal.SIGTERM}


def main(folder: str, number: int) -> None:
    """Run the job in this process, which the scheduler has forked into a session of its own."""
    _detach()
    signal.pthread_sigmask(signal.SIG_BLOCK, _EVENTS)
    store = Store(folder)
    store.update(number, runner=os.getpid(), runner_began=started(os.getpid()) or 0)
    job = store.jobs("id = ?", number)[0]
    if job.cancelled_by is not None or _event(store.setting("start_delay")) == signal.SIGTERM:
        _end(store, job, "CANCELLED", 0)
    else:
        JobRun(store, job).run()
    store.close()


def _detach() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.closerange(3, 1024)
    os.chdir("/")


def _event(seconds: float) -> int:
    """Wait for a signal. Returns its number, or 0 after `seconds`."""
    found = signal.sigtimedwait(_EVENTS, max(0.0, seconds))
    return found.si_signo if found else 0


def _end(store: Store, job: StoredJob, state: str, status: int, reason: str = "None") -> None:
    now = time.time()
    with store.transaction():
        start = store.jobs("id = ?", job.id)[0].start
        store.update(job.id, state=state, status=status, reason=reason, end=max(int(now), start), ended=now)


class JobRun:
    """A job from its start to its end."""

    def __init__(self, store: Store, job: StoredJob) -> None:
        self._store = store
        self._job = job
        root = Path(store.root)
        users = UnixUsers(root, [user.name for user in store.users()])
        self._view = View(users, users[job.user])
        self._folder = f"{store.folder}/job{job.id:05}"
        self._limit = job.minutes * store.setting("minute") or float("inf")

    def run(self) -> None:
        self._store.update(self._job.id, state="RUNNING", reason="None", start=int(time.time()))
        outputs = self._open_outputs()
        if outputs is None:
            _end(self._store, self._job, "FAILED", _NO_OUTPUT, "JobLaunchFailure")
            return
        shell = os.fork()
        if shell == 0:
            self._become_script(*outputs)
        with contextlib.suppress(OSError):  # parent and child both do it, so that the group exists in both
            os.setpgid(shell, shell)
        for descriptor in outputs[:2]:
            os.close(descriptor)
        self._store.update(self._job.id, shell=shell, shell_began=started(shell) or 0)
        cause, status = self._wait(shell, outputs[2])
        self._sweep(shell)
        if cause == "CANCELLED":
            _end(self._store, self._job, cause, status)
        elif cause == "TIMEOUT":
            _end(self._store, self._job, cause, status, "TimeLimit")
        elif status:
            reason = "NonZeroExitCode" if status >> 8 else "JobLaunchFailure"
            _end(self._store, self._job, "FAILED", status, reason)
        else:
            _end(self._store, self._job, "COMPLETED", 0)
        with contextlib.suppress(OSError):
            os.unlink(f"{self._folder}/{_SCRIPT}")  # noqa: PTH108 - by hand, because shutil takes 6 ms to import
            os.rmdir(self._folder)  # noqa: PTH106

    def _open_outputs(self) -> tuple[int, int, int] | None:
        """Open standard input, output and error; None if one of them cannot be opened."""
        job = self._job
        out, err = paths.output(job), paths.errors(job)
        try:
            source = os.open(self._found(paths.source(job)), os.O_RDONLY)
            output = self._create(out)
            return source, output, os.dup(output) if out == err else self._create(err)
        except OSError:
            return None

    def _found(self, path: str) -> bytes:
        found = self._view.find(os.fsencode(path))
        if not os.path.lexists(found):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return found

    def _create(self, path: str) -> int:
        found = self._view.find(os.fsencode(path))
        if os.path.lexists(found):
            self._view.check(found, WRITE)
        else:
            self._view.check_entry(found)
        how = os.O_APPEND if self._job.append else os.O_TRUNC
        return os.open(found, os.O_WRONLY | os.O_CREAT | how, 0o644)

    def _become_script(self, source: int, output: int, errors: int) -> None:
        """Replace this process, which was forked for it, by the script."""
        job = self._job
        for number, descriptor in enumerate((source, output, errors)):
            os.dup2(descriptor, number)
        os.closerange(3, 1024)
        try:
            os.setpgid(0, 0)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _EVENTS)
            path = Path(self._folder, _SCRIPT)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            path.write_bytes(job.script)
            path.chmod(0o700)
            try:
                os.chdir(job.workdir)
            except OSError as error:
                self._say(f"couldn't chdir to `{job.workdir}': {error.strerror}: going to /tmp instead")
                os.chdir("/tmp")
            arguments = job.arguments.split(b"\0")[:-1]
            os.execve(path, [bytes(path), *arguments], self._environment())
        except OSError as error:
            self._say(f"execve(): {self._folder}/{_SCRIPT}: {error.strerror}")
            os._exit(error.errno or 1)

    def _environment(self) -> dict[bytes, bytes]:
        job, first = self._job, self._job.nodelist.partition(",")[0]
        given = dict(entry.split(b"=", 1) for entry in job.environment.split(b"\0") if b"=" in entry)
        names = {
            "SLURM_JOB_ID": job.id,
            "SLURM_JOBID": job.id,
            "SLURM_JOB_NAME": job.name,
            "SLURM_JOB_USER": job.user,
            "SLURM_JOB_UID": job.uid,
            "SLURM_JOB_ACCOUNT": job.account,
            "SLURM_JOB_PARTITION": job.partition,
            "SLURM_JOB_QOS": job.qos,
            "SLURM_JOB_NODELIST": cluster.node_expression(job),
            "SLURM_NODELIST": cluster.node_expression(job),
            "SLURM_JOB_NUM_NODES": job.nodes,
            "SLURM_NNODES": job.nodes,
            "SLURM_NTASKS": job.tasks,
            "SLURM_CPUS_ON_NODE": -(-job.cpus // job.nodes),
            "SLURM_CLUSTER_NAME": cluster.CLUSTER,
            "SLURMD_NODENAME": first,
            "SLURM_NODEID": 0,
            "SLURM_PROCID": 0,
            "SLURM_LOCALID": 0,
            "ENVIRONMENT": "BATCH",
            "TMPDIR": "/tmp",
            MARK: self._store.root,
        }
        if job.array_job is not None:
            names |= {"SLURM_ARRAY_JOB_ID": job.array_job, "SLURM_ARRAY_TASK_ID": job.array_task or 0}
        return given | {os.fsencode(name): os.fsencode(str(value)) for name, value in names.items()}

    def _wait(self, shell: int, errors: int) -> tuple[str, int]:
        """Wait for the script. Returns why it was ended ("" if it ended by itself) and its wait(2) status."""
        began, cause, deadline = time.monotonic(), "", float("inf")
        while True:
            now = time.monotonic()
            if now >= deadline:
                _signal(shell, signal.SIGKILL)
                deadline = float("inf")
            elif not cause and now - began >= self._limit:
                cause, deadline = "TIMEOUT", self._stop(shell, errors, " DUE TO TIME LIMIT")
            ended, status = os.waitpid(shell, os.WNOHANG)
            if ended:
                return cause, status
            until = deadline if cause else began + self._limit
            if _event(min(until - now, 3600.0)) == signal.SIGTERM and not cause:
                cause, deadline = "CANCELLED", self._stop(shell, errors, "")

    def _stop(self, shell: int, errors: int, why: str) -> float:
        """Send SIGTERM to the script; return the time for SIGKILL."""
        self._store.update(self._job.id, state="COMPLETING")
        when = time.strftime("%Y-%m-%dT%H:%M:%S")
        node = self._job.nodelist.partition(",")[0]
        self._say(f"*** JOB {self._job.id} ON {node} CANCELLED AT {when}{why} ***", errors)
        _signal(shell, signal.SIGCONT)
        _signal(shell, signal.SIGTERM)
        return time.monotonic() + self._store.setting("kill_wait")

    def _sweep(self, shell: int) -> None:
        """Kill the remaining processes of the script and of srun."""
        _signal(shell, signal.SIGKILL)
        now = int(time.time())
        for step in self._store.steps(self._job.id):
            if not step.end:
                if step.process and started(step.process) == step.process_began:
                    _signal(step.process, signal.SIGKILL)
                self._store.update_step(step.job, step.number, state="CANCELLED", status=9, end=now)

    def _say(self, text: str, descriptor: int = 2) -> None:
        os.write(descriptor, os.fsencode(f"slurmstepd: error: {text}\n"))


def _signal(leader: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, number)
