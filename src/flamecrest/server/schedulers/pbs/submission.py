"""Submission by qsub: options and script from a JobSpec, and the id in its output. No I/O.

PBS starts a job in the home directory, and its option for variables cannot pass on every value and shows them to other
users. So the script itself gets the lines that set the variables and change the directory, behind its directives.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from flamecrest.server.errors import Invalid
from flamecrest.server.schedulers.capabilities import Capabilities, Operation, given_fields, sent_fields
from flamecrest.server.schedulers.job_environment import (
    check_absolute_path,
    check_environment,
    check_line,
    dependency_id,
    encode_text,
    invalid_field,
)
from flamecrest.server.schedulers.job_errors import DoubtfulAnswer
from flamecrest.server.schedulers.script_head import split_head
from flamecrest.server.schedulers.values import Dependency, DependencyKind, JobSpec, MailEvent, Resources
from flamecrest.server.ssh.command import RUNNING, Command, Output

from . import errors
from .ids import PbsJobId
from .jobs import MARKER
from .native import check_native

CAPABILITIES: Final = Capabilities(
    fields=frozenset(
        {
            "name", "account", "partition", "reservation", "standardOutput", "standardError", "timeLimit", "priority",
            "array", "dependencies", "hold", "begin", "requeue", "mail", "native",
            "resources.nodes", "resources.tasks", "resources.tasksPerNode", "resources.cpusPerTask",
            "resources.memory", "resources.memoryPerCpu", "resources.gpus", "resources.gpusPerNode",
            "resources.exclusive",
        }
    ),
    changes=frozenset({"name", "account", "priority", "timeLimit", "begin", "dependencies"}),
    operations=frozenset(Operation) - {Operation.ATTACH, Operation.CHECK, Operation.ACCOUNTS},
)  # fmt: skip

UTC_TIME: Final = {"TZ": "UTC"}  # the programs of PBS read and print times in their own time zone

_IN_FOLDER: Final = 'cd "$1" && shift && exec "$@"'
_ARRAY: Final = re.compile(r"([0-9]{1,9})-([0-9]{1,9})(?::[1-9][0-9]{0,8})?", re.ASCII)
_VARIABLES: Final = re.compile(r"^(#PBS\b[^\n]*?\s-v[ \t]*[\"']?)", re.MULTILINE)
_SHELL: Final = re.compile(r"#![ \t]*(?:\S*/)?(?:env[ \t]+)?(?:ba|da|k|mk|z|a)?sh(?:[ \t]|$)")
_MARKER: Final = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_NO_NAME: Final = re.compile(r"[^\w.+-]", re.ASCII)
_MAX_NAME: Final = 230  # characters
_MAIL: Final = {MailEvent.BEGIN: "b", MailEvent.END: "e", MailEvent.FAIL: "a", MailEvent.ALL: "abe"}


def submit(folder: str, spec: JobSpec) -> Command[str]:
    """The command that submits the job. `folder` is that of the programs, with a slash, or empty. Raises Invalid."""
    if spec.script is None:
        raise invalid_field("script", "is missing")
    working_directory = check_absolute_path("workingDirectory", check_line("workingDirectory", spec.working_directory))
    command = [f"{folder}qsub", "-f", *_options(spec)]
    check_environment(spec.env)
    script = encode_text("script", complete_script(spec))
    argv = ("sh", "-c", _IN_FOLDER, "sh", working_directory, *command)
    # `#PBS -W block=true`: qsub stays until the job has ended
    return Command(argv, partial(_parse_job_id, spec), stdin=script, env=UTC_TIME, is_enough=_has_job_id)


def complete_script(spec: JobSpec) -> str:
    """The script with the lines that set its variables and its directory, behind its directives.

    A script of another language than the shell's is written to a file by a shell script, which runs it.
    """
    script = spec.script or ""
    if "\r\n" in script:
        raise invalid_field("script", "PBS takes no script with the line ends of Windows (CR LF)")
    head, body = split_head(script)
    if spec.marker is not None and _has_directive(script, "v"):
        head = _VARIABLES.sub(rf"\g<1>{MARKER}={_checked_marker(spec.marker)},", head, count=1)
    if head and not head.endswith("\n"):
        head += "\n"
    set_up = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in spec.env.items())
    set_up += f"cd {shlex.quote(spec.working_directory)} || exit\n"
    first, newline, directives = head.partition("\n")
    if not script.startswith("#!") or _SHELL.match(first + newline):
        return head + set_up + body
    end = f"FLAMECREST_{secrets.token_hex(8)}"
    return (
        f"#!/bin/sh\n{directives}{set_up}"
        'flamecrest_script=$(mktemp "${TMPDIR:-/tmp}/flamecrest-XXXXXXXX") || exit\n'
        f"cat > \"$flamecrest_script\" <<'{end}'\n{script}{'' if script.endswith(chr(10)) else chr(10)}{end}\n"
        'chmod 700 "$flamecrest_script" || exit\n'
        '"$flamecrest_script"\nflamecrest_status=$?\nrm -f "$flamecrest_script"\nexit "$flamecrest_status"\n'
    )


def dependency_text(dependencies: tuple[Dependency, ...] | list[Dependency]) -> str:
    """The value of `-W depend=`. Raises Invalid for what PBS cannot wait for."""
    if not dependencies:
        raise invalid_field("dependencies", "pbs cannot remove the dependencies of a job")
    if any(one.kind is DependencyKind.SINGLETON for one in dependencies):
        raise invalid_field("dependencies", "pbs has no dependency `singleton`")
    return ",".join(":".join((one.kind.value, *map(_dependency_id, one.job_ids))) for one in dependencies)


def _dependency_id(text: str) -> str:
    return str(dependency_id(text, PbsJobId.parse))


def duration_text(seconds: int) -> str:
    """A time limit as hours, minutes and seconds."""
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def time_text(epoch: int) -> str:
    """A moment as `-a` takes it, in UTC."""
    try:
        return datetime.fromtimestamp(epoch, UTC).strftime("%Y%m%d%H%M.%S")
    except (OverflowError, ValueError, OSError):
        raise invalid_field("begin", "is no time that PBS can represent") from None


def _options(spec: JobSpec) -> Iterator[str]:
    """The options in pairs of a letter and a value."""
    if spec.partition is not None and spec.reservation is not None:
        raise invalid_field("reservation", "a reservation of PBS has a queue of its own: give no partition with it")
    words = (
        ("-N", "name", spec.name or _script_name(spec)),
        ("-A", "account", spec.account),
        ("-q", "partition", spec.partition or spec.reservation),
        ("-o", "standardOutput", spec.standard_output),
        ("-e", "standardError", spec.standard_error),
    )
    for option, field, value in words:
        if value:
            yield from (option, check_line(field, value))
    yield from _course(spec)
    yield from _resources(spec.resources)
    if spec.time_limit is not None:
        yield from ("-l", f"walltime={duration_text(spec.time_limit)}")
    if spec.marker is not None and not _has_directive(spec.script or "", "v"):
        yield from ("-v", f"{MARKER}={_checked_marker(spec.marker)}")
    if not _has_directive(spec.script or "", "k"):
        yield from ("-k", "oed")  # output is written where it belongs at once, not after the end
    given = frozenset(given_fields(spec)) if spec.native else frozenset()
    yield from (check_native(option, given) for option in spec.native)


def _course(spec: JobSpec) -> Iterator[str]:
    """The options about when and how often the job runs, and about mails."""
    if spec.priority is not None:
        yield from ("-p", str(spec.priority))
    if spec.array is not None:
        yield from ("-J", _array(spec))
    if spec.dependencies:
        yield from ("-W", f"depend={dependency_text(list(spec.dependencies))}")
    if spec.hold:
        yield "-h"
    if spec.begin is not None:
        yield from ("-a", time_text(spec.begin))
    if spec.requeue is not None:
        yield from ("-r", "y" if spec.requeue else "n")
    if spec.mail is not None:
        if MailEvent.REQUEUE in spec.mail.events:
            raise invalid_field("mail.events", "pbs sends no mail about `requeue`")
        yield from ("-m", "".join(sorted({letter for event in spec.mail.events for letter in _MAIL[event]})) or "n")
        if spec.mail.address is not None:
            yield from ("-M", check_line("mail.address", spec.mail.address))


def _array(spec: JobSpec) -> str:
    array = spec.array
    if array is None or (found := _ARRAY.fullmatch(array.elements)) is None or int(found[1]) >= int(found[2]):
        raise invalid_field("array", "pbs has only arrays of one range with two or more elements: `0-15`, `1-9:4`")
    return array.elements + ("" if array.max_running is None else f"%{array.max_running}")


def _resources(wanted: Resources) -> Iterator[str]:
    """`-l select=` with chunks that are all alike, and `-l place=`."""
    if wanted == replace(Resources(), exclusive=wanted.exclusive):
        if wanted.exclusive:
            yield from ("-l", "place=excl")
        return
    chunks, tasks = _chunks(wanted)
    cpus = tasks * (wanted.cpus_per_task or 1)
    chunk = [f"ncpus={cpus}"]
    if tasks > 1 or wanted.tasks is not None:
        chunk.append(f"mpiprocs={tasks}")
    if wanted.memory is not None and wanted.memory_per_cpu is not None:
        raise invalid_field("resources.memory", "give only one of memory and memoryPerCpu")
    memory = wanted.memory if wanted.memory_per_cpu is None else wanted.memory_per_cpu * cpus
    if memory is not None:
        chunk.append(f"mem={memory}mb")
    if (gpus := _gpus(wanted, chunks)) is not None:
        chunk.append(f"ngpus={gpus}")
    yield from ("-l", f"select={chunks}:{':'.join(chunk)}")
    place = "scatter" if chunks > 1 and (wanted.nodes or wanted.tasks_per_node) else ""
    places = [word for word in (place, "excl" if wanted.exclusive else "") if word]
    if places:
        yield from ("-l", f"place={':'.join(places)}")


def _chunks(wanted: Resources) -> tuple[int, int]:
    """The number of chunks, one per node, and the tasks in each. Without nodes each task is a chunk."""
    if wanted.nodes is None and wanted.tasks_per_node is None:
        if wanted.memory is not None and (wanted.tasks or 1) > 1:
            raise invalid_field("resources.memory", "is per node, so pbs needs nodes or tasksPerNode with it")
        return wanted.tasks or 1, 1
    tasks = wanted.tasks
    if wanted.nodes is None:
        per_node = wanted.tasks_per_node or 1
        nodes = 1 if tasks is None else -(-tasks // per_node)
    else:
        nodes = wanted.nodes
        per_node = wanted.tasks_per_node or (1 if tasks is None else -(-tasks // nodes))
    if tasks is not None and nodes * per_node != tasks:
        raise invalid_field("resources.tasks", f"pbs gives each node the same number of tasks: {nodes * per_node}")
    return nodes, per_node


def _gpus(wanted: Resources, chunks: int) -> int | None:
    if wanted.gpus is None:
        return wanted.gpus_per_node
    if wanted.gpus % chunks or wanted.gpus_per_node not in (None, wanted.gpus // chunks):
        raise invalid_field("resources.gpus", "pbs gives each node the same number of GPUs")
    return wanted.gpus // chunks


def _script_name(spec: JobSpec) -> str | None:
    """The name that qsub would give to a job whose script is a file, with the characters that PBS takes."""
    named = _has_directive(spec.script or "", "N") or any(option.startswith("-N") for option in spec.native)
    return None if named or not spec.script_name else _NO_NAME.sub("_", spec.script_name)[:_MAX_NAME]


def _has_directive(script: str, option: str) -> bool:
    """Whether a directive has the option. qsub reads none behind the first command."""
    head, _ = split_head(script)
    return re.search(rf"^#PBS\b.*\s-{option}", head, re.MULTILINE) is not None


def _checked_marker(marker: str) -> str:
    if not _MARKER.fullmatch(marker):
        raise Invalid("The marker of a job has other characters than letters, digits, `_` and `-`")
    return marker


def _parse_job_id(spec: JobSpec, output: Output) -> str:
    """The id that qsub prints alone on a line. Raises DoubtfulAnswer if qsub has succeeded without one: `#PBS -z`."""
    if (found := _printed_id(output)) is not None:
        return found
    error = errors.submit_error(output, sent_fields(spec))
    raise DoubtfulAnswer(error) if output.status == 0 and spec.marker is not None else error


def _printed_id(output: Output) -> str | None:
    complete = output.stdout.rfind(b"\n") + 1 if output.status == RUNNING else len(output.stdout)
    for line in reversed(output.stdout[:complete].decode("utf-8", "replace").splitlines()):
        if "." in line and (found := PbsJobId.printed(line.strip())) is not None:
            return str(found)
    return None


def _has_job_id(output: Output) -> bool:
    return _printed_id(output) is not None
