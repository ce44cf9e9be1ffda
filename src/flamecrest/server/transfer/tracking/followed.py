"""The transfers that this process looks at from time to time until they have ended. It does not know how it looks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import Busy, GatewayError
from flamecrest.server.ssh.channels.sftp_packets import SftpError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

FIRST_PAUSE: Final = 0.5  # seconds before the first look
LONGEST_PAUSE: Final = 30.0  # seconds between two looks
MOST_OF_USER: Final = 100
MOST_FOUND: Final = 2 * MOST_OF_USER  # with those that are found in records, which a user may write himself
LONGEST: Final = 30 * 24 * 3600.0  # seconds

_log: Final = logging.getLogger(__name__)


class Followed:
    """The transfers that this process looks at."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._users: dict[str, str] = {}  # by transfer
        self._beginning: Counter[str] = Counter()  # by user: transfers that are being started

    def __len__(self) -> int:
        """The number of transfers that are followed."""
        return len(self._tasks)

    def tasks(self) -> set[asyncio.Task[None]]:
        """The tasks that run now."""
        return set(self._tasks.values())

    async def close(self) -> None:
        """Stop looking."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @contextmanager
    def room(self, user: str) -> Iterator[None]:
        """Keep room for one more transfer of a user while it is started.

        Raises Busy if there is none: those that are being started count, so requests at the same time share the room.
        """
        if sum(of == user for of in self._users.values()) + self._beginning[user] >= MOST_OF_USER:
            raise Busy(
                "Too many transfers with `thenSubmit` wait. Start this one when another has ended.", retry_after=10
            )
        self._beginning[user] += 1
        try:
            yield
        finally:
            self._beginning[user] -= 1
            if not self._beginning[user]:
                del self._beginning[user]

    def follow(self, user: str, transfer: str, look: Callable[[], Awaitable[bool]]) -> None:
        """Call `look` again and again, more and more rarely, until it returns True. Its errors end nothing.

        A transfer of a user who has MOST_FOUND others is left out: it is followed when it is looked at later.
        """
        if transfer in self._tasks or sum(of == user for of in self._users.values()) >= MOST_FOUND:
            return
        task = asyncio.create_task(_follow(transfer, look), name=f"follow {transfer}")
        self._tasks[transfer], self._users[transfer] = task, user

        def ended(task: asyncio.Task[None]) -> None:
            del self._tasks[transfer], self._users[transfer]
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.error("the job that follows a transfer was given up", exc_info=error)

        task.add_done_callback(ended)


async def _follow(transfer: str, look: Callable[[], Awaitable[bool]]) -> None:
    begun = time.monotonic()
    while (past := time.monotonic() - begun) < LONGEST:
        await asyncio.sleep(min(LONGEST_PAUSE, max(FIRST_PAUSE, past / 10)))
        try:
            if await look():
                return
        except (GatewayError, SftpError) as error:
            _log.info(
                "the job that follows a transfer waits", extra={"fields": {"transfer": transfer, "error": str(error)}}
            )
