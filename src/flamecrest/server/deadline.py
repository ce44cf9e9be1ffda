"""Deadline: the time by which a request must finish, passed down to every operation.

An operation may shorten its deadline (`sub`), never extend it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from .errors import Timeout

if TYPE_CHECKING:
    from types import TracebackType


class Deadline:
    """A point in time on the monotonic clock, in seconds."""

    __slots__ = ("at",)

    def __init__(self, at: float) -> None:
        self.at = at

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The deadline `seconds` from now."""
        return cls(time.monotonic() + seconds)

    def left(self) -> float:
        """Seconds left, at least 0."""
        return max(0.0, self.at - time.monotonic())

    def sub(self, seconds: float) -> Deadline:
        """The earlier of this deadline and one `seconds` from now."""
        return Deadline(min(self.at, time.monotonic() + seconds))

    def enforce(self, what: str) -> EnforcedDeadline:
        """Async context manager: cancel the block when the deadline passes, and raise Timeout naming `what`.

        A TimeoutError that the block raises before the deadline is passed on unchanged.
        """
        return EnforcedDeadline(self, what)

    def __repr__(self) -> str:
        return f"<Deadline {self.left():.3f} s left>"


class EnforcedDeadline:
    """Context manager of Deadline.enforce: asyncio.timeout without rescheduling, which makes it cheaper."""

    __slots__ = ("_cancelling", "_deadline", "_expired", "_task", "_timer", "_what")

    def __init__(self, deadline: Deadline, what: str) -> None:
        self._deadline = deadline
        self._what = what
        self._expired = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline can be enforced inside a task only")
        self._task = task
        self._cancelling = task.cancelling()  # cancellations by others must not be swallowed
        self._timer = task.get_loop().call_later(max(0.0, self._deadline.at - time.monotonic()), self._expire)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._expired:
            self._timer.cancel()
            return
        ours = self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError
        if ours or (kind is not None and issubclass(kind, TimeoutError)):
            message = f"{self._what} did not finish in time"
            raise Timeout(message) from None

    def _expire(self) -> None:
        self._expired = True
        self._task.cancel()
