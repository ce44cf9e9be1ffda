"""Flight: one run of a coroutine at a time, shared by all who need its outcome. It knows neither keys nor tokens."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class Flight:
    """Runs `run` at most once at a time; whoever comes while it is under way waits for that very run.

    Whoever stops waiting (cancelled, or out of time) leaves the run to the others. The run keeps its outcome
    itself and is not expected to raise.
    """

    def __init__(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._run = run
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def under_way(self) -> bool:
        """Whether a run has begun and not ended."""
        return self._task is not None and not self._task.done()

    async def join(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - the run must outlive the wait
        """Wait for the run under way, beginning one where there is none; False when it did not end in time."""
        if self._closed:
            return False
        task = self._task
        if task is None or task.done():
            task = self._task = asyncio.create_task(self._run())
        await asyncio.wait({task}, timeout=timeout)
        if not task.done() or task.cancelled():
            return False
        task.result()
        return True

    async def close(self) -> None:
        """End a run under way and begin no other; can be repeated."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
