"""What a job may ask the local scheduler for, and the fields of a submission. No I/O."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Final

from flamecrest.server.schedulers.array_elements import ArrayElements
from flamecrest.server.schedulers.capabilities import JOB_FIELDS, Capabilities, Operation
from flamecrest.server.schedulers.job_environment import (
    check_absolute_path,
    check_line,
    check_signal,
    dependency_id,
    encode_text,
    invalid_field,
)
from flamecrest.server.schedulers.values import Dependency, DependencyKind, JobChange, JobSpec, Resources

from .ids import LocalJobId

PARTITION: Final = "local"  # the only one
DEFAULT_NAME: Final = "job"

CAPABILITIES: Final = Capabilities(
    fields=JOB_FIELDS
    - {"account", "reservation", "constraints", "qos", "deadline", "mail", "licenses", "container", "native"}
    - {"resources.gpus", "resources.gpusPerNode", "resources.gpuType", "resources.features"},
    changes=frozenset({"name", "priority", "timeLimit", "begin", "dependencies", "comment"}),
    operations=frozenset(Operation) - {Operation.RESERVATIONS, Operation.ACCOUNTS},
)

_MAX_ELEMENTS: Final = 100_000


def job_fields(spec: JobSpec) -> dict[str, str | int | None]:
    """The fields of the submission. Raises Invalid for what can never work."""
    if (spec.script is None) == (spec.script_path is None):
        raise invalid_field("script", "give exactly one of script and scriptPath")
    if spec.partition not in (None, PARTITION):
        raise invalid_field("partition", f"Unknown partition. The only one is `{PARTITION}`")
    return {
        "dir": check_absolute_path("workingDirectory", _path("workingDirectory", spec.working_directory)),
        "path": None if spec.script_path is None else _script_path(spec.script_path),
        "name": check_line("name", spec.name) if spec.name else _script_name(spec),
        "in": _optional_path("standardInput", spec.standard_input),
        "out": _optional_path("standardOutput", spec.standard_output),
        "err": _optional_path("standardError", spec.standard_error),
        "limit": spec.time_limit,
        "prio": spec.priority,
        "hold": 1 if spec.hold else None,
        "begin": spec.begin,
        "requeue": 1 if spec.requeue else None,
        "comment": None if spec.comment is None else check_line("comment", spec.comment),
        "marker": spec.marker,
        "deps": dependency_text(spec.dependencies) or None,
        **_array(spec),
        **_warning(spec),
        **_resources(spec.resources),
    }


def change_fields(change: JobChange) -> dict[str, str | int | None]:
    """The fields of a change. Empty dependencies are an empty text."""
    return {
        "name": None if change.name is None else check_line("name", change.name),
        "prio": change.priority,
        "limit": change.time_limit,
        "begin": change.begin,
        "deps": None if change.dependencies is None else dependency_text(change.dependencies),
        "comment": None if change.comment is None else check_line("comment", change.comment),
    }


def dependency_text(dependencies: Sequence[Dependency]) -> str:
    """`afterok:1:2_3,singleton`. Raises Invalid."""
    parts = []
    for one in dependencies:
        ids = [dependency_id(job_id, LocalJobId.parse) for job_id in one.job_ids]
        if any(job.elements is not None and len(job.elements) != 1 for job in ids):
            raise invalid_field("dependencies", "name a job, or one element of an array")
        if (one.kind is DependencyKind.SINGLETON) == bool(ids):
            raise invalid_field("dependencies", "all kinds but `singleton` name jobs")
        parts.append(":".join((one.kind.value, *map(str, ids))))
    return ",".join(parts)


def _array(spec: JobSpec) -> dict[str, str | int | None]:
    if spec.array is None:
        return {}
    try:
        elements = ArrayElements.parse(spec.array.elements)
    except ValueError as error:
        raise invalid_field("array", str(error)) from None
    if not 0 < len(elements) <= _MAX_ELEMENTS:
        raise invalid_field("array", f"must have at most {_MAX_ELEMENTS} elements")
    return {"array": str(elements), "max": spec.array.max_running}


def _warning(spec: JobSpec) -> dict[str, str | int | None]:
    if spec.signal is None:
        return {}
    return {"warn": check_signal(spec.signal.name), "before": spec.signal.before_end}


def _resources(wanted: Resources) -> dict[str, str | int | None]:
    if wanted.nodes not in (None, 1):
        raise invalid_field("resources.nodes", "The local scheduler has one node")
    if wanted.memory is not None and wanted.memory_per_cpu is not None:
        raise invalid_field("resources.memory", "give only one of memory and memoryPerCpu")
    tasks, each = wanted.tasks or wanted.tasks_per_node or 1, wanted.cpus_per_task or 1
    return {
        "tasks": wanted.tasks or wanted.tasks_per_node,
        "threads": wanted.cpus_per_task,
        "cpus": tasks * each,
        "mem": wanted.memory,
        "cpumem": wanted.memory_per_cpu,
        "exclusive": 1 if wanted.exclusive else None,
    }


def _script_name(spec: JobSpec) -> str:
    """The name of the script's file, as with sbatch, or that of all other jobs without a name."""
    name = posixpath.basename(spec.script_path or "")
    return name if name and name.isprintable() else DEFAULT_NAME


def _script_path(path: str) -> str:
    return check_absolute_path("scriptPath", _path("scriptPath", path))


def _optional_path(field: str, path: str | None) -> str | None:
    return _path(field, path) if path else None


def _path(field: str, path: str) -> str:
    encode_text(field, path.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
    return path
