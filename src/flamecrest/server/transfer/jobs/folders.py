"""The folders of the logs of transfer jobs: they are made over SFTP before a job is submitted that writes there."""

from __future__ import annotations

import asyncio
import logging
import os
import stat as stat_bits
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import GatewayError, Invalid, NotFound
from flamecrest.server.files.remote.errors import operation_error
from flamecrest.server.ssh.channels.sftp_packets import FAILURE, NO_SUCH_FILE, Attrs, SftpError

if TYPE_CHECKING:
    from collections.abc import Callable

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.port import Session

KNOWN_SECONDS: Final = 60.0  # for which a folder is taken to exist that was found or made
MOST: Final = 10_000  # folders that are remembered

_log: Final = logging.getLogger(__name__)


class LogFolders:
    """Makes the folders of one cluster's users. `clock` is monotonic, in seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[str, float] = OrderedDict()  # when it was seen, by path

    async def ensure(self, session: Session, folder: str, deadline: Deadline) -> None:
        """Make the folder, for its owner only, if there is none. It asks nothing about one that it has just seen.

        Raises NotFound, Denied or Invalid if it cannot be made. Without SFTP it does nothing: a scheduler that is
        reached over REST may still run the job.
        """
        seen = self._known.get(folder)
        if seen is not None and self._clock() - seen <= KNOWN_SECONDS:
            return
        try:
            await session.sftp(lambda sftp: _make(sftp, folder), deadline.sub(deadline.left() / 2))
        except SftpError as error:
            raise _explained(error, folder) from None
        except Invalid:
            raise
        except GatewayError as error:
            _log.warning("the folder of logs %s is not known to exist: %s", folder, error.detail or error.public)
            return
        self._known.pop(folder, None)
        self._known[folder] = self._clock()
        while len(self._known) > MOST:
            self._known.popitem(last=False)


async def _make(sftp: Sftp, folder: str) -> None:
    path = os.fsencode(folder)
    made, found = await asyncio.gather(sftp.mkdir(path, Attrs(mode=0o700)), sftp.stat(path), return_exceptions=True)
    if isinstance(found, BaseException):
        if isinstance(made, SftpError) and made.code != FAILURE:  # the status if there is a link to nowhere
            raise made
        raise found
    if not stat_bits.S_ISDIR(found.mode or 0):
        raise Invalid(f"{_prefix(folder)}: Not a directory")


def _explained(error: SftpError, folder: str) -> GatewayError:
    if error.code == NO_SUCH_FILE:
        return NotFound(f"{_prefix(folder)}: No such file or directory")
    return operation_error(error, _prefix(folder))


def _prefix(folder: str) -> str:
    return f"transfer: cannot create '{folder}' for the logs of transfer jobs"
