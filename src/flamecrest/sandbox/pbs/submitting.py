"""Toy qsub."""

# ruff: noqa: PTH109, PTH118, PTH119
from __future__ import annotations

import getopt
import os
import re
import shlex
import sys
import time

from .runner import start_all
from .store import QUEUES, SERVER, RefusedError, State, ctime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_OPTIONS = "a:A:c:C:e:fhIj:J:k:l:m:M:N:o:p:P:q:r:R:S:u:v:VW:XzZ"
_NAME = re.compile(r"[A-Za-z0-9_.+-]{1,230}")
_MAX_ARRAY = 10_000  # elements
_ARRAY = re.compile(r"(\d+)-(\d+)(?::(\d+))?(?:%(\d+))?")
_KNOWN = ("ncpus", "nodect", "nodes", "mem", "vmem", "ngpus", "walltime", "cput", "select", "place", "mpiprocs", "host")


def main(folder: str, words: Sequence[str]) -> int:
    given, rest = getopt.getopt(list(words), _OPTIONS)
    if len(rest) > 1:
        raise RefusedError("usage: qsub [-a date_time] [-A account_string]", 2)
    script = _read(rest)
    if "\r\n" in script:
        raise RefusedError("script contains cr, lf", 1)
    options = [*_directives(script), *given]
    values = dict(options)
    attributes = _attributes(values, _resources(options), os.path.basename(rest[0]) if rest else "STDIN")
    attributes |= {"Submit_arguments": shlex.join(words), "_script": script}
    with State(folder) as state:
        state.last += 1
        job_id = _add(state, attributes, values)
    start_all(folder)
    if "-z" not in values:
        sys.stdout.write(f"{job_id}\n")
    return 0


