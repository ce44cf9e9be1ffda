"""A store that does not answer: requests fail at once, except one at a time that tries it. No I/O."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

PAUSE: Final = 5.0  # seconds from the end of a request without an answer until another one tries
TRIAL: Final = 30.0  # seconds for which a trial that nobody has heard of keeps others back


class Silence:
    """Whether a store answers. `clock` is monotonic, in seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next: float | None = None  # no trial before; None: the store answers

    @property
    def lasts(self) -> bool:
        """Whether the store is known not to answer."""
        return self._next is not None

    def wait(self) -> float | None:
        """None: the request may be made; while the store is silent it is the trial. Else the seconds until the next."""
        if self._next is None:
            return None
        now = self._clock()
        if now < self._next:
            return self._next - now
        self._next = now + TRIAL
        return None

    def ended(self) -> None:
        """A request was given up, which says nothing of the store: another one may try."""
        if self._next is not None:
            self._next = min(self._next, self._clock())

    def answered(self) -> None:
        """The store has answered, be it with an error."""
        self._next = None

    def unanswered(self) -> None:
        """A request had no answer."""
        self._next = self._clock() + PAUSE
