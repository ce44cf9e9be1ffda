"""What all dialects share about a submission: checks of fields, and environment and script over standard input.

The start line's shell exports the variables and then executes the submission program, which reads the script from the
rest of the input (ADR 0006).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from flamecrest.server.errors import Field, Invalid, NotFound
from flamecrest.server.ssh.command import Command
from flamecrest.server.ssh.start_line import MAX_ARGUMENT, MAX_VARIABLES

if TYPE_CHECKING:
    from flamecrest.server.ssh.command import Output

    from .values import JobSpec

T = TypeVar("T")

# Variables that bash or dash, the usual /bin/sh, computes, evaluates as arithmetic or does not set: the job would see
# other values. And two of the start line's.
SHELLS_OWN: Final = frozenset({
    "BASHOPTS", "BASHPID", "BASH_ALIASES", "BASH_ARGC", "BASH_ARGV", "BASH_CMDS", "BASH_COMMAND",
    "BASH_COMPAT", "BASH_LINENO", "BASH_MONOSECONDS", "BASH_SOURCE", "BASH_SUBSHELL", "BASH_TRAPSIG",
    "BASH_VERSINFO", "BASH_XTRACEFD",
    "DIRSTACK", "EPOCHREALTIME", "EPOCHSECONDS", "EUID", "FLAMECREST", "FLAMECREST_NEWLINE", "FUNCNAME", "GROUPS",
    "HISTCMD", "LINENO", "OPTIND", "PIPESTATUS", "PPID", "RANDOM", "SECONDS", "SHELLOPTS", "SHLVL",
    "SRANDOM", "UID", "_",
})  # fmt: skip

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_NOT_TEXT: Final = re.compile(r"[\x00\ud800-\udfff]")
_SIGNAL: Final = re.compile(r"(?:SIG)?((?!SIG)[A-Z][A-Z0-9]{1,9}|[1-5]?[1-9]|[1-6]0|6[1-4])")
_MAX_LINE: Final = 4096  # characters
_ENV_LIMITS: Final = "is too large: the limits are 128 KiB for one variable and about 2 MiB for all"


def submit_command(submit: Sequence[str], spec: JobSpec, parse: Callable[[Output], T]) -> Command[T]:
    """The command that runs `submit` (program and options) with the environment and the script of `spec`.

    Neither appears in a process list. Raises Invalid for variables and scripts that cannot be passed on.
    """
    script = encode_text("script", spec.script or "")
    if spec.env:
        check_environment(spec.env)
    return Command(submit, parse, stdin=script, env=spec.env, for_job=True)


def check_environment(env: Mapping[str, str]) -> None:
    """Raise Invalid for variables that a program cannot be started with, or that a shell would change."""
    total = 0
    for name, value in env.items():
        if not _NAME.fullmatch(name) or name in SHELLS_OWN:
            raise invalid_field("env", f"{name[:80]!r} cannot be the name of a variable")
        size = len(name) + 1 + len(encode_text("env", value))
        total += size
        if size > MAX_ARGUMENT or total > MAX_VARIABLES:
            raise env_too_large()


def dependency_id(text: str, parse: Callable[[str], T]) -> T:
    """The id of a job that another one waits for. Raises Invalid about the field `dependencies`."""
    try:
        return parse(text)
    except (Invalid, NotFound) as error:
        raise invalid_field("dependencies", f"{text[:80]}: {error.public}") from None


def check_line(field: str, value: str) -> str:
    """The value, if it is one line of text that an option may hold."""
    if _CONTROL.search(value) or len(value) > _MAX_LINE:
        raise invalid_field(field, f"must be one line of at most {_MAX_LINE} characters")
    return value


def check_signal(name: str) -> str:
    """The name of a signal without SIG, or its number."""
    found = _SIGNAL.fullmatch(name.upper())
    if found is None:
        raise invalid_signal()
    return found[1]


def invalid_signal() -> Invalid:
    """The error for what is no signal."""
    return invalid_field("signal", "must be the name of a signal (`USR1`) or its number")


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


def env_too_large() -> Invalid:
    """The error for variables that a Linux program cannot be started with."""
    return Invalid(f"env {_ENV_LIMITS}", fields=(Field("body", "env", _ENV_LIMITS),))


def invalid_field(field: str, message: str) -> Invalid:
    """The error for a field of the request body."""
    return Invalid(f"{field}: {message}", fields=(Field("body", field, message),))
