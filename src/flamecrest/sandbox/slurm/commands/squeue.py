"""Toy squeue: shows the jobs that the controller knows."""

from __future__ import annotations

import os
import time

from flamecrest.sandbox.slurm import cluster, ids, paths
from flamecrest.sandbox.slurm.formats import (
    SHORT_STATES,
    CommandFailedError,
    elapsed,
    fail,
    format_array,
    format_duration,
    format_short_duration,
    format_time,
    job_id,
    write_error,
    write_output,
)
from flamecrest.sandbox.slurm.options import MAYBE, NO, YES, Options

from .columns import Column, parse_format, parse_long_format
from .program import chosen_cluster, require_controller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from flamecrest.sandbox.slurm.store import Store, StoredJob

_FLAGS = "all array array-unique hide help json local long me noheader start version yaml"
_VALUES = (
    "account clusters Format format iterate jobs licenses name nodelist partition qos reservation sort states steps "
    "user users"
)
OPTIONS = Options(
    "squeue",
    {
        **dict.fromkeys(_FLAGS.split(), NO),
        **dict.fromkeys(_VALUES.split(), YES),
        "verbose": MAYBE,
    },
    {
        "a": "all", "A": "account", "h": "noheader", "i": "iterate", "j": "jobs", "l": "long", "L": "licenses",
        "M": "clusters", "n": "name", "o": "format", "O": "Format", "p": "partition", "q": "qos", "r": "array",
        "R": "reservation", "S": "sort", "t": "states", "u": "user", "V": "version", "w": "nodelist",
    },
)  # fmt: skip
_STANDARD = "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R"
_LONG = "%.18i %.9P %.8j %.8u %.8T %.10M %.9l %.6D %R"
_START = "%.18i %.9P %.8j %.8u %.2t %.19S %.6D %20Y %R"
_UNKNOWN = "slurm_load_jobs error: Invalid job id specified"
_UNPLACED = ("PENDING",)


def main(store: Store, words: Sequence[str]) -> int:
    options, _ = OPTIONS.read(words, mixed=True)
    if "version" in options:
        write_output(f"slurm-wlm {cluster.VERSION}\n")
        return 0
    if "json" in options or "yaml" in options:
        raise CommandFailedError("squeue: error: the toy Slurm has no serializer plugins")
    store = chosen_cluster(store, "squeue", options)
    named = _ids(options)
    user = options.get("user") or options.get("users")
    if "me" in options:
        user = os.environ.get("USER", "")
    require_controller(store, "slurm_load_jobs error: {}", rounds=2)
    _check_users(store, user)
    jobs = [job for found in known_jobs(store) for job in _asked(found, named) if _wanted(job, options, user)]
    if named and not jobs:
        _check_ids(store, named)
    jobs.sort(key=lambda job: (job.partition, job.state, -job.priority, -job.id))
    _print(jobs, options)
    return 0


def known_jobs(store: Store) -> list[StoredJob]:
    """The jobs that the controller has not forgotten."""
    return store.jobs("ended = 0 OR ended > ?", time.time() - store.setting("min_job_age"))


def _ids(options: dict[str, str]) -> list[ids.JobReference] | None:
    try:
        return ids.parse_squeue_ids(options["jobs"]) if "jobs" in options else None
    except ValueError as error:
        fail("squeue", f"Invalid job id: {error}")


def _asked(job: StoredJob, named: list[ids.JobReference] | None) -> list[StoredJob]:
    """The record if the ids refer to it; if they name pending array tasks, a record for each."""
    if named is None:
        return [job]
    meant = [one for one in named if one.means(job)]
    tasks = {one.task for one in meant}
    if None in tasks or job.array_task in tasks:
        return [job]
    return [pending_task(job, task) for task in job.pending_tasks if task in tasks]


def pending_task(job: StoredJob, task: int) -> StoredJob:
    """A pending array task as a separate record."""
    one = job.copy()
    one.array_task, one.array_tasks = task, ""
    return one


def _check_users(store: Store, names: str | None) -> None:
    for name in (names or "").split(","):
        if name and not name.isdecimal() and store.user(name) is None and name != "root":
            write_error(f"squeue: error: Invalid user: {name}\n")


def _check_ids(store: Store, named: list[ids.JobReference]) -> None:
    """Fail if a single unknown id is given. Slurm ignores unknown ones among several."""
    if len(named) == 1 and not any(named[0].number in {job.id, job.array_job} for job in known_jobs(store)):
        raise CommandFailedError(_UNKNOWN)


