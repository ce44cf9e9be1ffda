"""Commands that run the program of the local scheduler, and its answers. No I/O but reading its source once.

The program is sent over standard input, behind it the configuration and the fields of a request as lines of words in
percent-encoding, then the script. It answers with one line of JSON.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final, TypeVar
from urllib.parse import quote_from_bytes

from flamecrest.server.errors import Conflict, Denied, GatewayError, Invalid, Upstream
from flamecrest.server.schedulers.job_environment import check_environment, encode_text, invalid_field
from flamecrest.server.schedulers.job_errors import job_not_found, one_line
from flamecrest.server.ssh.command import Command, Output

T = TypeVar("T")
Fields = Mapping[str, str | int | None]
Parse = Callable[[Any], T]

_PARTS: Final = ("journal.pl", "processes.pl", "supervisor.pl", "runner.pl", "verbs.pl")
_BOOT: Final = (
    'my $size = shift; my $source = ""; while (length $source < $size) { '
    "sysread STDIN, $source, $size - length $source, length $source or exit 1 } "
    "{ local $SIG{__WARN__} = sub { }; eval $source } die $@ if $@"
)
# Variables of the login that change what perl loads and how it reads. The job gets them: the program reads the
# environment of this shell for it.
_SUBMIT: Final = (
    "unset PERL5OPT PERL5LIB PERLLIB PERL5DB PERL5SHELL PERL_UNICODE PERLIO PERL_SIGNALS; "
    'perl -e "$1" "$2" "$3" "$$"; exit $?'
)
# Before the names of the job's own variables, until it starts: as they are, they would tell the shell and the program
# where perl is, what it loads, and in which home the queue is.
_OF_JOB: Final = "FLAMECREST_ENV_"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one user's jobs may use together, and for how long they are remembered.

    Memory is in MiB, times are seconds; 0 CPUs or memory: all of the machine, 0 for the others: no limit.
    `kill_wait` is the time between SIGTERM and SIGKILL.
    """

    state_folder: str = ".local/state/flamecrest"
    cpus: int = 0
    memory: int = 0
    memory_per_job: int = 0
    time_limit: int = 0
    longest_time_limit: int = 0
    max_jobs: int = 10_000
    kill_wait: int = 30
    remember: int = 7 * 86_400

    @property
    def fields(self) -> dict[str, str | int]:
        """The program's names for them."""
        return {
            "state_dir": self.state_folder,
            "cores": self.cpus,
            "memory": self.memory,
            "default_memory": self.memory_per_job,
            "default_time": self.time_limit,
            "max_time": self.longest_time_limit,
            "max_jobs": self.max_jobs,
            "kill_wait": self.kill_wait,
            "keep": self.remember,
        }


class Program:
    """Makes the commands. A runner that was started by another version, or with other limits, is replaced."""

    def __init__(self, limits: Limits) -> None:
        self._source = source()
        config = _words(limits.fields)
        version = hashlib.sha256(self._source + config).hexdigest()[:16]
        self._head = self._source + config + f" version={version}\n".encode()

    def ask(self, verb: str, fields: Fields, parse: Parse[T], *, repeatable: bool = False) -> Command[T]:
        """Run a verb of the program; `parse` gets its answer, decoded."""
        argv = ("perl", "-e", _BOOT, str(len(self._source)), verb)
        return Command(argv, lambda output: parse(answer(output)), self._input(fields), repeatable=repeatable)

    def submit(
        self, verb: str, fields: Fields, script: str, env: Mapping[str, str], parse: Callable[[Output], T]
    ) -> Command[T]:
        """Run a verb that gets a script and, with the environment of the login, the variables of the job."""
        check_environment(env)
        argv = ("sh", "-c", _SUBMIT, "sh", _BOOT, str(len(self._source)), verb)
        stdin = self._input(fields) + encode_text("script", script)
        variables = {_OF_JOB + name: value for name, value in env.items()}
        return Command(argv, parse, stdin, env=variables, for_job=True)

    def _input(self, fields: Fields) -> bytes:
        return self._head + _words(fields) + b"\n"


@cache
def source() -> bytes:
    """The program without its comments and indentation."""
    folder = resources.files(__package__).joinpath("programs")
    lines = (line.strip() for part in _PARTS for line in folder.joinpath(part).read_text("ascii").splitlines())
    return "".join(f"{line}\n" for line in lines if line and not line.startswith("#")).encode()


def answer(output: Output) -> Any:
    """The answer, decoded. Raises the error that the program has answered with; Upstream if it has not answered."""
    output.check_installed()
    try:
        found = json.loads(output.stdout)
    except ValueError:
        words = one_line(output.errors()) or f"exit status {output.status}"
        raise Upstream(f"The local scheduler's program failed: {words}") from None
    if isinstance(found, dict) and (error := found.get("error")):
        raise _error(error)
    return found


def _error(error: Mapping[str, str]) -> GatewayError:
    kind, text = error.get("kind"), one_line(error.get("text") or "")
    match kind:
        case "invalid":
            return invalid_field(error["field"], text) if error.get("field") else Invalid(text)
        case "not_found":
            return job_not_found(text)
        case "conflict":
            return Conflict(text)
        case "denied":
            return Denied(text)
        case _:
            return Upstream(text)


def _words(fields: Fields) -> bytes:
    given = {name: str(value) for name, value in fields.items() if value is not None}
    return b" ".join(f"{name}={quote_from_bytes(_bytes(value), safe='/:,@')}".encode() for name, value in given.items())


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")
