"""The caller's own options of sbatch (`native`): those that the gateway needs itself are refused. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flamecrest.server.schedulers.job_environment import check_line, invalid_field

if TYPE_CHECKING:
    from flamecrest.server.errors import Invalid

# Options that end sbatch without a job, change its output, its user, its environment or its script.
_RESERVED: Final = {
    "--wrap": "give `script`",
    "--chdir": "give `workingDirectory`",
    "--export": "give `env`",
    "--export-file": "give `env`",
    "--get-user-env": "give `env`",
    "--propagate": "",
    "--uid": "",
    "--gid": "",
    "--parsable": "",
    "--test-only": "use jobs/validate",
    "--wait": "",
    "--ignore-pbs": "",
    "--help": "",
    "--usage": "",
    "--version": "",
}
_SHORT: Final = {"D": "--chdir", "W": "--wait", "h": "--help", "u": "--usage", "V": "--version"}
# The option of each field: giving both is a contradiction.
_FIELDS: Final = {
    "name": ("--job-name", "J"), "account": ("--account", "A"), "partition": ("--partition", "p"),
    "reservation": ("--reservation", ""), "constraints": ("--constraint", "C"),
    "standardInput": ("--input", "i"), "standardOutput": ("--output", "o"), "standardError": ("--error", "e"),
    "timeLimit": ("--time", "t"), "qos": ("--qos", "q"), "priority": ("--priority", ""), "array": ("--array", "a"),
    "dependencies": ("--dependency", "d"), "hold": ("--hold", "H"), "begin": ("--begin", "b"),
    "deadline": ("--deadline", ""), "signal": ("--signal", ""), "comment": ("--comment", ""),
    "licenses": ("--licenses", "L"), "container": ("--container", ""), "resources.nodes": ("--nodes", "N"),
    "resources.tasks": ("--ntasks", "n"), "resources.tasksPerNode": ("--ntasks-per-node", ""),
    "resources.cpusPerTask": ("--cpus-per-task", "c"), "resources.memory": ("--mem", ""),
    "resources.memoryPerCpu": ("--mem-per-cpu", ""), "resources.gpus": ("--gpus", "G"),
    "resources.gpusPerNode": ("--gpus-per-node", ""), "resources.features": ("--constraint", "C"),
    "resources.exclusive": ("--exclusive", ""),
}  # fmt: skip
_WITH_VALUE: Final = frozenset("AabBCcdDeFGiJkLmMnNopqStwx")  # short options whose value follows in the same text


def check_native(option: str, given: frozenset[str]) -> str:
    """The option, if the caller may give it beside the fields `given`. Raises Invalid.

    sbatch accepts every unambiguous beginning of an option's name, so beginnings of reserved names are refused, too.
    """
    if not option.startswith("-") or option in {"-", "--"}:
        raise invalid_field("native", f"{option[:80]!r} is no option: write `--name=value`, each in one text")
    check_line("native", option)
    name = option.partition("=")[0]
    if name.startswith("--"):
        _check_long(name, given)
    else:
        _check_short(option[1:], given)
    return option


def _check_long(name: str, given: frozenset[str]) -> None:
    for reserved, instead in _RESERVED.items():
        if reserved.startswith(name):
            raise _refused(name, instead)
    for field, (option, _) in _FIELDS.items():
        if name == option and field in given:
            raise _contradiction(name, field)


def _check_short(letters: str, given: frozenset[str]) -> None:
    for letter in letters:
        if letter in _SHORT:
            raise _refused(f"-{letter}", _RESERVED[_SHORT[letter]])
        for field, (_, short) in _FIELDS.items():
            if letter == short and field in given:
                raise _contradiction(f"-{letter}", field)
        if letter in _WITH_VALUE:
            return


def _refused(option: str, instead: str) -> Invalid:
    return invalid_field("native", f"{option} is not allowed" + (f": {instead}" if instead else ""))


def _contradiction(option: str, field: str) -> Invalid:
    return invalid_field("native", f"{option} contradicts the field `{field}`: give one of them")
