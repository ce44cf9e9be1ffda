"""A queue of requests in front of some channels, in simulated time: with admission by expected wait, and without."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from flamecrest.server.ssh.queue.pace import Turns, expected, hopeless

Takes = Callable[[random.Random], float]  # seconds that a request holds its channel

TAKES: dict[str, Takes] = {
    "constant": lambda _: 0.2,
    "uniform": lambda rng: rng.uniform(0.1, 0.3),
    "exponential": lambda rng: rng.expovariate(5),
    "mixed": lambda rng: 1.0 if rng.random() < 0.1 else 0.1,
}


def arrivals(rng: random.Random, per_second: float, burst: int, count: int) -> list[float]:
    """The times at which `count` requests come, `burst` at a time."""
    times, at = list[float](), 0.0
    while len(times) < count:
        at += rng.expovariate(per_second / burst)
        times += [at] * burst
    return times


@dataclass
class Play:
    """Plays one history; `times` are those of the requests, all with the same patience in seconds."""

    takes: Takes
    channels: int
    patience: float
    seed: int
    admission: bool
    turns: Turns = field(default_factory=Turns)
    served: int = 0
    refused: list[float] = field(default_factory=list)  # when
    in_vain: int = 0
    now: float = 0.0

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._queue: list[float] = []  # deadlines
        self._ends: list[float] = []  # of channels in use

    def run(self, times: list[float]) -> Play:
        """Let a request come at each of these times, and wait a minute."""
        for at in times:
            self.until(at)
            self._arrive()
        self.until(times[-1] + 60.0)
        return self

    def until(self, end: float) -> None:
        """Let channels become free, and requests give up, until then."""
        while self._ends and self._ends[0] <= end:
            self.now = heapq.heappop(self._ends)
            self._give_up()
            if self._queue:
                self._queue.pop(0)
                self.turns.taken(self.now)
                self._start()
        self.now = end
        self._give_up()

    def _give_up(self) -> None:
        before = len(self._queue)
        self._queue = [deadline for deadline in self._queue if deadline >= self.now]
        self.in_vain += before - len(self._queue)

    def _start(self) -> None:
        self.served += 1
        heapq.heappush(self._ends, self.now + self.takes(self._rng))

    def _arrive(self) -> None:
        if len(self._ends) < self.channels:
            self._start()
            return
        if not self._queue:
            self.turns.begin(self.now)
        pace = self.turns.pace(self.now)
        if self.admission and pace is not None:
            wait = expected(self._queue, pace, self.now, self.patience)
            if hopeless(wait, pace, self.patience):
                self.refused.append(self.now)
                return
        self._queue.append(self.now + self.patience)
