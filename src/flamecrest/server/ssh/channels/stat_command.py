"""The attributes of a path for logins without the agent: by coreutils' `stat`, or by SFTP where no command runs."""

from __future__ import annotations

import errno
import math
import os
from contextlib import suppress

from flamecrest.server.errors import Upstream
from flamecrest.server.ssh.command import Command, Output
from flamecrest.server.ssh.errors import StatError

from .agent import StatNumbers
from .sftp import Sftp
from .sftp_packets import NO_SUCH_FILE, PERMISSION_DENIED, SftpError

DIGITS = 9  # of a second's fraction
FORMAT = "%d %i %f %h %u %g 0 %s %X %.9Y %.9Z"  # of what `parse_stat` reads


def stat_command(path: str, *, follow: bool) -> Command[StatNumbers]:
    """The command that prints the attributes of a path, of a link's target with `follow`."""
    argv = ("stat", *(("-L",) if follow else ()), f"--printf={FORMAT}", "--", path)
    return Command(argv, parse_stat, repeatable=True)


def _time(word: bytes) -> tuple[int, int]:
    """Seconds since the epoch, and the nanoseconds of the fraction as the agent gives them. ValueError."""
    whole, _, fraction = word.partition(b".")
    if len(fraction) > DIGITS:
        raise ValueError(f"more than {DIGITS} digits: {word!r}")
    seconds = math.floor(float(word)) if word.startswith(b"-") else int(whole)
    return seconds, _rounded(seconds, int(fraction or b"0"))


_SFTP_ERRNO = {NO_SUCH_FILE: errno.ENOENT, PERMISSION_DENIED: errno.EACCES}


async def numbers_by_sftp(sftp: Sftp, path: bytes, *, follow: bool) -> StatNumbers:
    """What SFTP knows: 0 stands for device, inode, fractions and clock, 1 for the links, mtime for ctime. StatError."""
    try:
        found = await (sftp.stat(path) if follow else sftp.lstat(path))
    except SftpError as error:
        raise StatError(_SFTP_ERRNO.get(error.code, errno.EIO)) from None
    mode, uid, gid, size, atime, mtime = (
        number or 0 for number in (found.mode, found.uid, found.gid, found.size, found.atime, found.mtime)
    )
    return 0, 0, mode, 1, uid, gid, 0, size, atime, mtime, mtime, 0, 0, 0


def _rounded(seconds: int, nanoseconds: int) -> int:
    """The nanoseconds as the agent gives them: rounded as a double of the whole time rounds them."""
    both = seconds + 1e-9 * nanoseconds
    return int((both - int(both)) * 1e9 + 0.5) if both > 0 else 0


_ERRNO = {os.strerror(number): number for number in errno.errorcode}


def parse_stat(output: Output) -> StatNumbers:
    """The numbers that `stat` has printed in FORMAT. Raises StatError, and Upstream for anything else."""
    if output.status == 0 and (words := output.stdout.split()) and len(words) == 11:
        *numbers, modified, changed = words
        with suppress(ValueError):  # a program that a start-up file has left running printed between or behind them
            found = [int(word, 16 if at == 2 else 10) for at, word in enumerate(numbers)]
            (mtime, mtime_fraction), (ctime, ctime_fraction) = _time(modified), _time(changed)
            return (*found, mtime, ctime, mtime_fraction, ctime_fraction, 0)
    output.check_installed()  # first: the message for a missing program ends in "No such file", too
    # coreutils ends its message with the text of strerror(3), in English because of LC_ALL=C
    reason = output.errors().rpartition(": ")[2]
    if reason in _ERRNO:
        raise StatError(_ERRNO[reason])
    raise Upstream("The cluster's stat failed", detail=f"status {output.status}: {output.errors()[:200]}")
