"""Size and usage of file systems and trees, from SFTP and from programs on the cluster. No I/O."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import Upstream
from flamecrest.server.files.remote.commands import command_errors
from flamecrest.server.files.remote.errors import reason_kind
from flamecrest.server.files.values import DiskSpace, DiskUsage
from flamecrest.server.ssh.command import Command

from .regular_files import path_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flamecrest.server.ssh.command import Output


_READ_ONLY: Final = 1  # of statvfs@openssh.com's flags

# One line per entry: size, blocks of 512 bytes, and the inode if the file has several names. awk stores only those
# inodes, so that its memory does not grow with the tree; like du it counts such a file once.
_USAGE: Final = r"""export LC_ALL=C
{ find "$1" \( -type d -o -links 1 \) -printf '%s %b\n' -o -printf '%s %b %D:%i\n'; echo "end $?"; } | awk '
$1 == "end" { status = $2; next }
NF == 3 { if (seen[$3]++) next }
{ entries++; size += $1; blocks += $2 }
END { printf "%.0f %.0f %.0f %d\n", size, blocks * 512, entries, status }'
"""


def from_statvfs(numbers: Sequence[int]) -> DiskSpace:
    """Convert the answer of statvfs@openssh.com: eleven numbers in the order of struct statvfs."""
    _, unit, total, free, available, files, files_free, _, _, flags, _ = numbers
    return DiskSpace(total * unit, free * unit, available * unit, files, files_free, bool(flags & _READ_ONLY))


def command(path: str) -> Command[DiskSpace]:
    """Return the command that reads the same from coreutils, which does not report read-only mounts."""
    return Command(("stat", "-f", "--printf=%S %b %f %a %c %d", "--", path), _space, repeatable=True)


def usage_command(path: str, prefix: str) -> Command[DiskUsage]:
    """Return the command that sums up a tree. Links are not followed. `prefix`: of the error if there is none."""
    return path_command(("sh", "-c", _USAGE, "sh"), path, _usage, prefix)


def _space(output: Output) -> DiskSpace:
    words = output.stdout.split()
    if output.status == 0 and len(words) == 6 and all(word.isdigit() for word in words):
        unit, total, free, available, files, files_free = map(int, words)
        return DiskSpace(total * unit, free * unit, available * unit, files, files_free, None)
    command_errors.check_success(output)
    raise Upstream("The cluster's stat failed", detail=output.errors()[:200])


def _usage(output: Output) -> DiskUsage:
    words = output.stdout.split()
    if output.status == 0 and len(words) == 4 and all(word.isdigit() for word in words):
        size, allocated, entries, status = map(int, words)
        replace(output, status=status).check_installed()  # find's own
        if entries:
            return DiskUsage(size, allocated, entries, complete=status == 0)
    command_errors.check_success(output)
    first = (output.errors().splitlines() or ["no answer"])[0]
    kind = reason_kind(first.rpartition(": ")[2]) or Upstream
    raise kind(f"du: {first}", detail=output.errors()[:2000])
