"""Acts on the rules of a pool's queue: lets requests wait, or refuses them, and notes when one gets its turn."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from flamecrest.server.ssh.pool.channel_limit import RESERVING

from .pace import Turns, expected, hopeless
from .refusals import too_late, too_many, too_many_of_user
from .room import Entry, entry

if TYPE_CHECKING:
    from flamecrest.server.errors import GatewayError
    from flamecrest.server.ssh.counters import PoolCounters
    from flamecrest.server.ssh.pool.policy import PoolLimits
    from flamecrest.server.ssh.pool.users import PoolUser, Waiter

CONNECTIONS_MEMORY = 300.0  # seconds: connections are given to users who wait far less often than channels


class Door:
    """The queue of one pool: requests that wait for a channel of their user, and users who wait for a connection.

    A request that has begun, as one whose connection was lost, is never refused.
    """

    def __init__(self, limits: PoolLimits, counters: PoolCounters) -> None:
        self._limits, self._age = limits.queue, limits.age
        self._counters = counters
        self._connections = Turns(CONNECTIONS_MEMORY)

    def enter(self, user: PoolUser, waiter: Waiter, users: Collection[PoolUser], line: list[PoolUser]) -> None:
        """Let a request wait that got no channel; it is the last one of its user's. Raises Busy, Unavailable.

        `users` are all of the pool; `line` are those who wait without a connection and are getting none, in order.
        """
        waiter.queued, now = True, time.monotonic()
        if user.load(now, self._age).capacity >= RESERVING:
            waiter.with_kind = waiter.kind
        turns = user.turns.get(waiter.with_kind) or user.turns.setdefault(waiter.with_kind, Turns())
        if not any(one.with_kind is waiter.with_kind and one is not waiter for one in user.waiting):
            turns.begin(now)
        if user in line:
            user.in_line_since = user.without_since
            if line == [user] and len(user.waiting) == 1:
                self._connections.begin(now)
        if waiter.begun:
            return
        error = self._no_room(user, users) or self._too_late(user, waiter, line, now)
        if error is not None:
            user.waiting.remove(waiter)
            raise error

    def _no_room(self, user: PoolUser, users: Collection[PoolUser]) -> GatewayError | None:
        mine, total = len(user.waiting), sum(len(one.waiting) for one in users)
        if mine <= self._limits.per_user and total <= self._limits.requests:
            return None
        other = max((one for one in users if one is not user), key=lambda one: len(one.waiting), default=user)
        match entry(mine, len(other.waiting), total, self._limits):
            case Entry.TOO_MANY_OF_USER:
                self._counters.refused_of_user += 1
                return too_many_of_user(mine - 1)
            case Entry.TOO_MANY:
                self._counters.refused_full += 1
                return too_many(total - 1)
            case Entry.DISPLACES:
                displaced = other.waiting.pop()
                if not displaced.lease.done():
                    displaced.lease.set_exception(too_many(total - 1))
                    self._counters.refused_full += 1
            case Entry.WAITS:
                pass
        return None

    def _too_late(self, user: PoolUser, waiter: Waiter, line: list[PoolUser], now: float) -> GatewayError | None:
        if not self._limits.refuse_late or user.dialing is not None:
            return None  # with one more connection it goes faster, nobody knows how much
        without = user in line
        turns = self._connections if without else user.turns[waiter.with_kind]
        pace = turns.pace(now)
        if pace is None:
            return None
        if without:
            ahead = [one.patience() for one in line[: line.index(user)]]
        else:
            ahead = [one.until for one in user.waiting if one.with_kind is waiter.with_kind and one is not waiter]
        left = waiter.until - now
        wait = expected(ahead, pace, now, left)
        if not hopeless(wait, pace, left):
            return None
        self._counters.refused_late += 1
        return too_late(wait.seconds, left, wait.ahead, without=without)

    # --- turns

    def served(self, user: PoolUser, waiter: Waiter) -> None:
        """A request that waited has got a channel."""
        if waiter.queued:
            user.turns[waiter.with_kind].taken(time.monotonic())

    def connecting(self, user: PoolUser) -> None:
        """A connection is being opened for a user."""
        if user.in_line_since == user.without_since:
            self._connections.taken(time.monotonic())
        user.in_line_since = None

    def not_connected(self) -> None:
        """A connection could not be opened: until one is, turns show nothing."""
        self._connections.forget()
