"""The `#SBATCH` lines of a script as fields of a job: slurmrestd does not read them. No I/O.

The request wins over the lines, as with sbatch. A line that has no counterpart in slurmrestd is refused with its words:
the job would run otherwise than its author has written. https://slurm.schedmd.com/sbatch.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from flamecrest.server.schedulers.job_environment import invalid_field
from flamecrest.server.schedulers.script_head import directive_lines
from flamecrest.server.schedulers.values import ArrayRequest, JobSpec, Mail, MailEvent, WarningSignal

from .option_values import moment, seconds, size, typed_count
from .submission import GET_USER_ENV

if TYPE_CHECKING:
    from flamecrest.server.errors import Invalid

    from .versions import ApiVersion

_LINES: Final = "SBATCH|PBS|BSUB"
_MAX_LINES: Final = 64 * 1024  # characters of all options; reading them holds up other requests
_SPACE: Final = re.compile(r"\s*")
_WORD: Final = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+""")
_QUOTED: Final = re.compile(r"""\\(.)|"((?:[^"\\]|\\.)*)"|'([^']*)'""")
_ESCAPED: Final = re.compile(r"\\(.)")
_NUMBER: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_SIGNAL: Final = re.compile(r"([A-Za-z0-9]{1,16})(?:@([0-9]{1,5}))?", re.ASCII)
_SHORT: Final[Mapping[str, str]] = {
    "A": "account", "C": "constraint", "D": "chdir", "G": "gpus", "H": "hold", "J": "job-name", "L": "licenses",
    "N": "nodes", "Q": "quiet", "a": "array", "b": "begin", "c": "cpus-per-task", "d": "dependency", "e": "error",
    "i": "input", "n": "ntasks", "o": "output", "p": "partition", "q": "qos", "t": "time", "v": "verbose",
    "w": "nodelist", "x": "exclude",
}  # fmt: skip
_USER_ENV: Final = "get-user-env"
_USER_ENV_VALUE: Final = re.compile(r"[0-9]*[LS]?", re.ASCII)  # seconds, and which kind of login
_FLAGS: Final = frozenset({"hold", "quiet", "verbose", "parsable", "requeue", "no-requeue", "exclusive", _USER_ENV})
# what the gateway or the request decides in any case
_IGNORED: Final = frozenset({"quiet", "verbose", "parsable", "chdir"})
_TEXTS: Final[Mapping[str, str]] = {
    "job-name": "name", "account": "account", "partition": "partition", "reservation": "reservation",
    "input": "standard_input", "output": "standard_output", "error": "standard_error", "qos": "qos",
    "comment": "comment", "licenses": "licenses", "container": "container",
}  # fmt: skip
_COUNTS: Final[Mapping[str, str]] = {
    "ntasks": "tasks", "ntasks-per-node": "tasks_per_node", "tasks-per-node": "tasks_per_node",
    "cpus-per-task": "cpus_per_task",
}  # fmt: skip
# options without a field of a job: slurmrestd's name
_MORE: Final[Mapping[str, str]] = {
    "nodelist": "required_nodes", "exclude": "excluded_nodes", "wckey": "wckey", "threads-per-core": "threads_per_core",
    "ntasks-per-core": "tasks_per_core", "ntasks-per-socket": "tasks_per_socket", "dependency": "dependency",
}  # fmt: skip
_LISTS: Final = frozenset({"required_nodes", "excluded_nodes"})
_PLAIN: Final = frozenset({"wckey", "dependency"})
_RANGE: Final = re.compile(r"[0-9]{1,6}-[0-9]{1,6}", re.ASCII)
_EXPORTED: Final = frozenset({"ALL", "NONE", "NIL"})  # slurmrestd passes the variables of the request on, and no others
_MAIL: Final = {event.value: event for event in MailEvent}


def has_directives(script: str) -> bool:
    """Whether sbatch would read options from the script."""
    return any(True for _ in directive_lines(script, _LINES))


