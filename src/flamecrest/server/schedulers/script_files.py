"""Scripts in files of the cluster: checked, or read for batch systems that take the text of a script but no path."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from flamecrest.server.errors import TooLarge
from flamecrest.server.ssh.command import Command, Output

from .job_environment import check_absolute_path, check_line, invalid_field

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline

    from .cli_reader import CommandRunner
    from .values import JobSpec

T = TypeVar("T")

LIMIT: Final = 16 * 1024 * 1024  # bytes: that of a script in a request
# At a FIFO a reader would wait for a writer, and devices have no end.
_REGULAR: Final = 'test ! -e "$2" || test -d "$2" || test -f "$2" || { echo "$2: Not a regular file" >&2; exit 1; }'
_READ: Final = f'{_REGULAR}; exec head -c "$1" -- "$2"'
MOST_SUBMITTED: Final = 512 * 1024 * 1024  # bytes: sbatch reads all of a file, of any size, before it looks at it
_SUBMIT: Final = (
    'test ! -e "$1" || test -f "$1" || { printf "error: %s is not a regular file\\n" "$1" >&2; exit 1; }; '
    f'test ! -s "$1" || test "$(wc -c <"$1")" -le {MOST_SUBMITTED} || '
    f'{{ printf "error: %s is larger than {MOST_SUBMITTED >> 20} MiB\\n" "$1" >&2; exit 1; }}; '
    'shift; exec "$@"'
)


def with_regular_script(command: Command[T], path: str) -> Command[T]:
    """The command of a program that reads the script at `path`: started if that is a regular file, or is missing.

    The error is one of the program's own. A PATH of the job's `env` is not for this: such a command is unchanged.
    """
    return command if "PATH" in command.env else replace(command, argv=("sh", "-c", _SUBMIT, "sh", path, *command.argv))


def read_script(path: str) -> Command[str]:
    """The command that reads a script. Raises Invalid, also for a file that cannot be read or is no text; TooLarge."""
    checked = check_absolute_path("scriptPath", check_line("scriptPath", path))
    return Command(("sh", "-c", _READ, "sh", str(LIMIT + 1), checked), _parse_script, repeatable=True)


async def with_text(spec: JobSpec, runner: CommandRunner, deadline: Deadline) -> JobSpec:
    """The job with text and name of its script instead of the path. Raises as `read_script`, and errors of SSH."""
    if spec.script_path is None:
        return spec
    if spec.script is not None:
        raise invalid_field("script", "give exactly one of script and scriptPath")
    text = await runner.run(read_script(spec.script_path), deadline)
    return replace(spec, script=text, script_path=None, script_name=posixpath.basename(spec.script_path))


def _parse_script(output: Output) -> str:
    output.check_installed()
    if output.status != 0:
        reason = output.errors().splitlines()[-1:] or ["unknown reason"]
        raise invalid_field("scriptPath", f"the file cannot be read: {reason[0].rpartition(': ')[2][:200]}")
    if len(output.stdout) > LIMIT:
        raise TooLarge(f"scriptPath: the script is larger than {LIMIT // 2**20} MiB")
    try:
        return output.stdout.decode()
    except UnicodeDecodeError:
        raise invalid_field("scriptPath", "the file is no text in UTF-8") from None