def _wanted(job: StoredJob, options: dict[str, str], user: str | None) -> bool:
    states = options.get("states", "PENDING,RUNNING,SUSPENDED,COMPLETING").upper().split(",")
    if "ALL" not in states and job.state not in states and SHORT_STATES.get(job.state) not in states:
        return False
    partition = cluster.partition(job.partition)
    hidden = partition is not None and partition.hidden
    if hidden and "all" not in options and "jobs" not in options and "partition" not in options:
        return False
    filters = (
        (user, {job.user, str(job.uid)}),
        (options.get("account", "").lower() or None, {job.account}),  # in any case, as of the real one
        (options.get("name"), {job.name}),
        (options.get("partition"), {job.partition}),
        (options.get("qos"), {job.qos}),
        (options.get("reservation"), {job.reservation}),
    )
    return all(given is None or bool(values & set(given.split(","))) for given, values in filters)


def _print(jobs: list[StoredJob], options: dict[str, str]) -> None:
    before = ""
    columns: list[Column]
    if "Format" in options:
        columns = parse_long_format("squeue", options["Format"], NAMES)
    else:
        form = options.get("format") or (_LONG if "long" in options else _START if "start" in options else _STANDARD)
        before, columns = parse_format(form, CODES)
    if "long" in options:
        write_output(time.strftime("%a %b %d %H:%M:%S %Y\n"))
    lines = [] if "noheader" in options else [before + "".join(column.show(column.title) for column in columns)]
    rows = _expanded(jobs) if "array" in options else jobs
    lines += [before + "".join(column.show(column.cell(job)) for column in columns) for job in rows]
    write_output("".join(line + "\n" for line in lines))


def _expanded(jobs: list[StoredJob]) -> list[StoredJob]:
    """The rows of --array: one for each pending array task."""
    return [one for job in jobs for one in ([pending_task(job, task) for task in job.pending_tasks] or [job])]


def nodes_of(job: StoredJob) -> str:
    """The node expression of a job that has started."""
    return cluster.node_expression(job) if job.start else ""


def _nodes_or_reason(job: StoredJob) -> str:
    return nodes_of(job) if job.start and job.state not in _UNPLACED else f"({job.reason})"


def _now() -> int:
    return int(time.time())


def start_of(job: StoredJob) -> int:
    """The start; for a job that cannot start, the time when that was found; for a deferred one, its begin time."""
    return job.start or job.end or (job.begin if job.begin > time.time() else 0)


def end_of(job: StoredJob) -> int:
    """The end, or the time when the time limit is reached."""
    return job.end or (job.start + job.minutes * 60 if job.start and job.minutes else 0)


def limit(job: StoredJob) -> str:
    return format_short_duration(job.minutes * 60) if job.minutes else "UNLIMITED"


def _left(job: StoredJob) -> str:
    return format_short_duration(max(0, job.minutes * 60 - elapsed(job, _now()))) if job.minutes else "UNLIMITED"


def _task(job: StoredJob) -> str:
    if job.array_job is None:
        return "N/A"
    return format_array(job.pending_tasks, job.array_limit) if job.array_task is None else str(job.array_task)


def _raw(job: StoredJob) -> str:
    return str(job.id)


def _array_number(job: StoredJob) -> str:
    return str(job.array_job if job.array_job is not None else job.id)


def dependency(job: StoredJob) -> str:
    """The dependency with its state, or `(null)`."""
    if not job.dependency or job.state not in _UNPLACED:
        return "(null)"
    return job.dependency + ("(failed)" if job.reason == "DependencyNeverSatisfied" else "(unfulfilled)")


def _tres(job: StoredJob) -> str:
    return f"cpu={job.cpus},mem={job.memory}M,node={job.nodes},billing={job.cpus}"


def _or_null(text: str) -> str:
    return text or "(null)"


