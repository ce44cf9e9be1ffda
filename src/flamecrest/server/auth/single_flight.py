"""Single flight: concurrent callers share one run of a coroutine. It knows neither keys nor tokens."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class SingleFlight:
    """Runs `run` at most once at a time; calls of `join` during a run wait for that run.

    A caller that is cancelled or times out does not stop the run. `run` stores its own result and should not raise.
    """

    def __init__(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._run = run
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def running(self) -> bool:
        """Whether a run has started and not ended."""
        return self._task is not None and not self._task.done()

    def start(self) -> asyncio.Task[None] | None:
        """Start a run, unless there is one; None if closed."""
        if self._closed:
            return None
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return self._task

    async def join(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - the run must outlive the wait
        """Wait for the current run, or start one; False if it did not end within `timeout` seconds."""
        task = self.start()
        if task is None:
            return False
        await asyncio.wait({task}, timeout=timeout)
        if not task.done() or task.cancelled():
            return False
        task.result()
        return True

    def cancel(self) -> None:
        """Cancel the current run and refuse new ones, without a wait for its end; can be repeated."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """The same, with a wait for its end."""
        self.cancel()
        if self._task is not None:
            await asyncio.wait({self._task})
