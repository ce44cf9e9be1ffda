"""What is read of the accounting behind answers: lists that are due, and jobs that are in none of its lists."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from flamecrest.server.schedulers.dialect import JobQuery
from flamecrest.server.schedulers.job_lookup import RECOVERABLE_HISTORY

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.schedulers.job_lookup import JobLookup

    from .port import JobReader
    from .user_jobs import UserJobs


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    user: str
    read: Callable[[], Coroutine[Any, Any, None]]
    latest: float  # when it has to begin, by the clock of the event loop


class Background:
    """Tasks that are not part of the request that happens to be the first. They are kept until their end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start one."""
        task = asyncio.create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class ReadsBehind:
    """Reads for which no request waits: one after another, so that they leave the login node to those that wait.

    A read takes some 100 ms of its processors, and the reads of users who began at the same time are due at the same
    time. Each begins when the one before has ended; while those are slow, all that wait begin within `patience` seconds
    evenly. A read raises nothing.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._waiting: deque[_Waiting] = deque()
        self._users: set[str] = set()  # whose read waits or is under way
        self._background = Background()
        self._is_beginning = False

    def add(self, user: str, read: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Read in the background, unless the user's read waits or is under way."""
        if user in self._users:
            return
        self._users.add(user)
        self._waiting.append(_Waiting(user, read, asyncio.get_running_loop().time() + self._patience))
        if not self._is_beginning:
            self._is_beginning = True
            self._background.start(self._begin_each())

    async def _begin_each(self) -> None:
        while self._waiting:
            task = self._background.start(self._read(self._waiting.popleft()))
            await asyncio.wait((task,), timeout=self._pace())
        self._is_beginning = False

    def _pace(self) -> float:
        """Seconds after which the next one begins although the one before is still under way."""
        if not self._waiting:
            return self._patience
        left = self._waiting[0].latest - asyncio.get_running_loop().time()
        return max(0.0, left) / len(self._waiting)

    async def _read(self, one: _Waiting) -> None:
        try:
            await one.read()
        finally:
            self._users.discard(one.user)


async def read_unlisted(lookup: JobLookup, reader: JobReader, user: UserJobs, deadline: Deadline) -> None:
    """Ask one question for all such jobs of the user, behind a list that has been added. A failure is noted only."""
    if not (ids := user.unlisted()):
        return
    try:
        snapshot = await lookup.read("history", partial(reader.history, JobQuery(job_ids=ids)), deadline)
    except RECOVERABLE_HISTORY as error:
        lookup.note_failure("history", error)
    else:
        user.add_unlisted(snapshot.records)
