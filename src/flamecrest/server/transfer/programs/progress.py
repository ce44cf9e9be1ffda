"""Logs how far a job is, for the list of transfers. The lines become rarer with time: some hundred in a week."""

from __future__ import annotations

import time

from .running import log

SHORTEST = 1.0  # seconds between two lines
SLOWING = 0.05  # of the time since the first line


class Meter:
    """Counts the bytes of one transfer. `total` is 0 if it is not known."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.begun = self.last = time.monotonic()
        self.logged = -1

    def note(self, done: int) -> None:
        """Log the number of bytes that have been transferred, if the last line is old enough."""
        now = time.monotonic()
        if done != self.logged and now - self.last >= max(SHORTEST, (now - self.begun) * SLOWING):
            self.last, self.logged = now, done
            log(f"Progress: {done} of {self.total or 'unknown'} bytes.")
