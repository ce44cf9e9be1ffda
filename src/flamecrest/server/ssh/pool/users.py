"""The users of a pool: their connections and waiting requests, and the turns that they take at the last connections."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .channel_limit import Kind, Load
from .policy import Holder, PoolLimits, choose_recalls

if TYPE_CHECKING:
    import asyncio

    from flamecrest.server.auth.port import Identity
    from flamecrest.server.errors import GatewayError

    from .connection import Connection, Lease
    from .host import Host

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Waiter:
    """A request that waits for a channel."""

    lease: asyncio.Future[Lease]
    since: float
    kind: Kind
    until: float  # monotonic time


@dataclass(slots=True)
class PoolUser:
    """What the pool keeps of one user."""

    connections: list[Connection] = field(default_factory=list)
    waiting: deque[Waiter] = field(default_factory=deque)
    dialing: asyncio.Task[None] | None = None
    host: Host | None = None  # dialed last
    identity: Identity | None = None
    failure: GatewayError | None = None  # of the last login, while there are other connections
    failures: int = 0  # of that kind, in a row
    dial_after: float = 0.0  # monotonic time before which no further connection is opened
    without_since: float = float("inf")  # monotonic time since which requests wait and there is no connection

    def patience(self) -> float:
        """The monotonic time until which a request waits for a channel; 0: none waits."""
        return max((waiter.until for waiter in self.waiting if not waiter.lease.done()), default=0.0)

    def connected(self, now: float, age: float) -> bool:
        """Whether a connection may get new work."""
        return any(connection.usable(now, age) for connection in self.connections)

    def load(self, now: float, age: float) -> Load:
        """The channels in use and allowed; `age` is the greatest age of a connection in seconds."""
        capacity = commands = long = 0
        for connection in self.connections:
            commands += connection.commands
            long += connection.long_commands
            if connection.usable(now, age):
                capacity += connection.limit.now(now)
        return Load(capacity, commands, long)

    def fail(self, error: GatewayError) -> None:
        """Fail all requests that wait."""
        waiting, self.waiting = self.waiting, deque()
        for waiter in waiting:
            if not waiter.lease.done():
                # a copy for each: a traceback belongs to one request
                copy = type(error)(error.public, detail=error.detail, retry_after=error.retry_after)
                waiter.lease.set_exception(copy)


def without_connection(users: Iterable[PoolUser], now: float, age: float) -> list[PoolUser]:
    """The users who wait, have no usable connection and are not getting one; those who wait longest first."""
    found = []
    for user in users:
        if not user.waiting or user.connected(now, age):
            user.without_since = float("inf")
        elif user.dialing is None:
            user.without_since = min(user.without_since, now)
            found.append(user)
    return sorted(found, key=lambda user: user.without_since)


def recall(connections: Sequence[Connection], waiting: int, now: float) -> None:
    """Take connections from their users for that many users who wait without one, or give them back."""
    recalled = [connection for connection in connections if connection.recalled is not None]
    for connection in recalled[waiting:]:
        connection.recalled = None
    others = [connection for connection in connections if connection.recalled is None and connection.busy]
    holders = [Holder(connection.user, now - connection.opened, connection.hold) for connection in others]
    for index in choose_recalls(holders, waiting - len(recalled)):
        others[index].recall(now)


def turn_over(connection: Connection, now: float, limits: PoolLimits) -> bool:
    """Whether a connection is to be closed although it is in use: by its age, or for a user who waited for a turn."""
    too_old = now - connection.opened >= limits.age_in_use
    if not too_old and (connection.recalled is None or now - connection.recalled < limits.turn):
        return False
    fields = {"user": connection.user, "host": str(connection.host), "hold": connection.hold.name.lower()}
    reason = "by its age (max_age_in_use)" if too_old else "for another user (max_clients)"
    logger.warning("SSH connection in use closed %s", reason, extra={"fields": fields})
    return True