def with_directives(spec: JobSpec, now: float, version: ApiVersion) -> tuple[JobSpec, dict[str, Any]]:
    """The job with what its script asks for, and slurmrestd's fields for what a JobSpec does not have.

    `now` (seconds since the epoch) is for times such as `now+1hour`. Raises Invalid with the words of a line that
    slurmrestd cannot follow.
    """
    found: dict[str, str] = {}
    size = 0
    for kind, line in directive_lines(spec.script or "", _LINES):
        size += len(line) + 1
        if size > _MAX_LINES:
            raise invalid_field("script", f"has more than {_MAX_LINES} characters of `#SBATCH` lines")
        if kind != "SBATCH":
            raise _refused(f"#{kind} {line}")
        found |= _options(line)
    for name in _IGNORED:
        found.pop(name, None)
    more = dict(_more(found, version))
    if (value := found.pop(_USER_ENV, None)) is not None:
        if not _USER_ENV_VALUE.fullmatch(value):
            raise _refused(f"--{_USER_ENV}={value}")
        spec = replace(spec, env={GET_USER_ENV: "1", **spec.env})
    return _Merged(found, now).apply(spec), more


def _options(line: str) -> Iterator[tuple[str, str]]:
    """The options of a line by their long names; those without a value have an empty one."""
    words = iter(_words(line))
    for word in words:
        name, equals, value = word.partition("=")
        if word.startswith("--") and len(word) > 2:
            name = name[2:]
            if name not in _FLAGS and not equals:
                value = next(words, "")
        elif word.startswith("-") and len(word) > 1 and word[1] in _SHORT:
            name, value = _SHORT[word[1]], word[2:]
            if name in _FLAGS and value:  # several letters in one word
                raise _refused(f"#SBATCH {line}")
            if name not in _FLAGS and not value:
                value = next(words, "")
        else:
            raise _refused(f"#SBATCH {line}")
        if name not in _KNOWN or (name not in _FLAGS and not value):
            raise _refused(f"#SBATCH {line}")
        yield name, value


def _words(line: str) -> Iterator[str]:
    """The words as sbatch splits them: with quotes and backslashes; a word that begins with # begins a comment."""
    place = 0
    while (space := _SPACE.match(line, place)) is not None and (place := space.end()) < len(line):
        found = _WORD.match(line, place)
        if line[place] == "#":
            return
        if found is None or (found.end() < len(line) and not line[found.end()].isspace()):
            raise _refused(f"#SBATCH {line}")
        yield _QUOTED.sub(_unquoted, found[0])
        place = found.end()


def _unquoted(found: re.Match[str]) -> str:
    escaped, double, single = found.groups()
    return escaped or single or _ESCAPED.sub(r"\1", double or "")


def _more(found: dict[str, str], version: ApiVersion) -> Iterator[tuple[str, Any]]:
    for option, name in _MORE.items():
        if (value := found.pop(option, None)) is not None:
            if name in _LISTS:
                if not version.has_structures:
                    raise _refused(f"--{option}={value}")
                yield name, [value]
            else:
                yield name, value if name in _PLAIN else _count(option, value)
    if _RANGE.fullmatch(found.get("nodes", "")):
        yield "nodes", found.pop("nodes")
    if (exported := found.pop("export", "ALL")).upper() not in _EXPORTED:
        raise _refused(f"--export={exported}")


