"""The connections of one cluster: leases on channels, opening, closing and waiting. Decisions are made in policy.py.

It knows neither commands nor SFTP.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from flamecrest.server.errors import Busy, GatewayError, Unavailable, Upstream
from flamecrest.server.ssh.counters import PoolCounters
from flamecrest.server.ssh.errors import Lost
from flamecrest.server.telemetry.trace import phase

from .connection import Connection
from .dial import Dialer
from .policy import Decision, PoolLimits, choose_host, decide, expired

if TYPE_CHECKING:
    from types import TracebackType

    from flamecrest.server.auth.port import Identity
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.credentials import Credentials
    from flamecrest.server.ssh.host_keys import HostKeyVerifier

    from .host import Host

logger = logging.getLogger(__name__)


class Lease:
    """One channel of a connection. Call `release` or `release_after` once."""

    __slots__ = ("_pool", "connection")

    def __init__(self, pool: Pool, connection: Connection) -> None:
        self._pool = pool
        self.connection = connection
        connection.begin_channel()

    def accepted(self) -> None:
        """Note that the server has opened the channel."""
        if self.connection.channel_accepted():
            self._pool.freed(self.connection)

    def refused(self) -> None:
        """Note that the server has refused the channel, and release it."""
        self._pool.learn(self.connection)
        self.release()

    def release(self) -> None:
        """Give the channel back."""
        self.connection.end_channel()
        if self._pool.requests_wait:
            self._pool.released(self.connection)

    def release_after(self, cleanup: Coroutine[Any, Any, None]) -> None:
        """Give the channel back when the clean-up has ended, which may outlive the request."""

        async def finish() -> None:
            try:
                await cleanup
            finally:
                self.release()

        self._pool.spawn(finish())


class SharedUse:
    """One use of a connection's shared channels, for a `with` block. It needs no free channel."""

    __slots__ = ("_pool", "connection")

    def __init__(self, pool: Pool, connection: Connection) -> None:
        self._pool = pool
        self.connection = connection
        connection.begin_use()

    def __enter__(self) -> Connection:
        return self.connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.end_use()
        if self._pool.requests_wait:
            self._pool.released(self.connection)


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    lease: asyncio.Future[Lease]
    since: float


@dataclass(slots=True)
class _User:
    connections: list[Connection] = field(default_factory=list)
    waiting: deque[_Waiter] = field(default_factory=deque)
    dialing: asyncio.Task[None] | None = None
    host: Host | None = None  # dialed last
    identity: Identity | None = None


