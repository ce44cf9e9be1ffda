"""The users of a pool: their connections and waiting requests, and the turns that they take at the last connections."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flamecrest.server.errors import Busy, GatewayError, Unavailable
from flamecrest.server.ssh.errors import NothingSent, OpenMeanwhile
from flamecrest.server.ssh.nodes.node import Health
from flamecrest.server.ssh.queue.pace import Turns

from .channel_limit import Kind, Load
from .policy import Decision, Holder, PoolLimits, choose_recalls, decide

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity
    from flamecrest.server.ssh.nodes.node import Node

    from .connection import Connection, Lease
    from .host import Host
    from .shared_channel import SharedChannel

logger = logging.getLogger(__name__)

REPLACE_AHEAD = 300.0  # seconds before its end that the last connection of an active user is replaced, at most


@dataclass(slots=True, eq=False)
class Waiter:
    """A request that waits for a channel."""

    lease: asyncio.Future[Lease]
    since: float
    kind: Kind
    until: float  # monotonic time
    opens: type[SharedChannel] | None = None  # the shared channel that it will open
    begun: bool = False  # it had a channel before, which was refused or lost
    queued: bool = False  # it could not be served at once
    with_kind: Kind | None = None  # the kind of those with which it takes turns; None: with all of its user's


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
    in_line_since: float | None = None  # `without_since` of a wait for a connection in use by others
    turns: dict[Kind | None, Turns] = field(default_factory=dict)  # how fast they get a channel, by `with_kind`

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

    def forget_turns(self) -> None:
        """Requests will get channels faster or more slowly than before."""
        for turns in self.turns.values():
            turns.forget()

    def retire(self) -> None:
        """Give the connections no new work: another one is open. What is under way on them may end."""
        now = time.monotonic()
        for connection in self.connections:
            connection.ends = min(connection.ends, now)

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


def opened_for_another(user: PoolUser, waiter: Waiter, now: float, age: float) -> bool:
    """Whether another request of the user opens the shared channel that this one needs: it gets no channel for that.

    Once the shared channel is open, the request waits no longer, and is told by OpenMeanwhile.
    """
    for connection in user.connections:
        if waiter.opens is None or not connection.usable(now, age, waiter.since):
            continue
        if connection.shared(waiter.opens) is not None and not connection.full_of_shared:
            user.waiting.remove(waiter)
            waiter.lease.set_exception(OpenMeanwhile())
            return True
        if waiter.opens in connection.opens:
            return True
    return False


def decision_for(
    user: PoolUser, waiter: Waiter, users: Collection[PoolUser], limits: PoolLimits
) -> tuple[Decision, int]:
    """What to do for a request that waits; see `decide`."""
    now, total, evictable, may_open = time.monotonic(), 0, False, False
    if user.dialing is None:  # else none is opened, so it does not matter what others have
        total = total_of(users)
        evictable = idle_longest(connection for one in users for connection in one.connections) is not None
        may_open = _may_open(user, users, now, limits, limits.max_clients - total + evictable)
    return decide(
        [connection.state(now, limits.age) for connection in user.connections],
        limits,
        max_age=now - waiter.since,
        dialing=user.dialing is not None,
        total=total,
        evictable=evictable,
        allowed=user.load(now, limits.age).allows(waiter.kind),
        may_open=may_open,
    )


def _may_open(user: PoolUser, users: Collection[PoolUser], now: float, limits: PoolLimits, places: int) -> bool:
    """Whether the user may open one of the places left: no pause, and fewer others wait longer without any."""
    if user.connections and (now < user.dial_after or any(c.limit.no_process for c in user.connections)):
        return False
    others = without_connection(users, now, limits.age)
    return sum(one.without_since < user.without_since for one in others) < max(1, places)


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


def replacement_due(user: PoolUser, now: float, limits: PoolLimits) -> bool:
    """Whether a connection is to be opened now, so that no request waits for the login when the last one ends.

    So an outage of the source of credentials, or of the login node, that is over within that time costs nobody a
    request. Only for users who are active, and only where the user may have another connection.
    """
    usable = [connection for connection in user.connections if connection.usable(now, limits.age)]
    if not usable or len(usable) >= limits.per_user or user.dialing is not None or now < user.dial_after:
        return False
    ends, opened = max((min(one.opened + limits.age, one.ends), one.opened) for one in usable)
    active = any(one.busy or now - one.idle_since < limits.idle / 2 for one in usable)
    return active and ends - now < min(REPLACE_AHEAD, (ends - opened) / 4)


def gauges(users: Collection[PoolUser]) -> dict[str, int]:
    """The numbers of now, by name, for all users of a pool."""
    connections = [connection for user in users for connection in user.connections]
    return {
        "connections": len(connections),
        "idle": sum(not c.busy for c in connections),
        "channels": sum(c.channels - c.ahead for c in connections),
        "ahead": sum(c.ahead for c in connections),
        "shared": sum(c.uses for c in connections),
        "waiting": sum(len(user.waiting) for user in users),
        "dialing": sum(user.dialing is not None for user in users),
    }


def total_of(users: Iterable[PoolUser]) -> int:
    """The number of connections, with those that are being opened."""
    return sum(len(user.connections) + (user.dialing is not None) for user in users)


def hoped_for(connection: Connection, user: PoolUser) -> bool:
    """Whether it is kept unusable: it may answer before another one is open, or show that its node is back."""
    return (connection.suspected and bool(user.waiting)) or (connection.node.avoided and connection.node.silent)


def idle_longest(connections: Iterable[Connection]) -> Connection | None:
    """The connection that has been idle longest; None if all are in use."""
    idle = [connection for connection in connections if not connection.busy]
    return min(idle, key=lambda connection: connection.idle_since, default=None)


async def closed(connections: Sequence[Connection]) -> None:
    """Wait until the servers have confirmed the end of these connections, for a second at most."""
    closing = [asyncio.ensure_future(connection.transport.raw.wait_closed()) for connection in connections]
    if closing:
        _, late = await asyncio.wait(closing, timeout=1.0)
        for task in late:
            task.cancel()
        for connection in connections:
            connection.transport.abort()


def make_room(user: PoolUser) -> None:
    """Close a shared channel where a server takes so few that these leave none to others."""
    for connection in user.connections:
        if (connection.full_of_shared or connection.shell_in_the_way) and not connection.lost:
            connection.close_shared()
            return


def leavers(users: Iterable[PoolUser], nodes: Sequence[Node], now: float, limits: PoolLimits) -> Iterator[PoolUser]:
    """The users of these nodes for whom a connection on another one is to be opened; one of a node that is crowded."""
    for node in nodes:
        for user in users:
            if leave(user, node, now, limits):
                yield user
                if node.health is not Health.SLOW:
                    break


def leave(user: PoolUser, node: Node, now: float, limits: PoolLimits) -> bool:
    """Take a user from a node, if he is active there; whether a connection on another node is to be opened first.

    What is under way on his connections there may end. A user who may have no further connection gives one up.
    """
    usable = [connection for connection in user.connections if connection.usable(now, limits.age)]
    there = [connection for connection in usable if connection.node is node]
    if not there or user.dialing is not None or now < user.dial_after:
        return False
    if len(there) < len(usable):
        for connection in there:
            connection.ends = now
        return False
    if len(usable) >= limits.per_user:
        usable[-1].ends = now
        return False
    return any(one.busy or now - one.idle_since < limits.idle / 2 for one in there)


def none_free(user: PoolUser, now: float, age: float, obstacle: Callable[[Host, str], GatewayError]) -> GatewayError:
    """Why a user's request got no channel by its deadline; `obstacle` says why a login has no result yet."""
    if any(connection.limit.no_process for connection in user.connections):
        text = "The login node starts no more programs for you; is your limit of processes reached (ulimit -u)?"
        return NothingSent(text, retry_after=5.0)
    if user.connections and all(connection.limit.refused == 0 for connection in user.connections):
        text = "The login node opens no channel on your connection; does its SSH server allow sessions (MaxSessions)?"
        return NothingSent(text, retry_after=5.0)
    if any(connection.usable(now, age) for connection in user.connections):
        text = "All your connections to the cluster are in use; try again in a moment"
        return Busy(text, detail=user.failure.public if user.failure is not None else None)
    if user.dialing is None and user.failure is not None:
        return user.failure
    if user.dialing is not None and user.host is not None:
        return obstacle(user.host, user.identity.username if user.identity else "")
    return Unavailable("The gateway has no free connection to this cluster", retry_after=2.0)