class _Merged:
    """The options of a script, and how they fill the fields that the request leaves open."""

    def __init__(self, found: dict[str, str], now: float) -> None:
        self._found = found
        self._now = now

    def apply(self, spec: JobSpec) -> JobSpec:
        """The job with both."""
        asked = dict(self._fields())
        resources = dict(self._resources())
        if spec.constraints or spec.resources.features:
            asked.pop("constraints", None)
        if spec.requeue is not None:
            asked.pop("requeue", None)
        if spec.resources.gpus is not None or spec.resources.gpus_per_node is not None:
            resources = {name: value for name, value in resources.items() if not name.startswith("gpu")}
        if spec.resources.memory is not None or spec.resources.memory_per_cpu is not None:
            resources = {name: value for name, value in resources.items() if not name.startswith("memory")}
        open_fields = {name: value for name, value in asked.items() if getattr(spec, name) in (None, ())}
        needs = {name: value for name, value in resources.items() if getattr(spec.resources, name) is None}
        return replace(spec, resources=replace(spec.resources, **needs), **open_fields)

    def _fields(self) -> Iterator[tuple[str, Any]]:
        for option, value in self._found.items():
            if option in _TEXTS:
                yield _TEXTS[option], value
            elif option in _FIELDS:
                yield _FIELDS[option], self._value(option, value)
        if (kinds := self._found.get("mail-type")) is not None and kinds.upper() != "NONE":
            events = [_MAIL.get(kind.strip().lower()) for kind in kinds.split(",")]
            if None in events:
                raise _refused(f"--mail-type={kinds}")
            yield "mail", Mail(tuple(one for one in events if one is not None), self._found.get("mail-user"))

    def _value(self, option: str, value: str) -> Any:
        parsed: Any = None
        match option:
            case "time":
                parsed = seconds(value)
            case "hold" | "requeue" | "no-requeue":
                parsed = None if value else option != "no-requeue"
            case "priority":
                parsed = int(value) if _NUMBER.fullmatch(value) else None
            case "constraint":
                parsed = value
            case "begin" | "deadline":
                parsed = moment(value, self._now)
            case "signal":
                found = _SIGNAL.fullmatch(value)
                parsed = (
                    None if found is None else WarningSignal(found[1].upper().removeprefix("SIG"), int(found[2] or 60))
                )
            case "array":
                elements, percent, most = value.partition("%")
                if not percent or _NUMBER.fullmatch(most):
                    parsed = ArrayRequest(elements, int(most) if percent else None)
        if parsed is None:
            raise _refused(f"--{option}={value}" if value else f"--{option}")
        return parsed

    def _resources(self) -> Iterator[tuple[str, Any]]:
        for option, value in self._found.items():
            if option in _COUNTS:
                yield _COUNTS[option], _count(option, value)
            elif option == "nodes":
                yield "nodes", _count(option, value)
            elif option in {"mem", "mem-per-cpu"}:
                if (found := size(value)) is None:
                    raise _refused(f"--{option}={value}")
                yield ("memory" if option == "mem" else "memory_per_cpu"), found
            elif option in {"gpus", "gpus-per-node", "gres"}:
                yield from _gpus(option, value)
            elif option == "exclusive":
                if value:  # of one user's jobs only, and so on
                    raise _refused(f"--exclusive={value}")
                yield "exclusive", True


def _gpus(option: str, value: str) -> Iterator[tuple[str, Any]]:
    found = typed_count(value.removeprefix("gpu:") if option == "gres" else value)
    if found is None or (option == "gres" and not value.startswith("gpu:")):
        raise _refused(f"--{option}={value}")
    kind, number = found
    yield ("gpus" if option == "gpus" else "gpus_per_node"), number
    if kind:
        yield "gpu_type", kind


def _count(option: str, value: str) -> int:
    if not _NUMBER.fullmatch(value):
        raise _refused(f"--{option}={value}")
    return int(value)


def _refused(words: str) -> Invalid:
    shown = words if words.startswith("#") else f"#SBATCH {words}"
    message = f"slurmrestd does not read the lines of scripts, and there is no field for this one: {shown[:200]}"
    return invalid_field("script", message)


_FIELDS: Final[Mapping[str, str]] = {
    "time": "time_limit", "hold": "hold", "requeue": "requeue", "no-requeue": "requeue", "priority": "priority",
    "constraint": "constraints", "begin": "begin", "deadline": "deadline", "signal": "signal", "array": "array",
}  # fmt: skip
_KNOWN: Final = frozenset({
    *_IGNORED, *_FLAGS, *_TEXTS, *_COUNTS, *_MORE, *_FIELDS, "nodes", "mem", "mem-per-cpu", "gpus", "gpus-per-node",
    "gres", "mail-type", "mail-user", "export",
})  # fmt: skip
