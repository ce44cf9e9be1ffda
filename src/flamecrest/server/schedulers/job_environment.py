"""What all dialects share about a submission: checks of fields, and environment and script over standard input.

A bash loader exports the variables and then executes the submission program, which reads the script from the rest of
the input (ADR 0006).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from flamecrest.server.errors import Field, Invalid
from flamecrest.server.ssh.command import Command

if TYPE_CHECKING:
    from flamecrest.server.ssh.command import Output

    from .values import JobSpec

T = TypeVar("T")

# Reads NAME=VALUE entries, each ended by NUL, up to an empty entry. bash reads a pipe byte by byte here, so the
# script behind the entries is left to the program. The program is looked up before PATH may change. LC_ALL is set
# by the gateway and must not reach the job.
LOADER: Final = (
    'run=$(type -P -- "$1") || { printf "%s: command not found\\n" "$1" >&2; exit 127; }; '
    'shift; set -- "$run" "$@"; unset LC_ALL run; '
    'while IFS= read -r -d "" FLAMECREST_ENTRY && [ -n "$FLAMECREST_ENTRY" ]; '
    'do export "$FLAMECREST_ENTRY"; done; unset FLAMECREST_ENTRY; exec "$@"'
)
# Variables that bash computes, evaluates as arithmetic or does not unset: the job would see other values.
BASH_OWN: Final = frozenset({
    "BASHOPTS", "BASHPID", "BASH_ALIASES", "BASH_ARGC", "BASH_ARGV", "BASH_CMDS", "BASH_COMMAND",
    "BASH_COMPAT", "BASH_LINENO", "BASH_MONOSECONDS", "BASH_SOURCE", "BASH_SUBSHELL", "BASH_TRAPSIG",
    "BASH_VERSINFO", "BASH_XTRACEFD",
    "DIRSTACK", "EPOCHREALTIME", "EPOCHSECONDS", "EUID", "FLAMECREST_ENTRY", "FUNCNAME", "GROUPS",
    "HISTCMD", "LINENO", "OPTIND", "PIPESTATUS", "PPID", "RANDOM", "SECONDS", "SHELLOPTS", "SHLVL",
    "SRANDOM", "UID", "_",
})  # fmt: skip

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_NOT_TEXT: Final = re.compile(r"[\x00\ud800-\udfff]")
_MAX_LINE: Final = 4096  # characters


def submit_command(submit: Sequence[str], spec: JobSpec, parse: Callable[[Output], T]) -> Command[T]:
    """The command that runs `submit` (program and options) with the environment and the script of `spec`.

    Neither appears in a process list. Raises Invalid for variables and scripts that cannot be passed on.
    """
    script = encode_text("script", spec.script or "")
    entries = []
    for name, value in spec.env.items():
        if not _NAME.fullmatch(name) or name in BASH_OWN:
            raise invalid_field("env", f"{name[:80]!r} cannot be the name of a variable")
        entries.append(f"{name}=".encode() + encode_text("env", value) + b"\0")
    argv = ("bash", "-c", LOADER, "flamecrest", *submit)
    return Command(argv, parse, stdin=b"".join(entries) + b"\0" + script, for_job=True)


def check_line(field: str, value: str) -> str:
    """The value, if it is one line of text that an option may hold."""
    if _CONTROL.search(value) or len(value) > _MAX_LINE:
        raise invalid_field(field, f"must be one line of at most {_MAX_LINE} characters")
    return value


def check_absolute_path(field: str, value: str) -> str:
    """The value, if it is an absolute path."""
    if not value.startswith("/"):
        raise invalid_field(field, "must be an absolute path")
    return value


def encode_text(field: str, value: str) -> bytes:
    """The value in UTF-8, if it holds no NUL and no lone surrogate."""
    if _NOT_TEXT.search(value):
        raise invalid_field(field, "contains a NUL or an invalid character")
    return value.encode()


def invalid_field(field: str, message: str) -> Invalid:
    """The error for a field of the request body."""
    return Invalid(f"{field}: {message}", fields=(Field("body", field, message),))
