"""A program to run on a login node, and the output of a finished one: values, no I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from flamecrest.server.errors import Unsupported

T = TypeVar("T")

RUNNING: Final = -1  # the status of a program whose end was not waited for
MAX_OUTPUT = 64 * 1024 * 1024  # bytes that a command, and all on one connection together, may print before it is ended
# messages of bash and dash, of coreutils' timeout, and of tar, in the C locale
_NOT_FOUND: Final = re.compile(
    r": ([\w.+-]+): (?:command )?not found$|: failed to run command '([\w.+-]+)': |: ([\w.+-]+): Cannot exec: ",
    re.MULTILINE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Output:
    """The exit status and output of a program: a finished one, or what one that still runs has printed so far."""

    status: int  # exit status; 128 + number for a program ended by a signal, as in shells; RUNNING
    stdout: bytes = b""
    stderr: bytes = b""

    def text(self) -> str:
        """Standard output as text; bytes that are not UTF-8 become lone surrogates, as in file names."""
        return self.stdout.decode("utf-8", "surrogateescape")

    def errors(self) -> str:
        """Standard error as text for messages; bytes that are not UTF-8 are replaced."""
        return self.stderr.decode("utf-8", "replace").strip()

    @property
    def not_installed(self) -> bool:
        """Whether the program, or one that it needs, could not be started: the shell's status is then 126 or 127."""
        return self.status in {126, 127}

    @property
    def missing_program(self) -> str | None:
        """The name of the program that could not be started, if the shell's message has it."""
        found = _NOT_FOUND.search(self.errors()) if self.not_installed else None
        return found[found.lastindex or 0] if found else None

    def check_installed(self) -> None:
        """Raise Unsupported if a program could not be started, with its name if the shell's message has it."""
        if self.not_installed:
            missing = self.missing_program
            name = f": {missing}" if missing else ""
            message = f"The program that this needs is not installed on the cluster{name}"
            raise Unsupported(message, detail=self.errors()[:200])


@dataclass(frozen=True, slots=True)
class Command(Generic[T]):
    """A program to run and the parser of its output. `Session.run` runs it.

    `argv` is quoted in one place (start_line.py); strings may hold surrogate escapes for bytes that are not UTF-8.
    `parse` maps the Output, of any exit status, to a value or raises a GatewayError.
    `stdin` is sent whole and followed by EOF; None is EOF at once. Secrets go here, never into `argv`.
    `env` is in no process list either. It is added to the login's environment without the variables that would change
    what programs print (environment.py); with `for_job` the program hands the login's environment on to a job, so it
    is kept.
    `repeatable` marks a command that changes nothing: it is run once more if the connection breaks.
    `is_enough` is for a program that may stay after its result is printed. It tells whether the result is in the output
    so far, whose status is RUNNING. Such output is parsed after a short time in which the program may still end by
    itself, and also if the deadline passes or the connection breaks.
    `joined` is for a program whose messages say what it has done, whatever its exit status is: a start-up file may have
    closed or redirected standard error, so the messages come over standard output. `parse` gets both as standard error.
    """

    argv: Sequence[str]
    parse: Callable[[Output], T]
    stdin: bytes | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = False
    for_job: bool = False
    max_output: int = MAX_OUTPUT
    is_enough: Callable[[Output], bool] | None = None
    joined: bool = False
