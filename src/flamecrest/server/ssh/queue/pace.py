"""How fast requests that wait get their turn. Pure: it is told the time, monotonic and in seconds."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

MOST = 64  # turns that are remembered
LEAST = 8  # with fewer turns nothing is known
MEMORY = 30.0  # seconds for which a turn is remembered


class Pace(NamedTuple):
    """The mean time from one turn to the next in seconds, and the number of turns that it was measured from."""

    interval: float
    turns: int


class Wait(NamedTuple):
    """What a request has to expect: the turns of others before its own, and the seconds until its own."""

    ahead: int
    seconds: float


class Turns:
    """Measures the pace at which those who wait get their turn, while somebody waits."""

    __slots__ = ("_memory", "_since", "_taken")

    def __init__(self, memory: float = MEMORY) -> None:
        self._memory = memory
        self._since: float | None = None  # the last turn, or when somebody began to wait
        self._taken: deque[tuple[float, float]] = deque(maxlen=MOST)  # when, and seconds after the one before

    def begin(self, now: float) -> None:
        """Somebody begins to wait, and nobody else waits."""
        self._since = now

    def taken(self, now: float) -> None:
        """One of those who wait got its turn."""
        if self._since is not None:
            self._taken.append((now, now - self._since))
        self._since = now

    def forget(self) -> None:
        """What was measured does not hold any more: a connection has come or gone."""
        self._since = None
        self._taken.clear()

    def pace(self, now: float) -> Pace | None:
        """The pace of late; None if too little is known."""
        while self._taken and self._taken[0][0] < now - self._memory:
            self._taken.popleft()
        count = len(self._taken)
        return Pace(sum(seconds for _, seconds in self._taken) / count, count) if count >= LEAST else None


def expected(ahead: Iterable[float], pace: Pace, now: float, left: float) -> Wait:
    """What a request with `left` seconds has to expect behind others with these deadlines, in their order.

    Who gives up before his turn, and in the first half of that time, takes no turn. Those who give up later make room
    at the last moment, and for one of many: it is no use to wait for that.
    """
    turns, at, soon = 0, now + pace.interval, now + left / 2
    for deadline in ahead:
        if deadline >= at or deadline >= soon:
            turns += 1
            at += pace.interval
    return Wait(turns, at - now)


def hopeless(wait: Wait, pace: Pace, left: float) -> bool:
    """Whether a request with that many seconds left would wait in vain, as good as certainly.

    The time that passes until the turn scatters, and so does what was measured: the expected time must exceed what is
    left by twice the standard deviation of both together, as of turns that come at random. The first in the queue is
    never refused, so that there is always one who shows how fast it goes now.
    """
    if not wait.ahead:
        return False
    return wait.seconds > left * (1 + 2 * math.sqrt(1 / pace.turns + 1 / (wait.ahead + 1)))