# The code of -o, the name of -O, the titles of both, and the function that formats a job.
_COLUMNS = (
    ("i", "JobArrayID", "JOBID", "JOBID", job_id),
    ("A", "JobID", "JOBID", "JOBID", _raw),
    ("F", "ArrayJobID", "ARRAY_JOB_ID", "ARRAY_JOB_ID", _array_number),
    ("K", "ArrayTaskID", "ARRAY_TASK_ID", "ARRAY_TASK_ID", _task),
    ("P", "Partition", "PARTITION", "PARTITION", lambda job: job.partition),
    ("j", "Name", "NAME", "NAME", lambda job: job.name),
    ("u", "UserName", "USER", "USER", lambda job: job.user),
    ("U", "UserID", "UID", "USER", lambda job: str(job.uid)),
    ("g", "GroupName", "GROUP", "GROUP", lambda job: job.user),
    ("G", "GroupID", "GROUP", "GROUP", lambda job: str(job.uid)),
    ("a", "Account", "ACCOUNT", "ACCOUNT", lambda job: job.account),
    ("t", "StateCompact", "ST", "ST", lambda job: SHORT_STATES[job.state]),
    ("T", "State", "STATE", "STATE", lambda job: job.state),
    ("r", "Reason", "REASON", "REASON", lambda job: job.reason),
    ("R", "ReasonList", "NODELIST(REASON)", "NODELIST(REASON)", _nodes_or_reason),
    ("N", "NodeList", "NODELIST", "NODELIST", nodes_of),
    ("D", "NumNodes", "NODES", "NODES", lambda job: str(job.nodes)),
    ("C", "NumCPUs", "CPUS", "CPUS", lambda job: str(job.cpus)),
    ("", "NumTasks", "", "TASKS", lambda job: str(job.tasks)),
    ("m", "MinMemory", "MIN_MEMORY", "MIN_MEMORY", lambda job: f"{job.memory}M"),
    ("M", "TimeUsed", "TIME", "TIME", lambda job: format_short_duration(elapsed(job, _now()))),
    ("l", "TimeLimit", "TIME_LIMIT", "TIME_LIMIT", limit),
    ("L", "TimeLeft", "TIME_LEFT", "TIME_LEFT", _left),
    ("V", "SubmitTime", "SUBMIT_TIME", "SUBMIT_TIME", lambda job: format_time(job.submit, "N/A")),
    ("S", "StartTime", "START_TIME", "START_TIME", lambda job: format_time(start_of(job), "N/A")),
    ("e", "EndTime", "END_TIME", "END_TIME", lambda job: format_time(end_of(job), "N/A")),
    ("p", "Priority", "PRIORITY", "PRIORITY", lambda job: f"{job.priority / 2**32:.14f}"),
    ("Q", "PriorityLong", "PRIORITY", "PRIORITY", lambda job: str(job.priority)),
    ("q", "QOS", "QOS", "QOS", lambda job: job.qos),
    ("f", "Feature", "FEATURES", "FEATURES", lambda job: _or_null(job.features)),
    ("v", "Reservation", "RESERVATION", "RESERVATION", lambda job: _or_null(job.reservation)),
    ("E", "Dependency", "DEPENDENCY", "DEPENDENCY", dependency),
    ("k", "Comment", "COMMENT", "COMMENT", lambda job: _or_null(job.comment)),
    ("o", "Command", "COMMAND", "COMMAND", lambda job: _or_null(job.command)),
    ("Z", "WorkDir", "WORK_DIR", "WORK_DIR", lambda job: job.workdir),
    ("B", "BatchHost", "EXEC_HOST", "EXEC_HOST", lambda job: nodes_of(job).partition(",")[0] or "n/a"),
    ("Y", "SchedNodes", "SCHEDNODES", "SCHEDNODES", lambda _job: "(null)"),
    ("", "Cluster", "", "CLUSTER", lambda _job: cluster.CLUSTER),
    ("", "STDIN", "", "STDIN", paths.source),
    ("", "STDOUT", "", "STDOUT", paths.listed_output),
    ("", "STDERR", "", "STDERR", paths.listed_errors),
    ("", "exit_code", "", "EXIT_CODE", lambda job: str(job.status)),
    ("", "derived_ec", "", "DERIVED_EXIT_CODE", lambda _job: "0:0"),
    ("", "tres-alloc", "", "TRES_ALLOC", _tres),
    ("", "RestartCnt", "", "RESTART_COUNT", lambda _job: "0"),
    ("", "Elapsed", "", "ELAPSED", lambda job: format_duration(elapsed(job, _now()))),
)
CODES = {code: (title, cell) for code, _, title, _, cell in _COLUMNS if code}
NAMES = {name.lower(): (title, cell) for _, name, _, title, cell in _COLUMNS}
