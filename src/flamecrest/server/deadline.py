"""Deadline: one object that is passed down a request and says how long there is still time.

It knows a monotonic clock and nothing else; a part of the work may get less time (`sub`), never more.
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
        """The deadline that many seconds from now."""
        return cls(time.monotonic() + seconds)

    def left(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self.at - time.monotonic())

    def sub(self, seconds: float) -> Deadline:
        """The earlier of this deadline and one `seconds` from now."""
        return Deadline(min(self.at, time.monotonic() + seconds))

    def enforce(self, what: str) -> Enforced:
        """Cancel the block when the deadline passes, and raise Timeout naming `what` took too long.

        A TimeoutError that the block itself raises is passed on as it is.
        """
        return Enforced(self, what)

    def __repr__(self) -> str:
        return f"<Deadline {self.left():.3f} s left>"


class Enforced:
    """The block that a deadline is enforced on: asyncio.timeout, without what only its other uses need."""

    __slots__ = ("_cancelling", "_deadline", "_expired", "_task", "_timer", "_what")

    def __init__(self, deadline: Deadline, what: str) -> None:
        self._deadline = deadline
        self._what = what
        self._expired = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline is enforced inside a task only")
        self._task = task
        self._cancelling = task.cancelling()  # by others, who are not to be kept from it
        self._timer = task.get_loop().call_later(self._deadline.left(), self._expire)

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
