"""The attributes of a path by coreutils' `stat`, for login nodes without the agent. No I/O."""

from __future__ import annotations

import errno
import math
import os

from flamecrest.server.errors import Upstream
from flamecrest.server.ssh.command import Command, Output
from flamecrest.server.ssh.errors import StatError

from .agent import StatNumbers


def stat_command(path: str, *, follow: bool) -> Command[StatNumbers]:
    """The command that prints the attributes of a path, of a link's target with `follow`."""
    argv = ("stat", *(("-L",) if follow else ()), "--printf=%d %i %f %h %u %g 0 %s %X %.9Y %Z", "--", path)
    return Command(argv, _parse, repeatable=True)


def _rounded(seconds: int, nanoseconds: int) -> int:
    """The nanoseconds as the agent gives them: rounded as a double of the whole time rounds them."""
    both = seconds + 1e-9 * nanoseconds
    return int((both - int(both)) * 1e9 + 0.5) if both > 0 else 0


_ERRNO = {os.strerror(number): number for number in errno.errorcode}


def _parse(output: Output) -> StatNumbers:
    if output.status == 0:
        words = output.stdout.split()
        if len(words) == 11:
            modified = words[9]
            words[9] = modified.partition(b".")[0]
            found = [int(word, 16 if at == 2 else 10) for at, word in enumerate(words)]
            if modified.startswith(b"-"):
                found[9] = math.floor(float(modified))
            return (*found, _rounded(found[9], int(modified.partition(b".")[2] or b"0")))
    output.check_installed()  # first: the message for a missing program ends in "No such file", too
    # coreutils ends its message with the text of strerror(3), in English because of LC_ALL=C
    reason = output.errors().rpartition(": ")[2]
    if reason in _ERRNO:
        raise StatError(_ERRNO[reason])
    raise Upstream("The cluster's stat failed", detail=f"status {output.status}: {output.errors()[:200]}")
