"""Work on transfers in the background of one process, once for each transfer. It knows no store and no cluster."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from flamecrest.server.errors import Conflict, GatewayError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

FIRST_PAUSE: Final = 1.0  # seconds before the first look
LONGEST_PAUSE: Final = 30.0  # seconds between two looks
ENDING: Final = 20.0  # seconds that the end of a task is waited for
MOST_FAILED: Final = 1000  # transfers of which the last error is kept

_log = logging.getLogger(__name__)


class Watch:
    """The tasks of the transfers that this process follows."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, str] = {}  # the last error of `run`, by transfer

    def tasks(self) -> set[asyncio.Task[None]]:
        """The tasks that run now."""
        return set(self._tasks.values())

    async def close(self) -> None:
        """End all tasks."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def follow(self, transfer: str, look: Callable[[], Awaitable[bool]]) -> None:
        """Call `look` again and again, more and more rarely, until it returns True, or raises Conflict.

        Other errors end nothing.
        """
        self._begin(transfer, _follow(look))

    def run(self, transfer: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do some work, unless this process works on the transfer already."""
        found = self._tasks.get(f"{transfer} run")
        if found is None or found.done():
            self._begin(f"{transfer} run", self._run(transfer, work))

    def failed(self, transfer: str) -> str | None:
        """Why the last work of `run` has failed; None if it has not, or that is not known any more."""
        return self._failed.get(transfer)

    async def stop(self, transfer: str) -> None:
        """End what this process does for a transfer, and wait for that: it may put a file in its place just now."""
        self._failed.pop(transfer, None)
        found = [task for name in (transfer, f"{transfer} run") if (task := self._tasks.get(name)) is not None]
        for task in found:
            task.cancel()
        if found:
            await asyncio.wait(found, timeout=ENDING)

    async def _run(self, transfer: str, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except GatewayError as error:
            _log.info("a transfer through the object store goes on later: %s", error.public)
            self._failed[transfer] = error.public
            if len(self._failed) > MOST_FAILED:
                del self._failed[next(iter(self._failed))]
        else:
            self._failed.pop(transfer, None)

    def _begin(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[name] = task

        def ended(task: asyncio.Task[None]) -> None:
            if self._tasks.get(name) is task:
                del self._tasks[name]
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.error("a transfer through the object store was given up", exc_info=error)

        task.add_done_callback(ended)


async def _follow(look: Callable[[], Awaitable[bool]]) -> None:
    begun = time.monotonic()
    while True:
        await asyncio.sleep(min(LONGEST_PAUSE, max(FIRST_PAUSE, (time.monotonic() - begun) / 10)))
        try:
            if await look():
                return
        except Conflict as error:  # the record was damaged: no later look can succeed
            _log.info("a transfer through the object store was given up: %s", error.public)
            return
        except GatewayError as error:
            _log.info("a transfer through the object store goes on later: %s", error.public)
