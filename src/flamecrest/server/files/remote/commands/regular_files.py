"""Programs about a path, which is tested by the same command: its request waits for one channel, once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from flamecrest.server.errors import Upstream
from flamecrest.server.files.remote.errors import operation_error
from flamecrest.server.files.remote.writing import require_regular
from flamecrest.server.ssh.channels.sftp_packets import Attrs
from flamecrest.server.ssh.channels.stat_command import FORMAT, parse_stat
from flamecrest.server.ssh.command import Command
from flamecrest.server.ssh.errors import StatError

if TYPE_CHECKING:
    from flamecrest.server.ssh.command import Output

T = TypeVar("T")

_MARK: Final = b"no regular file: "  # the program does not print it first
_RUN: Final = '; FLAMECREST=$1; shift; exec "$@" "$FLAMECREST"'
_STAT: Final = f"--printf='{_MARK.decode()}{FORMAT}' -- \"$1\""
_IF_REGULAR: Final = f'test -f "$1" || exec stat -L {_STAT}{_RUN}'
_IF_THERE: Final = f'test -e "$1" || test -L "$1" || exec stat {_STAT}{_RUN}'


def regular_file_command(program: Sequence[str], path: str, parse: Callable[[Output], T], prefix: str) -> Command[T]:
    """The command that runs a program with the path as its last argument, if that is a regular file.

    A FIFO or a device would never end. Else its result is the error of the path, whose text begins with `prefix`.
    """
    return _tested(_IF_REGULAR, program, path, parse, prefix)


def path_command(program: Sequence[str], path: str, parse: Callable[[Output], T], prefix: str) -> Command[T]:
    """The same for a path of any kind, if there is one; links are not followed."""
    return _tested(_IF_THERE, program, path, parse, prefix)


def _tested(script: str, program: Sequence[str], path: str, parse: Callable[[Output], T], prefix: str) -> Command[T]:
    def read(output: Output) -> T:
        if output.stdout.startswith(_MARK) or output.stderr.startswith(b"stat: "):
            raise _error(output, prefix, regular=script is _IF_REGULAR)
        return parse(output)

    return Command(("sh", "-c", script, "sh", path, *program), read, repeatable=True)


def _error(output: Output, prefix: str, *, regular: bool) -> Exception:
    """What is wrong with the path."""
    try:
        found = parse_stat(replace(output, stdout=output.stdout.removeprefix(_MARK)))
    except StatError as error:
        return operation_error(error, prefix)
    if regular:
        require_regular(prefix, Attrs(mode=found[2]))
    return Upstream(f"{prefix}: the file was made while it was looked for; try again")
