"""From a JobSpec to slurmrestd's description of a job, and the id in its answer; changes and signals. No I/O.

slurmrestd does not read the `#SBATCH` lines of a script, and starts the job with the given environment only.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from flamecrest.server.errors import Invalid, Upstream
from flamecrest.server.schedulers.job_environment import (
    check_absolute_path,
    check_line,
    check_signal,
    encode_text,
    invalid_field,
    invalid_signal,
)
from flamecrest.server.schedulers.job_errors import maybe_submitted
from flamecrest.server.schedulers.once.marked_paths import marked_folder
from flamecrest.server.schedulers.slurm.errors import of_script
from flamecrest.server.schedulers.slurm.ids import SlurmJobId
from flamecrest.server.schedulers.slurm.submission import check_counts, check_time, dependency_text
from flamecrest.server.schedulers.values import JobChange, JobSpec, MailEvent, Resources

from .errors import error_of
from .fields import mapping, number

if TYPE_CHECKING:
    from .errors import Reply
    from .versions import ApiVersion

# Without a PATH a job finds no programs; a script may read more of the user's environment with `#!/bin/bash -l`.
_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
# With this variable in a job's environment slurmd adds the variables of a login of the user that the job does not set:
# what sbatch does for --get-user-env. Seen with 22.05, 24.11 and 26.05.
GET_USER_ENV: Final = "SLURM_GET_USER_ENV"
# Slurm cancels the job for a signal that it does not know.
_SIGNALS: Final = frozenset({
    "ABRT", "ALRM", "CONT", "HUP", "INT", "KILL", "PIPE", "QUIT", "STOP", "TERM", "TSTP", "TTIN", "TTOU", "URG",
    "USR1", "USR2", "XCPU",
})  # fmt: skip
_MAX_SIGNAL: Final = 31
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_MINUTE: Final = 60

# The one-line fields of a JobSpec, by slurmrestd's names and those of the wire.
_LINES: Final = (
    ("name", "name", "name"),
    ("account", "account", "account"),
    ("partition", "partition", "partition"),
    ("reservation", "reservation", "reservation"),
    ("constraints", "constraints", "constraints"),
    ("standard_input", "standard_input", "standardInput"),
    ("standard_output", "standard_output", "standardOutput"),
    ("standard_error", "standard_error", "standardError"),
    ("qos", "qos", "qos"),
    ("comment", "comment", "comment"),
    ("licenses", "licenses", "licenses"),
    ("container", "container", "container"),
)
_NUMBERS: Final = ("tasks", "tasks_per_node", "cpus_per_task")
_CHANGED_LINES: Final = ("name", "account", "partition", "qos", "comment")
_ALL_MAIL: Final = (MailEvent.BEGIN, MailEvent.END, MailEvent.FAIL, MailEvent.REQUEUE)


def marked(spec: JobSpec, *, keyed: bool) -> JobSpec:
    """The job with its marker as its comment, if it has no other one.

    Else, and if it is `keyed`, in the path of its working directory: the accounting may be configured not to record
    comments. Raises Invalid for a path that is too long for that.
    """
    if spec.marker is None:
        return spec
    if spec.comment is None and not keyed:
        return replace(spec, comment=spec.marker)
    folder = marked_folder(check_absolute_path("workingDirectory", spec.working_directory), spec.marker)
    if folder is None and keyed:
        raise invalid_field("workingDirectory", "has too long a path for a job with an `Idempotency-Key`")
    comment = spec.marker if spec.comment is None else spec.comment
    return replace(spec, comment=comment, working_directory=folder or spec.working_directory)


def body(
    spec: JobSpec, username: str, version: ApiVersion, more: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """The body of the submission; `more` are fields of slurmrestd's own, over which those of the job win.

    Raises Invalid, and Unsupported for what only sbatch can do.
    """
    script = spec.script or ""
    encode_text("script", script)
    if not script.startswith("#!"):
        raise invalid_field("script", "must begin with `#!` and the path of an interpreter")
    if "\r\n" in script:
        raise invalid_field("script", "has the line ends of Windows (CR LF)")
    check_absolute_path("workingDirectory", spec.working_directory)
    job = {
        **more,
        "current_working_directory": check_line("workingDirectory", spec.working_directory),
        **dict(_fields(spec, version)),
    }
    job["environment"] = _environment(spec, username, version)
    return {"script": script, "job": job}


def job_id(reply: Reply, script: str | None, *, own_token: bool, given: Collection[str] = ()) -> str:
    """The id of the submitted job. An id is proof of a job, and without one there may be none, whatever the status.

    `script` is that of the job. `given`: the fields that the request sets, by their names on the wire.
    """
    found = number(reply.body.get("job_id")) or number(mapping(reply.body.get("result")).get("job_id"))
    if found and SlurmJobId.printed(str(found), "") is not None:
        return str(found)
    if reply.status >= 400 or reply.errors:
        raise of_script(error_of(reply, own_token=own_token, submits=True, given=given), script)
    if reply.warnings:  # a value of a wrong type: no job, and no error
        raise Invalid(f"slurmrestd submitted no job: {'; '.join(reply.warnings)[:1000]}")
    raise maybe_submitted(Upstream("slurmrestd gave no job id"))


def signal_name(signal: str) -> str:
    """The signal as slurmrestd takes it. Raises Invalid."""
    checked = check_signal(signal)
    if not (checked in _SIGNALS or (checked.isdigit() and int(checked) <= _MAX_SIGNAL)):
        raise invalid_signal()
    return checked


def change_body(change: JobChange, version: ApiVersion) -> dict[str, Any]:
    """The body of an update."""
    return dict(_changes(change, version))


def _changes(change: JobChange, version: ApiVersion) -> Iterator[tuple[str, Any]]:
    for name in _CHANGED_LINES:
        if (value := getattr(change, name)) is not None:
            yield name, check_line(name, value)
    if change.priority is not None:
        yield "priority", _priority(change.priority, version)
    if change.time_limit is not None:
        yield "time_limit", _number(_minutes(change.time_limit), version)
    if change.begin is not None:
        yield "begin_time", _time(check_time("begin", change.begin), version)
    if change.dependencies is not None:
        yield "dependency", dependency_text(list(change.dependencies))


def _fields(spec: JobSpec, version: ApiVersion) -> Iterator[tuple[str, Any]]:
    for field, name, wire in _LINES:
        if value := getattr(spec, field):
            yield name, check_line(wire, value)
    yield from _resources(spec.resources, version)
    yield from _course(spec, version)
    if spec.mail is not None:
        events = _ALL_MAIL if MailEvent.ALL in spec.mail.events else spec.mail.events
        kinds = [event.value.upper() for event in events]
        yield "mail_type", kinds if version.has_structures else ",".join(kinds)
        if spec.mail.address is not None:
            yield "mail_user", check_line("mail.address", spec.mail.address)


def _resources(resources: Resources, version: ApiVersion) -> Iterator[tuple[str, Any]]:
    check_counts(resources)
    yield from _nodes(resources, version)
    for name in _NUMBERS:
        if (value := getattr(resources, name)) is not None:
            yield name, value
    for name, size in (("memory_per_node", resources.memory), ("memory_per_cpu", resources.memory_per_cpu)):
        if size is not None:
            yield name, _number(size, version)
    kind = "" if resources.gpu_type is None else f"{check_line('resources.gpuType', resources.gpu_type)}:"
    for name, gpus in (("tres_per_job", resources.gpus), ("tres_per_node", resources.gpus_per_node)):
        if gpus is not None:
            yield name, f"gres/gpu:{kind}{gpus}"
    if resources.exclusive:
        yield ("shared", ["none"]) if version.has_structures else ("exclusive", "exclusive")
    if resources.features is not None:
        yield "constraints", check_line("resources.features", resources.features)


def _nodes(resources: Resources, version: ApiVersion) -> Iterator[tuple[str, Any]]:
    """Nodes and tasks, as sbatch derives one from the other: slurmrestd does not."""
    nodes, tasks, each = resources.nodes, resources.tasks, resources.tasks_per_node
    if nodes is not None:
        yield "nodes", str(nodes)
    elif tasks is not None and each and version.has_structures:
        yield "minimum_nodes", -(-tasks // each)
    if tasks is None and (nodes or each) and not version.has_structures:  # else 22.05 gives one CPU to all nodes
        yield "tasks", (nodes or 1) * (each or 1)


def _course(spec: JobSpec, version: ApiVersion) -> Iterator[tuple[str, Any]]:
    """The fields about when and how often the job runs."""
    if spec.time_limit is not None:
        yield "time_limit", _number(_minutes(spec.time_limit), version)
    if spec.hold:
        yield "hold", True
    elif spec.priority is not None:  # a priority would release a held job
        yield "priority", _priority(spec.priority, version)
    if spec.array is not None:
        most = "" if spec.array.max_running is None else f"%{spec.array.max_running}"
        yield "array", f"{check_line('array', spec.array.elements)}{most}"
    if spec.dependencies:
        yield "dependency", dependency_text(list(spec.dependencies))
    if spec.begin is not None:
        yield "begin_time", _time(check_time("begin", spec.begin), version)
    if spec.deadline is not None:
        deadline = check_time("deadline", spec.deadline)
        yield "deadline", deadline if version.has_structures else f"uts{deadline}"
    if spec.requeue is not None:
        if spec.requeue or version.has_structures:
            yield "requeue", spec.requeue
        else:  # Slurm 22.05 passes over `"requeue": false`, and knows the name of sbatch's option
            yield "no_requeue", True
    yield from _signal(spec, version)


def _signal(spec: JobSpec, version: ApiVersion) -> Iterator[tuple[str, Any]]:
    if spec.signal is not None:
        name = check_line("signal", spec.signal.name)
        if version.has_structures:
            yield "kill_warning_signal", name
            yield "kill_warning_delay", _number(spec.signal.before_end, version)
        else:
            yield "signal", f"{name}@{spec.signal.before_end}"


def _environment(spec: JobSpec, username: str, version: ApiVersion) -> Any:
    for name, value in spec.env.items():
        encode_text("env", value)
        if not _VARIABLE.fullmatch(name):
            raise invalid_field("env", f"{name[:80]!r} cannot be the name of a variable")
    own = {} if GET_USER_ENV in spec.env else {"PATH": _PATH, "USER": username, "LOGNAME": username}
    variables = {**own, **spec.env}
    return [f"{name}={value}" for name, value in variables.items()] if version.has_structures else variables


def _minutes(seconds: int) -> int:
    """A time limit in minutes, rounded up as Slurm does it."""
    return -(-seconds // _MINUTE)


def _number(value: int, version: ApiVersion) -> Any:
    return {"set": True, "infinite": False, "number": value} if version.has_structures else value


def _priority(value: int, version: ApiVersion) -> Any:
    return _number(value, version) if version.has_structures else str(value)


def _time(value: int, version: ApiVersion) -> Any:
    return _number(value, version) if version.has_structures else f"uts{value}"
