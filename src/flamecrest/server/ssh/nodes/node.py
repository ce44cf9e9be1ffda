"""One login node: whether it answers, how fast it is, and how it comes back. Pure: the time is an argument.

Times are monotonic, in seconds. Connections and logins report to it what they see.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median_low
from typing import Final, TypeVar

from flamecrest.server.ssh.pool.host import Host

from .choice import SLOW

T = TypeVar("T")

SAMPLES: Final = 5  # of a latency before it counts
FRESH: Final = 30.0  # seconds after which the last sample no longer counts
MOST: Final = 8.0  # a sample counts as that many times the average at most
WITNESSES: Final = 64  # users whose latencies are kept
NOISE: Final = 0.002  # seconds that do not matter
DOWN_PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 15.0)  # seconds until a node that is down is tried by a login
SLOW_PAUSES: Final = (5.0, 10.0, 20.0, 40.0, 60.0)  # seconds without new work for a node that is slow
SLOW_START: Final = 20.0  # seconds in which a node that has come back gets its full share
LEAST: Final = 0.1  # the share with which it begins
MOMENT: Final = 2.0  # seconds: of one connection that hangs, others are heard within that time
CALM: Final = 120.0  # seconds without a failure after which the pauses begin again with the first


class Health(StrEnum):
    """Whether a node gets new work."""

    UP = "up"
    RETURNING = "returning"  # less than its share
    SLOW = "slow"
    DOWN = "down"


@dataclass(slots=True)
class _Average:
    """A decaying average of the last latencies of one user's questions to the agent."""

    count: int = 0
    seconds: float = 0.0
    last: float = 0.0

    def add(self, seconds: float, now: float) -> None:
        if now - self.last > FRESH:
            self.count = 0
        self.last = now
        self.count += 1
        if self.count <= SAMPLES:
            self.seconds += (seconds - self.seconds) / self.count
        else:
            self.seconds += (min(seconds, MOST * (self.seconds + NOISE)) - self.seconds) / 8

    def read(self, now: float) -> float | None:
        return self.seconds if self.count >= SAMPLES and now - self.last <= FRESH else None


@dataclass(slots=True, eq=False)
class Node:
    """The state of one login node."""

    host: Host
    since: float  # when its health changed last
    health: Health = Health.UP
    reason: str | None = None  # why it is down or slow, for users
    failures: int = 0  # how often it was down or slow in a short time
    silent: bool = False  # it is down because connections got no answer; else because logins failed
    avoided: bool = False  # its connections get no new work
    _averages: dict[str, _Average] = field(default_factory=dict)  # by user
    _until: float = 0.0  # of the pause

    def took(self, seconds: float, now: float, user: str = "") -> None:
        """A question of a user to the agent was answered."""
        average = self._averages.get(user)
        if average is None:
            if len(self._averages) >= WITNESSES:
                del self._averages[next(iter(self._averages))]
            average = self._averages[user] = _Average()
        average.add(seconds, now)

    async def timed(self, question: Awaitable[T], user: str) -> T:
        """The answer to a user's question to the agent, whose time counts if it succeeds."""
        begun = time.monotonic()
        answer = await question
        now = time.monotonic()
        self.took(now - begun, now, user)
        return answer

    def latency(self, now: float) -> float | None:
        """The median of the users' averages, in seconds; None: not known.

        However many requests a user makes, and whatever answers them: they count as one.
        """
        found = [seconds for one in self._averages.values() if (seconds := one.read(now)) is not None]
        return median_low(found) if found else None

    def witnesses(self, now: float) -> set[str]:
        """The users of whom that is the median."""
        return {user for user, one in self._averages.items() if one.read(now) is not None}

    def share(self, now: float) -> float:
        """The part of new work that it takes."""
        match self.health:
            case Health.UP:
                return 1.0
            case Health.RETURNING:
                return min(1.0, LEAST + (1.0 - LEAST) * (now - self.since) / SLOW_START)
            case Health.SLOW | Health.DOWN:
                return 0.0

    def down(self, reason: str, now: float, *, silent: bool = False) -> bool:
        """It takes no logins, or with `silent` its connections get no answer: no new work. Whether that is new."""
        before = (self.health, self.silent)
        self.silent = silent or (self.silent and self.health is Health.DOWN)
        if self.health is not Health.DOWN:
            self._change(Health.DOWN, reason, now)
            self._pause(DOWN_PAUSES, now)
        elif now >= self._until:
            self._pause(DOWN_PAUSES, now)
        return before != (self.health, self.silent)

    def slow(self, reason: str, now: float) -> None:
        """It answers much later than others: no new work for a pause."""
        self._change(Health.SLOW, reason, now)
        self._pause(SLOW_PAUSES, now)

    def back(self, now: float) -> None:
        """It answers again: less than its share at first, unless it was silent for a moment only."""
        if self.health not in {Health.DOWN, Health.SLOW}:
            return
        moment = self.silent and now - self.since < MOMENT
        self.silent = self.avoided = False
        self._averages = {}
        self._change(Health.UP if moment else Health.RETURNING, None, now)

    def tick(self, now: float) -> None:
        """Let time pass."""
        if self.health is Health.SLOW and now >= self._until:
            self.back(now)
        elif self.health is Health.RETURNING and now - self.since >= SLOW_START:
            self._change(Health.UP, None, now)
        elif self.health is Health.UP and now - self.since >= CALM:
            self.failures = 0

    def may_be_tried(self, now: float) -> bool:
        """Whether a test may show whether it answers again."""
        return self.health is Health.DOWN and now >= self._until

    def _change(self, health: Health, reason: str | None, now: float) -> None:
        self.health, self.reason, self.since = health, reason, now

    def _pause(self, pauses: tuple[float, ...], now: float) -> None:
        self.failures += 1
        self._until = now + pauses[min(self.failures, len(pauses)) - 1]


NODE: Final = Node(Host(""), 0.0)  # of all connections of a cluster that has one node only: it is never avoided


def slowness(node: Node, nodes: list[Node], now: float) -> float:
    """The node's latency as a multiple of the fastest node's; 1.0: not known."""
    own = node.latency(now)
    others = [found for one in nodes if one is not node and (found := one.latency(now)) is not None]
    return max(1.0, (own + NOISE) / (min(others) + NOISE)) if own is not None and others else 1.0


def is_slow(node: Node, nodes: list[Node], now: float) -> bool:
    """Whether the node is so slow that its users are to move."""
    return node.health in {Health.UP, Health.RETURNING} and slowness(node, nodes, now) >= SLOW