def _read(rest: Sequence[str]) -> str:
    if not rest:
        return sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
    try:
        with open(rest[0], encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123
            return file.read()
    except OSError as error:
        raise RefusedError(f"script file:: {error.strerror}", 1) from None


def _directives(script: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for line in script.splitlines():
        if line.startswith("#PBS"):
            try:
                found += getopt.getopt(shlex.split(line[4:]), _OPTIONS)[0]
            except getopt.GetoptError:
                raise RefusedError(f"directive error: {line[4:].strip()} ", 1) from None
        elif line.strip() and not line.startswith("#"):
            break
    return found


def _resources(options: Sequence[tuple[str, str]]) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    for option, value in options:
        for name, _, given in (part.partition("=") for part in value.split(",")) if option == "-l" else ():
            if name not in _KNOWN:
                raise RefusedError(f"Unknown resource Resource_List.{name}", 187)
            wanted[name] = int(given) if given.isdigit() and name != "walltime" else given
    if "ncpus" in wanted and "select" in wanted:
        raise RefusedError('"-lresource=" cannot be used with "select" or "place", resource is: ncpus', 5)
    select = re.match(r"(\d+)(?::|$)", str(wanted.get("select", "1")))
    if select is None or select[1] == "0":
        raise RefusedError("Illegal attribute or resource value Resource_List.select", 166)
    cpus = re.search(r"ncpus=(\d+)", str(wanted.get("select", "")))
    chunks = int(select[1])
    wanted.setdefault("ncpus", chunks * int(cpus[1]) if cpus else 1)
    for name, unit in (("mem", "mb"), ("ngpus", "")):
        if amount := re.search(rf"{name}=(\d+){unit}", str(wanted.get("select", ""))):
            wanted[name] = f"{chunks * int(amount[1])}{unit}" if unit else chunks * int(amount[1])
    return {
        **wanted,
        "nodect": chunks,
        "place": wanted.get("place", "free"),
        "select": wanted.get("select", "1:ncpus=1"),
    }


def _attributes(values: dict[str, str], wanted: dict[str, Any], name: str) -> dict[str, Any]:
    name, queue, now = values.get("-N", name), values.get("-q", "workq"), time.time()
    if not _NAME.fullmatch(name):
        raise RefusedError("illegal -N value\nusage: qsub [-a date_time] [-A account_string]", 2)
    if queue not in QUEUES:
        raise RefusedError("Unknown queue", 170)
    if QUEUES[queue][0] != "True":
        raise RefusedError("Queue is not enabled", 173)
    if not -1024 <= int(values.get("-p", "0")) <= 1023:
        raise RefusedError("illegal -p value\nusage: qsub [-a date_time] [-A account_string]", 2)
    user = os.environ.get("USER", "")
    variables = {
        "PBS_O_HOME": os.environ.get("HOME", "/"),
        "PBS_O_LOGNAME": user,
        "PBS_O_WORKDIR": os.getcwd(),
        "PBS_O_QUEUE": queue,
    }
    variables |= dict(part.split("=", 1) for part in values.get("-v", "").split(",") if "=" in part)
    seconds = _limit(wanted)
    attributes: dict[str, Any] = {
        "Job_Name": name, "Job_Owner": f"{user}@{SERVER}", "job_state": "Q", "queue": queue, "server": SERVER,
        "Checkpoint": "u", "ctime": ctime(now), "Hold_Types": "u" if "-h" in values else "n",
        "Join_Path": values.get("-j", "n"), "Keep_Files": values.get("-k", "n"), "mtime": ctime(now),
        "Priority": int(values.get("-p", "0")), "qtime": ctime(now), "Rerunable": str(values.get("-r", "y") == "y"),
        "Resource_List": wanted, "substate": 10, "Variable_List": variables, "project": "_pbs_project_default",
        "Submit_Host": SERVER, "_limit": seconds or 10**9,
    }  # fmt: skip
    if "-A" in values:
        attributes["Account_Name"] = values["-A"]
    if attributes["Hold_Types"] == "u":
        attributes |= {"job_state": "H", "substate": 20}
    if "-a" in values:
        begin = time.mktime(time.strptime(values["-a"], "%Y%m%d%H%M.%S"))
        attributes |= {"Execution_Time": ctime(begin), "_begin": begin}
        if begin > now:
            attributes |= {"job_state": "W", "substate": 30}
    _depend(attributes, values.get("-W", ""))
    return attributes


def _limit(wanted: dict[str, Any]) -> int:
    """The walltime in seconds, which is then printed as hours, minutes and seconds; 0 if there is none."""
    if "walltime" not in wanted:
        return 0
    parts = str(wanted["walltime"]).split(":")
    if len(parts) > 3 or not all(part.isdigit() for part in parts):
        raise RefusedError("Illegal attribute or resource value Resource_List.walltime", 166)
    seconds: int = sum(int(part) * 60**power for power, part in enumerate(reversed(parts)))
    wanted["walltime"] = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return seconds


def _depend(attributes: dict[str, Any], option: str) -> None:
    """Add the dependencies of `-W depend=`."""
    if not option.startswith("depend="):
        attributes["_depend"] = []
        return
    attributes["depend"] = option.removeprefix("depend=")
    parts = [part.split(":") for part in attributes["depend"].split(",")]
    attributes["_depend"] = [(kind, one if "." in one else f"{one}.{SERVER}") for kind, *ids in parts for one in ids]


def _add(state: State, attributes: dict[str, Any], values: dict[str, str]) -> str:
    def paths(number: str) -> dict[str, str]:
        def path(option: str, kind: str) -> str:
            given = values.get(option, f"{attributes['Job_Name']}.{kind}{number}")
            return f"{SERVER}:{os.path.join(os.getcwd(), given)}"

        return {"Output_Path": path("-o", "o"), "Error_Path": path("-e", "e")}

    if "-J" not in values:
        job_id = f"{state.last}.{SERVER}"
        state.jobs[job_id] = attributes | paths(str(state.last))
        return job_id
    found = _ARRAY.fullmatch(values["-J"])
    if found is None or int(found[1]) >= int(found[2]):
        raise RefusedError("illegal -J value\nusage: qsub [-a date_time] [-A account_string]", 2)
    if found[2] and int(found[2]) - int(found[1]) >= _MAX_ARRAY * int(found[3] or 1):
        raise RefusedError("Array job exceeds server or queue size limit", 82)
    array = f"{state.last}[].{SERVER}"
    indices = range(int(found[1]), int(found[2]) + 1, int(found[3] or 1))
    state.jobs[array] = (
        attributes | paths(f"{state.last}.^array_index^") | {"array": "True", "array_indices_submitted": values["-J"]}
    )
    for index in indices:
        element = {"array_id": array, "array_index": index}
        state.jobs[f"{state.last}[{index}].{SERVER}"] = attributes | paths(f"{state.last}.{index}") | element
    return array
