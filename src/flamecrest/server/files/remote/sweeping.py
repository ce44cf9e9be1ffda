"""Remove temporary files that killed gateways and lost login nodes have left in a folder. Nobody waits for it.

The agent does the same by itself (agent.pl) when it writes a file or lists a folder. A temporary file of a running
operation is never as old as AGE: what it is given as mtime is not given as atime.
"""

from __future__ import annotations

import asyncio
import re
import stat as stat_bits
import time
from typing import TYPE_CHECKING, Any, Final

from flamecrest.server.ssh.channels.sftp_packets import Attrs, SftpError
from flamecrest.server.ssh.errors import Lost

if TYPE_CHECKING:
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.channels.sftp_packets import Name

AGE: Final = 24 * 3600  # seconds since a left file was last written
INTERVAL: Final = 600.0  # seconds between two searches of a folder
MOST_FOLDERS: Final = 1024  # searched within INTERVAL over one connection
BATCHES: Final = 32  # READDIR answers that are searched: a large folder is not searched to its end

_NAME: Final = re.compile(rb"\.flamecrest-(?:upload|unpack)-[0-9a-f]{16}")
_UNPACK: Final = b".flamecrest-unpack-"  # a link of an archive has such a name before its rename


def is_left(entry: Name, mine: Attrs) -> bool:
    """Whether an entry was left behind by an operation of the user; `mine` is a file that was made now."""
    attrs = entry.attrs
    if not entry.name.startswith(b".f") or not _NAME.fullmatch(entry.name):
        return False
    if attrs.uid is None or attrs.uid != mine.uid:
        return False
    written = attrs.mtime or 0  # of a link: its atime changes when the folder is listed
    if stat_bits.S_ISREG(attrs.mode or 0):
        written = max(attrs.atime or 0, written)
    elif not stat_bits.S_ISLNK(attrs.mode or 0) or not entry.name.startswith(_UNPACK):
        return False
    return written + AGE < max(mine.atime or 0, mine.mtime or 0)


def sweep(sftp: Sftp, temporary: bytes) -> None:
    """Begin to remove what is left in the folder of a temporary file, unless that was done lately."""
    folder = temporary.rpartition(b"/")[0] or (b"/" if temporary.startswith(b"/") else b".")
    if is_due(sftp.swept, folder, time.monotonic()):
        _Sweep(sftp, folder, temporary)


def skip(sftp: Sftp, folder: bytes) -> None:
    """Note that nothing is left in a folder: it is new."""
    is_due(sftp.swept, folder, time.monotonic())


def is_due(
    swept: dict[bytes, float], folder: bytes, now: float, interval: float = INTERVAL, most: int = MOST_FOLDERS
) -> bool:
    """Whether a folder is to be searched now, which is noted in `swept`: not again within `interval` seconds.

    Nor if so many others were searched within that time.
    """
    if swept.get(folder, now - interval) > now - interval:
        return False
    if len(swept) >= most:
        for path in [path for path, at in swept.items() if at <= now - interval]:
            del swept[path]
    if len(swept) >= most:
        return False
    swept[folder] = now
    return True


class _Sweep:
    """One search. Each answer triggers the next request, so that it outlives the request that began it."""

    def __init__(self, sftp: Sftp, folder: bytes, temporary: bytes) -> None:
        self._sftp = sftp
        self._folder = folder.rstrip(b"/") + b"/"
        self._mine = sftp.lstat(temporary)
        self._left = BATCHES
        sftp.forget(self._mine)
        sftp.opendir(folder).add_done_callback(self._opened)

    def _opened(self, opening: asyncio.Future[bytes]) -> None:
        handle = _result(opening)
        if handle is not None:
            self._handle = handle
            self._sftp.readdir(handle).add_done_callback(self._read)

    def _read(self, reading: asyncio.Future[list[Name]]) -> None:
        mine, batch = _result(self._mine), _result(reading)
        self._left -= 1
        if mine is None or not batch or not self._left:
            self._sftp.forget(self._sftp.close_handle(self._handle))
            return
        for entry in batch:
            if is_left(entry, mine):
                self._sftp.forget(self._sftp.remove(self._folder + entry.name))
        self._sftp.readdir(self._handle).add_done_callback(self._read)


def _result(done: asyncio.Future[Any]) -> Any:
    """Return the answer to a request; None for an error."""
    if not done.done() or done.cancelled():
        return None
    try:
        return done.result()
    except (SftpError, Lost):
        return None
