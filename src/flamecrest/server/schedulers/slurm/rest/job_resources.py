"""What a job may use, has used, and writes to, in slurmrestd's answers. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from flamecrest.server.schedulers.once.marked_paths import NULL, without_marker
from flamecrest.server.schedulers.slurm.file_patterns import JobFiles
from flamecrest.server.schedulers.slurm.tres import JobResources, parse_tres
from flamecrest.server.schedulers.values import JobUsage

from .fields import items, mapping, number, text

_Row = Mapping[str, Any]
_MEBIBYTE: Final = 1024 * 1024
_MICROSECONDS: Final = 1_000_000
_NO_ELEMENT: Final = "4294967294"  # Slurm's number for %a in the paths of a job that is no array
_GIVEN: Final = {"stdin": "standard_input", "stdout": "standard_output", "stderr": "standard_error"}


class JobPaths(NamedTuple):
    """Absolute paths of a job's files; None if they are not known."""

    standard_input: str | None = None
    standard_output: str | None = None
    standard_error: str | None = None


def live_resources(row: _Row) -> JobResources:
    """What the controller has allocated to a job; what the job has asked for as long as it waits."""
    found = parse_tres(text(row.get("tres_alloc_str")) or text(row.get("tres_req_str")))
    return found if found.cpus is not None else found._replace(cpus=number(row.get("cpus")))


def recorded_resources(row: _Row) -> JobResources:
    """The same by the accounting."""
    tres = mapping(row.get("tres"))
    entries = items(tres.get("allocated")) or items(tres.get("requested"))
    cpus, memory = (_amount(entries, kind) for kind in ("cpu", "mem"))
    gpus = {text(one.get("name")): number(one.get("count")) or 0 for one in entries if one.get("type") == "gres"}
    typed = sum(count for name, count in gpus.items() if name.startswith("gpu:"))
    return JobResources(cpus, memory, gpus.get("gpu") or typed or None)


def usage(row: _Row) -> JobUsage | None:
    """What an ended job has used by the accounting: the CPU time of its steps, and the memory of their largest task."""
    steps = items(row.get("steps"))
    if not steps:
        return None
    memory = [size for step in steps if (size := _largest_task(step)) is not None]
    return JobUsage(sum(map(_cpu_seconds, steps)), max(memory) // _MEBIBYTE if memory else None)


def live_paths(row: _Row, *, whole_array: bool, element: int | None = None) -> JobPaths:
    """The files of a job of the controller.

    `whole_array`: the patterns of element and number stay, but for the one of `element`, if that is given.
    """
    base = number(row.get("array_job_id")) or number(row.get("job_id")) or 0
    values = {"A": str(base), "n": "0", "s": "batch", "t": "0", "u": text(row.get("user_name"))}
    values["x"] = text(row.get("name"))
    if not whole_array:
        own = str(number(row.get("job_id")) or base)
        own_element = number(row.get("array_task_id"))
        values |= {"j": own, "J": own, "a": _NO_ELEMENT if own_element is None else str(own_element)}
    elif element is not None:
        values["a"] = str(element)
    folder = without_marker(text(row.get("current_working_directory")))

    def path(kind: str) -> str | None:
        expanded = "" if whole_array else text(row.get(f"{kind}_expanded"))
        given = text(row.get(_GIVEN[kind]))
        given = given.replace(_NO_ELEMENT, "%a") if whole_array else given
        return _absolute(expanded or JobFiles(values, values["x"], expanded=False).path(given), folder)

    output = path("stdout")
    if output is None and folder:
        name = "slurm-%A_%a.out" if base != number(row.get("job_id")) or whole_array else "slurm-%j.out"
        output = _absolute(JobFiles(values, values["x"], expanded=False).path(name), folder)
    return JobPaths(path("stdin") or NULL, output, path("stderr") or output)


def recorded_paths(row: _Row) -> JobPaths:
    """The files of a job by the accounting, which knows them from v0.0.42 on."""
    folder = without_marker(text(row.get("working_directory")))
    found = [_absolute(text(row.get(f"{kind}_expanded")), folder) for kind in ("stdin", "stdout", "stderr")]
    return JobPaths(found[0], found[1], found[2] or found[1])


def _absolute(path: str, folder: str) -> str | None:
    if not path or path.startswith("/"):
        return without_marker(path) or None
    return f"{folder.rstrip('/')}/{path}" if folder else None


def _amount(entries: Iterable[_Row], kind: str) -> int | None:
    return next((number(one.get("count")) for one in entries if one.get("type") == kind), None)


def _largest_task(step: _Row) -> int | None:
    """Bytes. The accounting calls what a step has used `requested`."""
    used: Sequence[_Row] = items(mapping(mapping(step.get("tres")).get("requested")).get("max"))
    return _amount(used, "mem")


def _cpu_seconds(step: _Row) -> float:
    total = mapping(mapping(step.get("time")).get("total"))
    return (number(total.get("seconds")) or 0) + (number(total.get("microseconds")) or 0) / _MICROSECONDS
