"""Removes a temporary file whose folder was renamed while it was written. Nobody waits for it.

SFTP removes files by their paths only. On Linux the links in /proc/self/fd are the present paths of the files that its
server has open. Elsewhere, and after a rename on another node, the file stays until it is swept (sweeping.py).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from flamecrest.server.ssh.channels.sftp_packets import NO_SUCH_FILE, SftpError
from flamecrest.server.ssh.errors import Lost

if TYPE_CHECKING:
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.channels.sftp_packets import Name

OPEN_FILES: Final = b"/proc/self/fd"
BATCHES: Final = 16  # READDIR answers that are searched


def remove(sftp: Sftp, path: bytes, handle: bytes) -> None:
    """Begin to remove an open file with a random name, wherever its folder is now, and to close it.

    Each answer triggers the next request, so that it outlives the request that began it.
    """
    _Removal(sftp, path, handle)


class _Removal:
    def __init__(self, sftp: Sftp, path: bytes, handle: bytes) -> None:
        self._sftp = sftp
        self._name = path.rpartition(b"/")[2]
        self._handle = handle
        self._left = BATCHES
        sftp.remove(path).add_done_callback(self._removed)

    def _removed(self, removing: asyncio.Future[None]) -> None:
        error = None if removing.cancelled() else removing.exception()
        if isinstance(error, SftpError) and error.code == NO_SUCH_FILE:
            self._sftp.opendir(OPEN_FILES).add_done_callback(self._opened)
        else:
            self._sftp.forget(self._sftp.close_handle(self._handle))

    def _opened(self, opening: asyncio.Future[bytes]) -> None:
        folder = _result(opening)
        if folder is None:
            self._sftp.forget(self._sftp.close_handle(self._handle))
            return
        self._folder = folder
        self._sftp.readdir(folder).add_done_callback(self._listed)

    def _listed(self, reading: asyncio.Future[list[Name]]) -> None:
        batch = _result(reading)
        self._left -= 1
        for entry in batch or ():
            if entry.name.isdigit():
                self._sftp.readlink(OPEN_FILES + b"/" + entry.name).add_done_callback(self._read)
        if batch and self._left:
            self._sftp.readdir(self._folder).add_done_callback(self._listed)
            return
        for opened in (self._folder, self._handle):  # they are closed after the links were read
            self._sftp.forget(self._sftp.close_handle(opened))

    def _read(self, reading: asyncio.Future[list[Name]]) -> None:
        for link in _result(reading) or ():
            if link.name.rpartition(b"/")[2] == self._name:
                self._sftp.forget(self._sftp.remove(link.name))


def _result(done: asyncio.Future[Any]) -> Any:
    """Return the answer to a request; None for an error."""
    if done.cancelled():
        return None
    try:
        return done.result()
    except (SftpError, Lost):
        return None
