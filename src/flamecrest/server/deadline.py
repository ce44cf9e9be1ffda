"""Deadline: one object that is passed down a request and says how long there is still time.

It knows a monotonic clock and nothing else; a part of the work may get less time (`sub`), never more.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from .errors import Timeout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


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

    @asynccontextmanager
    async def enforce(self, what: str) -> AsyncIterator[None]:
        """Cancel the block when the deadline passes, and raise Timeout naming `what` took too long.

        A TimeoutError that the block itself raises is passed on as it is.
        """
        scope = asyncio.timeout(self.left())
        try:
            async with scope:
                yield
        except TimeoutError:
            if not scope.expired():
                raise
            message = f"{what} did not finish in time"
            raise Timeout(message) from None

    def __repr__(self) -> str:
        return f"<Deadline {self.left():.3f} s left>"
