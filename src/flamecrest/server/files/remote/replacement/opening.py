"""Open the file at a path whose folder other users may write to: no link, and no file that was put there meanwhile.

SFTP has no O_NOFOLLOW and shows no inode. So the attributes of the open file are compared with those at the path.
"""

from __future__ import annotations

import asyncio
import stat as stat_bits
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from flamecrest.server.errors import Conflict
from flamecrest.server.files.remote.replacement.questions import Made
from flamecrest.server.files.remote.writing import require_regular, stall_timeout
from flamecrest.server.ssh.channels.sftp_packets import Attrs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flamecrest.server.ssh.channels.sftp import Sftp

COMPARISONS: Final = 5  # of an open file with its path; a program that writes to it may change both in between
MTIME_SLACK: Final = 60  # seconds by which the mtime of a closed file may still change (network file systems)


class OpenFile(NamedTuple):
    """An open file and its attributes."""

    handle: bytes
    attrs: Attrs


async def open_itself(sftp: Sftp, path: bytes, flags: int, prefix: str, made: Made | None = None) -> OpenFile:
    """Open the regular file at a path. The caller closes the handle.

    With `made` it must be the file that was made there. Raises Invalid for a link and what else is no regular file,
    Conflict if another file has taken the path, SftpError.
    """
    async with stall_timeout(sftp):
        require_regular(prefix, await sftp.lstat(path))  # to open a FIFO would block the channel
    opening = sftp.open_file(path, flags)
    try:
        async with stall_timeout(sftp):
            handle = await opening
            attrs = await _compared(sftp, handle, path)
    except BaseException:
        if opening.done() and not opening.cancelled() and opening.exception() is None:
            sftp.forget(sftp.close_handle(opening.result()))
        raise
    if attrs is None or (made is not None and not is_made(attrs, made)):
        sftp.forget(sftp.close_handle(handle))
        raise replaced(path, prefix)
    return OpenFile(handle, attrs)


@asynccontextmanager
async def opened_itself(
    sftp: Sftp, path: bytes, flags: int, prefix: str, made: Made | None = None
) -> AsyncIterator[OpenFile]:
    """`open_itself`, closed afterwards without waiting for the server."""
    file = await open_itself(sftp, path, flags, prefix, made)
    try:
        yield file
    finally:
        sftp.forget(sftp.close_handle(file.handle))


async def _compared(sftp: Sftp, handle: bytes, path: bytes) -> Attrs | None:
    """The attributes of an open file if the file at the path has the same ones, else None."""
    for _ in range(COMPARISONS):
        opened, there = await asyncio.gather(sftp.fstat(handle), sftp.lstat(path))
        if opened == there:
            return opened
        if (opened.mode, opened.uid, opened.gid) != (there.mode, there.uid, there.gid):
            break
    return None


def is_made(found: Attrs, made: Made) -> bool:
    """Whether attributes can be those of a file that was made, as far as they show it."""
    return (
        stat_bits.S_ISREG(found.mode or 0)
        and (found.uid, found.size) == (made.uid, made.size)
        and abs((found.mtime or 0) - made.mtime) <= MTIME_SLACK
    )


def replaced(path: bytes, prefix: str) -> Conflict:
    """The error for a path that another user has given to another file."""
    return Conflict(f"{prefix}: another file is in the place of '{path.decode('utf-8', 'replace')}'")
