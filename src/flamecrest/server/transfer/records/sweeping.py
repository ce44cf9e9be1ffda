"""Removes what has expired in the folders of records, beside the requests of their users: nobody waits for it."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError
from flamecrest.server.files.remote.sweeping import is_due
from flamecrest.server.ssh.channels.sftp_packets import SftpError

from . import names
from .names import RecordFiles
from .storage import expire

if TYPE_CHECKING:
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.port import Session

INTERVAL: Final = 60.0  # seconds between two sweeps of a folder by one process
LONGEST: Final = 60.0  # seconds of one sweep
MOST_FOLDERS: Final = 10_000  # swept within INTERVAL
BATCHES: Final = 128  # READDIR answers that are searched, each of about a hundred files
MOST_EXPIRED: Final = 500  # transfers whose data one sweep removes, at random: other replicas sweep, too

_log: Final = logging.getLogger(__name__)


class Sweeps:
    """The sweeps of one process, each folder at most once within INTERVAL. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._swept: dict[bytes, float] = {}  # when each folder was swept
        self._tasks: dict[bytes, asyncio.Task[None]] = {}  # by folder

    @contextmanager
    def after(self, session: Session, folder: bytes) -> Iterator[None]:
        """Begin to sweep a folder after the block, also if that fails: the disk may be full."""
        try:
            yield
        finally:
            self.begin(session, folder)

    def begin(self, session: Session, folder: bytes) -> None:
        """Begin to sweep a folder of the session's user, unless that was done lately."""
        if folder in self._tasks or not is_due(self._swept, folder, self._clock(), INTERVAL, MOST_FOLDERS):
            return
        task = asyncio.create_task(_sweep(session, folder), name="sweep of records")
        self._tasks[folder] = task

        def ended(task: asyncio.Task[None]) -> None:
            del self._tasks[folder]
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.error("records of transfers could not be swept", exc_info=error)

        task.add_done_callback(ended)

    def tasks(self) -> set[asyncio.Task[None]]:
        """The sweeps that run now."""
        return set(self._tasks.values())

    async def close(self) -> None:
        """Stop them."""
        tasks = self.tasks()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _sweep(session: Session, folder: bytes) -> None:
    async def use(sftp: Sftp) -> None:
        await sweep(sftp, folder, time.time())

    with suppress(GatewayError, SftpError):
        await session.sftp(use, Deadline.after(LONGEST))


async def sweep(sftp: Sftp, folder: bytes, now: float) -> None:
    """Remove the data of expired transfers, and after a month their records. A large folder is not searched whole."""
    found: dict[str, list[bytes]] = {}
    with suppress(SftpError):
        async with sftp.handle(sftp.opendir(folder)) as handle:
            for _ in range(BATCHES):
                batch = await sftp.readdir(handle)
                for entry in batch:
                    if names.is_key(entry.name) and (entry.attrs.mtime or now) + names.RECORDS_KEPT < now:
                        sftp.forget(sftp.remove(folder + b"/" + entry.name))
                    if (transfer := names.transfer_of(entry.name)) is not None:
                        found.setdefault(transfer, []).append(folder + b"/" + entry.name)
                if not batch:
                    break
    left = MOST_EXPIRED
    for transfer, paths in random.sample(list(found.items()), len(found)):
        files = RecordFiles(folder, transfer)
        expired = names.expiry(transfer)
        if expired + names.RECORDS_KEPT < now:
            for path in paths:
                sftp.forget(sftp.remove(path))
        elif left and expired < now and files.end not in paths:
            left -= 1
            with suppress(SftpError, GatewayError):
                await expire(sftp, files)