class Pool:
    """The connections of one cluster by user. An async context manager that closes them at the end.

    `hosts` are the cluster's login nodes; each connection leads to the one that the policy chooses.
    """

    def __init__(
        self, hosts: Sequence[Host], credentials: Credentials, host_keys: HostKeyVerifier, limits: PoolLimits
    ) -> None:
        self.hosts = tuple(hosts)
        self.limits = limits
        self.counters = PoolCounters()
        self.requests_wait = 0  # for a channel, of all users
        self._dialer = Dialer(credentials, host_keys, self.counters, limits.max_sessions)
        self._users: dict[str, _User] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._closed = False

    async def __aenter__(self) -> Pool:
        self._watching = asyncio.create_task(self._watch(), name=f"pool of {self._name}")
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    # --- for sessions

    async def lease(self, identity: Identity, deadline: Deadline, since: float = 0.0) -> Lease:
        """One channel of a connection, opened after the monotonic time `since` if that is possible.

        Raises Busy or Unavailable when none is free by the deadline, Upstream when no connection can be opened.
        """
        user = self._users.get(identity.username) or self._users.setdefault(identity.username, _User())
        user.identity = identity
        if not user.waiting:  # the usual case of `decide`, for which the connections of others need not be counted
            now, age = time.monotonic(), self.limits.age
            for connection in user.connections:
                if connection.accepts(now, age, since):
                    return Lease(self, connection)
        waiter = _Waiter(asyncio.get_running_loop().create_future(), since)
        user.waiting.append(waiter)
        self.requests_wait += 1
        try:
            self._serve(user)
            with phase("queue"):
                return await self._wait(user, waiter, deadline)
        finally:
            self.requests_wait -= 1

    async def _wait(self, user: _User, waiter: _Waiter, deadline: Deadline) -> Lease:
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
                raise self._none_free(user) from None
            raise

    def connections(self, identity: Identity, since: float = 0.0) -> list[Connection]:
        """The user's connections whose shared channels may be used, opened after the monotonic time `since`.

        Where a server takes so few channels that the shared ones leave none to a command that waits, they are about
        to be closed.
        """
        user = self._users.get(identity.username)
        if user is None:
            return []
        now, age = time.monotonic(), self.limits.age
        return [c for c in user.connections if c.usable(now, age, since) and not (user.waiting and c.full_of_shared)]

    def retire_if_silent(self, connection: Connection) -> None:
        """After a timeout: send no new work over a connection whose server has stopped answering."""
        if connection.silent(time.monotonic()) and not connection.retired:
            connection.retired = True
            self.counters.replaced += 1

    def stats(self) -> Mapping[str, int]:
        """The gauges of now and the counters so far."""
        users = self._users.values()
        connections = self._all()
        return {
            "connections": len(connections),
            "idle": sum(not c.busy for c in connections),
            "channels": sum(c.channels for c in connections),
            "shared": sum(c.uses for c in connections),
            "waiting": sum(len(user.waiting) for user in users),
            "dialing": sum(user.dialing is not None for user in users),
            **asdict(self.counters),
        }

    def __repr__(self) -> str:
        numbers = ", ".join(f"{value} {name}" for name, value in self.stats().items())
        each = "".join(f"\n  {connection!r}" for connection in self._all())
        return f"<Pool {self._name}: {numbers}{each}>"

    async def close(self) -> None:
        """Close every connection and end every task; waits at most a second for the servers' answers."""
        self._closed = True
        tasks = [*self._tasks, *(user.dialing for user in self._users.values() if user.dialing is not None)]
        if self._watching is not None:
            tasks.append(self._watching)
        for task in tasks:
            task.cancel()
        for user in self._users.values():
            self._fail(user, Unavailable("The gateway is shutting down"))
        connections = self._all()
        for connection in connections:
            connection.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        closing = [asyncio.ensure_future(c.transport.raw.wait_closed()) for c in connections]
        if closing:
            _, late = await asyncio.wait(closing, timeout=1.0)
            for task in late:
                task.cancel()
            for connection in connections:
                connection.transport.abort()
        self._users.clear()

    # --- for leases

    def released(self, connection: Connection) -> None:
        """Serve requests that wait: a channel or a use of this connection has ended."""
        self.freed(connection)
        if not connection.busy:
            self._serve_others()

    def freed(self, connection: Connection) -> None:
        """Serve the user's requests that wait: the connection has a free channel."""
        user = self._users.get(connection.user)
        if user is not None and user.waiting:
            self._serve(user)

    def learn(self, connection: Connection) -> None:
        """Learn from the refusal of a channel how many the host takes."""
        limit = connection.channel_refused()
        self._dialer.learn(connection.host, limit)
        self.counters.refusals += 1
        logger.info("channel limit learned", extra={"fields": {"host": str(connection.host), "limit": limit}})

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a short task that outlives its request; `close` cancels it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- deciding and serving

    def _decide(self, user: _User, since: float) -> tuple[Decision, int]:
        now = time.monotonic()
        states = [connection.state(now, self.limits.age) for connection in user.connections]
        return decide(
            states,
            self.limits,
            max_age=now - since if since else float("inf"),
            dialing=user.dialing is not None,
            total=sum(len(u.connections) + (u.dialing is not None) for u in self._users.values()),
            evictable=self._idle_longest() is not None,
        )

    def _serve(self, user: _User) -> None:
        """Serve the user's requests that wait, in order, as far as possible now."""
        while user.waiting and not self._closed:
            waiter = user.waiting[0]
            if waiter.lease.done():
                user.waiting.popleft()
                continue
            decision, index = self._decide(user, waiter.since)
            if decision is Decision.USE:
                user.waiting.popleft()
                waiter.lease.set_result(Lease(self, user.connections[index]))
                continue
            if decision is Decision.EVICT and (victim := self._idle_longest()) is not None:
                self._forget(victim)
                victim.close()
            if decision in {Decision.OPEN, Decision.EVICT} and user.identity is not None:
                user.host = choose_host(self.hosts, Counter(connection.host for connection in self._all()))
                user.dialing = asyncio.create_task(self._dial(user, user.identity, user.host))
            elif user.dialing is None:
                self._make_room(user)
            return

    @staticmethod
    def _make_room(user: _User) -> None:
        """Close a shared channel where a server takes so few that these leave none to commands."""
        for connection in user.connections:
            if connection.full_of_shared and not connection.lost:
                connection.close_shared()
                return

    def _serve_others(self) -> None:
        """Serve users who have no connection yet: one may be opened now."""
        for user in self._users.values():
            if user.waiting and user.dialing is None and not user.connections:
                self._serve(user)

    def _idle_longest(self) -> Connection | None:
        idle = [connection for connection in self._all() if not connection.busy]
        return min(idle, key=lambda connection: connection.idle_since, default=None)

    def _fail(self, user: _User, error: GatewayError) -> None:
        """Fail all the user's requests that wait."""
        waiting, user.waiting = user.waiting, deque()
        for waiter in waiting:
            if not waiter.lease.done():
                # a copy for each: a traceback belongs to one request
                copy = type(error)(error.public, detail=error.detail, retry_after=error.retry_after)
                waiter.lease.set_exception(copy)

    def _none_free(self, user: _User) -> GatewayError:
        if user.connections:
            return Busy("All your connections to the cluster are in use; try again in a moment")
        if user.dialing is not None:
            return Upstream(f"SSH to {user.host} failed: no answer in time")
        return Unavailable("The gateway has no free connection to this cluster", retry_after=2.0)

    # --- opening and closing connections

    async def _dial(self, user: _User, identity: Identity, host: Host) -> None:
        failure: GatewayError | None = None
        try:
            connection = await self._dialer.connect(identity, host)
            connection.on_free(self.freed)
            connection.transport.on_lost(partial(self._lost, connection))
            if connection.lost:
                raise Lost("The SSH connection was lost")
            user.connections.append(connection)
            self.counters.opened += 1
        except GatewayError as error:
            failure = error
        except Exception as error:
            logger.exception("connecting failed", extra={"fields": {"host": str(host)}})
            failure = Upstream(f"SSH to {host} failed", detail=type(error).__name__)
        finally:
            user.dialing = None
        now, age = time.monotonic(), self.limits.age
        if failure is not None and not any(c.usable(now, age) for c in user.connections):
            self._fail(user, failure)
        self._serve(user)

    def _lost(self, connection: Connection) -> None:
        """Forget a lost connection and serve the requests that wait over another."""
        if self._forget(connection) and connection.busy:
            self.counters.replaced += 1
        self.freed(connection)
        self._serve_others()

    def _forget(self, connection: Connection) -> bool:
        user = self._users.get(connection.user)
        if user is None or connection not in user.connections:
            return False
        user.connections.remove(connection)
        return True

    async def _watch(self) -> None:
        """Test silent connections and close those that are idle or old, once per tick."""
        while True:
            await asyncio.sleep(self.limits.tick)
            now = time.monotonic()
            for name, user in list(self._users.items()):
                for connection in list(user.connections):
                    connection.watch(now)
                    if expired(connection.state(now, self.limits.age), self.limits):
                        self._forget(connection)
                        connection.close()
                if not user.connections and not user.waiting and user.dialing is None:
                    del self._users[name]
            self._serve_others()

    def _all(self) -> list[Connection]:
        return [connection for user in self._users.values() for connection in user.connections]

    @property
    def _name(self) -> str:
        return ", ".join(map(str, self.hosts))
