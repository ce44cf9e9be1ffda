"""The connections of one cluster: leases on channels, opening, closing and waiting. Decisions are made in policy.py.

It knows neither commands nor SFTP. Its rules are properties that tests hold, listed in docs/developers/pool.md.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from flamecrest.server.errors import GatewayError, Unavailable
from flamecrest.server.ssh.counters import PoolCounters
from flamecrest.server.ssh.errors import LoginLost, NothingSent
from flamecrest.server.ssh.queue.door import Door
from flamecrest.server.telemetry.trace import phase

from .channel_limit import Kind
from .connection import ANY_TIME, Connection, Lease
from .dial import Dialer
from .logins import nth
from .opening import Opener
from .policy import Decision, PoolLimits, expired
from .users import (
    PoolUser,
    Waiter,
    closed,
    decision_for,
    gauges,
    hoped_for,
    idle_longest,
    leavers,
    make_room,
    none_free,
    opened_for_another,
    recall,
    replacement_due,
    total_of,
    turn_over,
    without_connection,
)

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.credentials.port import Credentials
    from flamecrest.server.ssh.host_keys import HostKeyVerifier

    from .host import Host
    from .shared_channel import SharedChannel

BACKGROUND = "background of a pool"  # the name of the tasks that outlive their request

logger = logging.getLogger(__name__)

NODES_TICK = 0.1  # seconds between two tests of connections in use, if there are several nodes
DIAL_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0, 15.0)  # seconds until a further connection is opened after a failure


class Pool:
    """The connections of one cluster by user. An async context manager that closes them at the end.

    `hosts` are the cluster's login nodes; each connection leads to the one that the policy chooses.
    """

    def __init__(
        self, hosts: Sequence[Host], credentials: Credentials, host_keys: HostKeyVerifier, limits: PoolLimits
    ) -> None:
        self.hosts = tuple(hosts)
        self.name = ", ".join(map(str, self.hosts))
        self.limits = limits
        self.counters = PoolCounters()
        self.requests_wait = 0  # for a channel, of all users
        self._dialer = Dialer(credentials, host_keys, self.counters, limits)
        self._door = Door(limits, self.counters)
        self._opener = Opener(self.hosts, self._dialer, self.spawn)
        self.nodes = self._opener.nodes
        self._users: dict[str, PoolUser] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._closed = False

    async def __aenter__(self) -> Pool:
        self._watching = asyncio.create_task(self._watch(), name=f"pool of {self.name}")
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    # --- for sessions

    async def lease(
        self,
        identity: Identity,
        deadline: Deadline,
        since: float = ANY_TIME,
        kind: Kind = Kind.SHORT,
        *,
        again: bool = False,
        opens: type[SharedChannel] | None = None,
    ) -> Lease:
        """One channel of a connection, opened after the monotonic time `since` if that is possible.

        `again`: the server refused the last one, so the request keeps its place before the user's others.
        `opens`: a shared channel that is to be opened on it; OpenMeanwhile if another request of the user has done so.
        Raises Busy or Unavailable when none is free by the deadline, or when that is to be expected, and NothingSent
        when no connection can be opened.
        """
        user = self._users.get(identity.username) or self._users.setdefault(identity.username, PoolUser())
        user.identity = identity
        if not user.waiting and opens is None:  # the usual case of `decide`: the others' connections do not matter
            now, age = time.monotonic(), self.limits.age
            for connection in user.connections:
                if connection.accepts(now, age, since, kind):
                    return Lease(self, connection, kind)
        begun = again or since > ANY_TIME
        waiter = Waiter(asyncio.get_running_loop().create_future(), since, kind, deadline.at, opens, begun)
        if again:
            user.waiting.appendleft(waiter)
        else:
            user.waiting.append(waiter)
        self.requests_wait += 1
        try:
            self._serve(user)
            if not waiter.lease.done():
                line = self._without_connection() if user.dialing is None else []
                self._door.enter(user, waiter, self._users.values(), line)
            with phase("connect" if user.dialing is not None and not user.connections else "queue"):
                return await self._wait(user, waiter, deadline)
        finally:
            self.requests_wait -= 1

    async def _wait(self, user: PoolUser, waiter: Waiter, deadline: Deadline) -> Lease:
        lease = waiter.lease
        try:
            async with asyncio.timeout(deadline.left()):
                return await lease
        except BaseException as error:
            if lease.done() and not lease.cancelled() and lease.exception() is None:
                lease.result().release()
            elif waiter in user.waiting:
                user.waiting.remove(waiter)
            if isinstance(error, TimeoutError):
                raise none_free(user, time.monotonic(), self.limits.age, self._dialer.obstacle) from None
            raise

    def connections(self, identity: Identity, since: float = ANY_TIME, *, leased: bool = False) -> list[Connection]:
        """The user's connections whose shared channels may be used, opened after the monotonic time `since`.

        Where a server takes so few channels that the shared ones leave none to a command that waits, they are about
        to be closed; only a request that has waited, too, and has leased a channel may use them.
        """
        user = self._users.get(identity.username)
        if user is None:
            return []
        now, age = time.monotonic(), self.limits.age
        return [
            c
            for c in user.connections
            if c.usable(now, age, since) and (leased or not (user.waiting and c.full_of_shared))
        ]

    def suspect_if_silent(self, connection: Connection) -> None:
        """After a timeout: no new work for a connection whose server has stopped answering, until it answers."""
        if connection.suspect_if_silent(time.monotonic()):
            self.counters.replaced += 1

    def stats(self) -> Mapping[str, int]:
        """The gauges of now and the counters so far."""
        return {**gauges(self._users.values()), **asdict(self.counters)}

    def __repr__(self) -> str:
        numbers = ", ".join(f"{value} {name}" for name, value in self.stats().items())
        return "\n  ".join([f"<Pool {self.name}: {numbers}>", *map(repr, self.all_connections())])

    async def close(self) -> None:
        """Close every connection and end every task; waits at most a second for the servers' answers."""
        self._closed = True
        tasks = [*self._tasks, *(user.dialing for user in self._users.values() if user.dialing is not None)]
        if self._watching is not None:
            tasks.append(self._watching)
        for task in tasks:
            task.cancel()
        for user in self._users.values():
            user.fail(Unavailable("The gateway is shutting down"))
        connections = self.all_connections()
        for connection in connections:
            connection.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        await closed(connections)
        self._users.clear()

    # --- for leases

    def released(self, connection: Connection) -> None:
        """Serve requests that wait: a channel or a use of this connection has ended."""
        if not connection.busy and connection.recalled is not None:
            self._forget(connection)
            connection.close()
        self.freed(connection)
        if not connection.busy:
            self._serve_others()

    def freed(self, connection: Connection) -> None:
        """Serve the user's requests that wait: the connection has a free channel."""
        user = self._users.get(connection.user)
        if user is not None and user.waiting:
            self._serve(user)

    def refused(self, connection: Connection, *, no_process: bool) -> None:
        """The server refused the channel that was leased last: no further one for a pause."""
        limit, now = connection.limit, time.monotonic()
        limit.refuse(connection.channels - 1, now, no_process=no_process)
        self.counters.refusals += 1
        pause = limit.wait(now) or 0.0
        fields = {"host": str(connection.host), "user": connection.user, "open": connection.channels - 1}
        logger.info("channel refused", extra={"fields": {**fields, "pause_s": pause, "no_process": no_process}})
        asyncio.get_running_loop().call_later(pause, self.freed, connection)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task that outlives its request; `close` cancels it."""
        task = asyncio.create_task(work, name=BACKGROUND)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- deciding and serving

    def _serve(self, user: PoolUser) -> None:
        """Serve the user's requests that wait, in order, as far as possible now."""
        blocked: set[Kind] = set()
        for waiter in tuple(user.waiting):
            if self._closed or len(blocked) == len(Kind):
                return
            if waiter.lease.done():
                user.waiting.remove(waiter)
                continue
            if opened_for_another(user, waiter, time.monotonic(), self.limits.age) or waiter.kind in blocked:
                continue
            decision, index = decision_for(user, waiter, self._users.values(), self.limits)
            if decision is Decision.USE:
                user.waiting.remove(waiter)
                self._door.served(user, waiter)
                waiter.lease.set_result(Lease(self, user.connections[index], waiter.kind, waiter.opens))
                continue
            # without a free channel nothing behind it gets one; without a free share, no longer command
            blocked.update(kind for kind in Kind if kind.value >= waiter.kind.value)
            if not any(connection.accepts(time.monotonic(), self.limits.age) for connection in user.connections):
                blocked.update(Kind)
            self._open_or_wait(user, decision)

    def _open_or_wait(self, user: PoolUser, decision: Decision) -> None:
        if decision is Decision.EVICT and (victim := idle_longest(self.all_connections())) is not None:
            self._forget(victim)
            victim.close()
        if decision in {Decision.OPEN, Decision.EVICT} and user.identity is not None:
            self._open(user, user.identity)
        elif user.dialing is None:
            make_room(user)
            self._recall()

    def _open(self, user: PoolUser, identity: Identity, *, replaces: bool = False) -> None:
        if not replaces:
            self._door.connecting(user)
        user.host = None
        user.dialing = asyncio.create_task(self._dial(user, identity, replaces=replaces))

    def _replace_ahead(self, user: PoolUser, now: float) -> None:
        """Open a connection before the user's last one gets no new work, if nobody waits for its place."""
        if user.identity is None or not replacement_due(user, now, self.limits):
            return
        if total_of(self._users.values()) < self.limits.max_clients:
            self._open(user, user.identity, replaces=True)

    def _serve_others(self) -> None:
        """Serve users who have no connection, those who wait longest first: one may be opened now."""
        for user in self._without_connection():
            self._serve(user)

    def _without_connection(self) -> list[PoolUser]:
        return without_connection(self._users.values(), time.monotonic(), self.limits.age)

    def _recall(self) -> None:
        """Take connections from their users for those who wait without one, or give them back."""
        recall(self.all_connections(), len(self._without_connection()), time.monotonic())

    # --- opening and closing connections

    async def _dial(self, user: PoolUser, identity: Identity, *, replaces: bool) -> None:
        failure: GatewayError | None = None
        try:
            connection = await self._opener.connect(user, identity, self._open_now)
            connection.on_free(self.freed)
            connection.transport.on_lost(partial(self._lost, connection))
            if connection.lost:
                raise LoginLost("The SSH connection was lost")
            if replaces:
                user.retire()
            user.connections.append(connection)
            user.forget_turns()
            self.counters.opened += 1
        except GatewayError as error:
            failure = error
        except Exception as error:
            logger.exception("connecting failed", extra={"fields": {"host": str(user.host)}})
            failure = NothingSent(f"SSH to {user.host} failed", detail=type(error).__name__)
        finally:
            user.dialing = None
        self._dialed(user, failure)
        self._serve(user)

    def _open_now(self) -> tuple[list[Connection], list[Host]]:
        opening = [user.host for user in self._users.values() if user.dialing is not None and user.host is not None]
        return self.all_connections(), opening

    def _dialed(self, user: PoolUser, failure: GatewayError | None) -> None:
        """Note how opening a connection ended; after a failure no further one for a pause, if there are others."""
        now, age = time.monotonic(), self.limits.age
        user.failure = failure
        user.failures = user.failures + 1 if failure is not None else 0
        if failure is None:
            return
        self._door.not_connected()
        # a suspected one may answer again, before another can be opened
        if not any(c.usable(now, age) or (c.suspected and not c.lost) for c in user.connections):
            user.fail(failure)
        else:
            pause = nth(DIAL_PAUSES, user.failures)
            user.dial_after = now + pause
            asyncio.get_running_loop().call_later(pause, self._serve, user)

    def _lost(self, connection: Connection) -> None:
        """Forget a lost connection and serve the requests that wait over another."""
        if self._forget(connection) and connection.busy and not connection.suspected:
            self.counters.replaced += 1
        self.freed(connection)
        self._serve_others()

    def _forget(self, connection: Connection) -> bool:
        user = self._users.get(connection.user)
        if user is None or connection not in user.connections:
            return False
        user.connections.remove(connection)
        user.forget_turns()
        return True

    async def _watch(self) -> None:
        """Test silent connections; once per tick, look after the users. With several nodes, test more often."""
        tick, due = self.limits.tick, 0.0
        while True:
            await asyncio.sleep(min(tick, NODES_TICK) if self.nodes.several else tick)
            now = time.monotonic()
            self._test_silent(now, all_of_them=now >= due)
            if now >= due:
                due = now + tick - 0.01
                self._look_after_users(now)

    def _test_silent(self, now: float, *, all_of_them: bool) -> None:
        for user in self._users.values():
            for connection in user.connections:
                if (all_of_them or connection.busy) and connection.watch(now):
                    self.counters.replaced += connection.suspected
                    if connection.suspected:
                        self._opener.suspect(connection, self.all_connections())
                    user.forget_turns()
                    self._serve(user)  # without it, or with it again

    def _look_after_users(self, now: float) -> None:
        """Replace old connections and close those that are idle or old; move users to better nodes."""
        for name, user in list(self._users.items()):
            for connection in list(user.connections):
                if turn_over(connection, now, self.limits):
                    self._forget(connection)
                    connection.close()
                state = connection.state(now, self.limits.age)
                if expired(state, self.limits) and not hoped_for(connection, user):
                    self._forget(connection)
                    connection.close()
            self._replace_ahead(user, now)
            if not user.connections and not user.waiting and user.dialing is None:
                del self._users[name]
        self._dialer.prune()
        self._opener.test_nodes()
        self._leave_nodes(now)
        self._serve_others()
        self._recall()

    def _leave_nodes(self, now: float) -> None:
        """Open connections on better nodes for users of nodes that are slow or crowded; of these one at a time."""
        nodes = self.nodes.leaving(*self._open_now())
        for user in leavers(list(self._users.values()), nodes, now, self.limits) if nodes else ():
            if user.identity is not None and total_of(self._users.values()) < self.limits.max_clients:
                self._open(user, user.identity, replaces=True)

    def all_connections(self) -> list[Connection]:
        return [connection for user in self._users.values() for connection in user.connections]
