"""Scripts in files of the cluster, for batch systems that take the text of a script but not its path."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import TooLarge
from flamecrest.server.ssh.command import Command, Output

from .job_environment import check_absolute_path, check_line, invalid_field

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline

    from .cli_reader import CommandRunner
    from .values import JobSpec

LIMIT: Final = 16 * 1024 * 1024  # bytes: that of a script in a request
# A FIFO would be waited at for a writer.
_READ: Final = '! test -p "$2" || { echo "$2: Not a regular file" >&2; exit 1; }; exec head -c "$1" -- "$2"'


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
