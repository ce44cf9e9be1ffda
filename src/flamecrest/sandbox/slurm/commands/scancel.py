"""Toy scancel: cancels jobs or sends them signals."""

from __future__ import annotations

import os
import signal
import time

from flamecrest.sandbox.processes import started
from flamecrest.sandbox.slurm import ids, scheduler
from flamecrest.sandbox.slurm.formats import SHORT_STATES, CommandFailedError, fail, write_error
from flamecrest.sandbox.slurm.options import NO, YES, Options

from .program import SILENT, UNREACHABLE, Caller, chosen_cluster, controller_failure
from .squeue import known_jobs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from flamecrest.sandbox.slurm.store import Store, StoredJob

_FLAGS = "batch ctld cron full help hurry interactive me quiet verbose version"
_VALUES = "account clusters jobname name nodelist partition qos reservation sibling signal state user wckey"
OPTIONS = Options(
    "scancel",
    {
        **dict.fromkeys(_FLAGS.split(), NO),
        **dict.fromkeys(_VALUES.split(), YES),
    },
    {
        "A": "account", "b": "batch", "f": "full", "H": "hurry", "i": "interactive", "M": "clusters", "n": "name",
        "p": "partition", "q": "qos", "Q": "quiet", "R": "reservation", "s": "signal", "t": "state", "u": "user",
        "v": "verbose", "V": "version", "w": "nodelist",
    },
)  # fmt: skip
_UNKNOWN = "Invalid job id specified"
REPEATING = 95  # seconds for which a signal to a job without processes is repeated
_STATUS = {
    "Job not heterogeneous job": 58,
    "Access/permission denied": 210,
    UNREACHABLE: 8,
    SILENT: 140,
}  # exit statuses: the last byte of Slurm's error number


def main(store: Store, words: Sequence[str]) -> int:
    options, words = OPTIONS.read(words, mixed=True)
    store = chosen_cluster(store, "scancel", options)
    caller = Caller(store)
    asked = ids.parse_scancel_ids(words)
    status = 0
    if reason := controller_failure(store):
        for text, *_ in asked:
            _announce(options, text)
            write_error(_error_text(text, reason))
            status = _STATUS[reason]
        if not asked:
            raise CommandFailedError(f"slurm_load_jobs error: {reason}")
        return status
    for text, named, tasks in asked:
        if named.step is not None:
            status = _act_on_step(store, caller, named, options) or status
            continue
        _announce(options, text)
        if named.component is not None:
            status = _act_on_component(store, named, text, options) or status
            continue
        status = _act(store, caller, (text, named.number, tasks), options) or status
    if not asked:
        for job in known_jobs(store):
            if not job.finished and caller.owns(job.user) and _selected(job, options, caller):
                _end(store, caller, job, None, options)
    scheduler.schedule(store)
    return status


def _act_on_component(store: Store, named: ids.JobReference, text: str, options: dict[str, str]) -> int:
    """No job is heterogeneous: component 0 is an error, and other components do not exist."""
    if named.component or not any(job.id == named.number for job in known_jobs(store)):
        _report_if_verbose(options, text, _UNKNOWN)
        return 0
    write_error(_error_text(text, "Job not heterogeneous job"))
    return _STATUS["Job not heterogeneous job"]


def _act_on_step(store: Store, caller: Caller, named: ids.JobReference, options: dict[str, str]) -> int:
    jobs = [job for job in known_jobs(store) if job.id == named.number]
    if jobs and not caller.owns(jobs[0].user):
        what = "Access/permission denied"
    elif jobs and not jobs[0].finished:
        for step in store.steps(named.number):
            if str(step.number) == named.step and started(step.process) == step.process_began:
                os.kill(step.process, _number(options.get("signal", "KILL")))
        return 0
    else:
        what = _UNKNOWN
    write_error(f"scancel: error: Kill job error on job step id {named.number}.{named.step}: {what}")
    return _STATUS.get(what, 1)


def _error_text(text: str, what: str) -> str:
    return f"scancel: error: Kill job error on job id {text}: {what}"


def _act(store: Store, caller: Caller, asked: tuple[str, int, set[int] | None], options: dict[str, str]) -> int:
    text, number, tasks = asked
    jobs = [job for job in known_jobs(store) if number == job.array_job or (tasks is None and number == job.id)]
    if tasks is not None:
        jobs = [job for job in jobs if job.array_task in tasks or tasks & set(job.pending_tasks)]
    if not jobs:
        # reported with --verbose only; the exit status is 0
        _report_if_verbose(options, text, _UNKNOWN)
        return 0
    if not all(caller.owns(job.user) for job in jobs):
        write_error(_error_text(text, "Access/permission denied"))
        return _STATUS["Access/permission denied"]
    alive = [job for job in jobs if not job.finished]
    if not alive:
        _report_if_verbose(options, text, "Job/step already completing or completed")
    for job in alive:
        _end(store, caller, job, tasks, options)
    return 0


def _announce(options: dict[str, str], text: str) -> None:
    if "verbose" in options:
        signalled = f"Signal {options['signal']} to" if "signal" in options else "Terminating"
        write_error(f"scancel: {signalled} job {text}")


def _report_if_verbose(options: dict[str, str], text: str, what: str) -> None:
    if "verbose" in options:
        write_error(_error_text(text, what))


def _selected(job: StoredJob, options: dict[str, str], caller: Caller) -> bool:
    asked = {
        "account": {job.account},
        "jobname": {job.name},
        "name": {job.name},
        "partition": {job.partition},
        "qos": {job.qos},
        "reservation": {job.reservation},
        "state": {job.state, SHORT_STATES[job.state]},
        "user": {job.user, str(job.uid)},
    }
    if not options.keys() & {*asked, "me"}:
        fail("scancel", "No job identification provided")
    return all(values & set(options[name].split(",")) for name, values in asked.items() if name in options) and (
        "me" not in options or job.user == caller.name
    )


def _end(store: Store, caller: Caller, job: StoredJob, tasks: set[int] | None, options: dict[str, str]) -> None:
    if "signal" in options:
        _signal(job, options)
        return
    with store.transaction():
        job = store.jobs("id = ?", job.id)[0]
        if job.finished:
            return
        if job.pending_tasks:
            scheduler.cancel_tasks(store, job, set(job.pending_tasks) if tasks is None else tasks, caller.uid)
        elif not job.nodelist:
            scheduler.cancel(store, job, caller.uid)
        else:
            store.update(job.id, cancelled_by=caller.uid)
    if job.runner and started(job.runner) == job.runner_began:
        os.kill(job.runner, signal.SIGTERM)


def _signal(job: StoredJob, options: dict[str, str]) -> None:
    number = _number(options["signal"])
    if job.shell and started(job.shell) == job.shell_began:
        (os.kill if "batch" in options else os.killpg)(job.shell, number)
    elif number != signal.SIGKILL:
        if "verbose" in options:
            write_error("scancel: Job is in transitional state, retrying")
        time.sleep(REPEATING)


def _number(text: str) -> int:
    name = text.upper().removeprefix("SIG")
    number = int(name) if name.isdecimal() else getattr(signal, f"SIG{name}", None)
    if number is None:
        fail("scancel", f"Unknown job signal: {text}")
    return int(number)
