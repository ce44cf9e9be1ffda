"""The pool of one cluster: which connection a request goes over, when one is opened, and when one is closed.

It acts on the decisions of choosing.py. It knows neither commands nor SFTP.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Coroutine, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Busy, GatewayError, Unavailable, Upstream
from flamecrest.server.ssh.errors import Lost
from flamecrest.server.telemetry.trace import phase

from .connection import Connection, Traffic
from .dial import dial
from .policy import ConnectionState, Decision, PoolLimits, Wish, choose, expired, ready

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity
    from flamecrest.server.ssh.credentials import Credentials
    from flamecrest.server.ssh.host_keys import HostKeyVerifier

    from .dial import Host

logger = logging.getLogger(__name__)

DIALS = 8  # logins under way at once: sshd's MaxStartups (10:30:100 by default) drops some beyond ten
DIAL_RETRIES = (0.1, 0.3, 0.9)  # seconds before a login that the server dropped is tried again
OPENSSH_MAX_SESSIONS = 10  # OpenSSH's default, and where learning starts
LEARNED_FOR = 600.0  # seconds for which a limit learned from a refusal is believed of new connections


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    future: asyncio.Future[Connection]
    shared: bool
    since: float


@dataclass(slots=True)
class _User:
    connections: list[Connection] = field(default_factory=list)
    waiting: deque[_Waiter] = field(default_factory=deque)
    dialing: asyncio.Task[None] | None = None
    identity: Identity | None = None


class Pool:
    """The connections of one cluster, by user. An async context manager; leaving it closes them all."""

    def __init__(self, host: Host, credentials: Credentials, host_keys: HostKeyVerifier, rules: PoolLimits) -> None:
        self.host = host
        self.rules = rules
        self._credentials = credentials
        self._host_keys = host_keys
        self._users: dict[str, _User] = {}
        self._gate = asyncio.Semaphore(DIALS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._learned: tuple[int, float] | None = None
        self._tending: asyncio.Task[None] | None = None
        self._closed = False
        self.opened = self.replaced = self.refusals = 0
        self.traffic = Traffic()

    async def __aenter__(self) -> Pool:
        self._tending = asyncio.create_task(self._tend(), name=f"pool of {self.host}")
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    # --- what sessions ask

    async def lease(
        self, identity: Identity, deadline: Deadline, *, shared: bool = False, since: float = 0.0
    ) -> Connection:
        """A connection with one channel (or one shared use) counted for the caller, who must `release` it.

        One opened after the monotonic time `since` if there can be one. Raises Busy or Unavailable when none came
        free in time, Upstream when none can be opened.
        """
        user = self._users.get(identity.username) or self._users.setdefault(identity.username, _User())
        user.identity = identity
        if not user.waiting:
            act, at = self._choose(user, shared, since)
            if act is Decision.USE:
                return self._take(user.connections[at], shared=shared)
        waiter = _Waiter(asyncio.get_running_loop().create_future(), shared, since)
        user.waiting.append(waiter)
        self._pump(user)
        with phase("queue"):
            return await self._served(user, waiter, deadline)

    async def _served(self, user: _User, waiter: _Waiter, deadline: Deadline) -> Connection:
        future = waiter.future
        try:
            async with asyncio.timeout(deadline.left()):
                return await future
        except BaseException as error:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.release(future.result(), shared=waiter.shared)
            elif waiter in user.waiting:
                user.waiting.remove(waiter)
            if isinstance(error, TimeoutError):
                raise self._full(user) from None
            raise

    def release(self, connection: Connection, *, shared: bool = False) -> None:
        """Give a lease back."""
        if shared:
            connection.shared -= 1
        else:
            connection.channels -= 1
        connection.idle_since = time.monotonic()
        user = self._users.get(connection.user)
        if user is not None and user.waiting:
            self._pump(user)
        if not connection.busy:
            self._feed_others()

    def refused(self, connection: Connection) -> None:
        """Learn from the server's refusal of a channel that the caller leases (and still has to release)."""
        self.refusals += 1
        connection.limit = max(1, connection.channels - 1)
        connection.limit_known = True
        self._learned = (connection.limit, time.monotonic())
        logger.info("channel limit learned", extra={"fields": {"host": str(self.host), "limit": connection.limit}})

    def confirmed(self, connection: Connection) -> None:
        """The server took a channel: where its limit is not known yet, one more may be tried."""
        if not connection.limit_known and connection.channels >= connection.limit:
            connection.limit += 1
            user = self._users.get(connection.user)
            if user is not None:
                self._pump(user)

    def retire(self, connection: Connection) -> None:
        """Send no new work over a connection whose server has stopped answering."""
        if not connection.retired:
            connection.retired = True
            self.replaced += 1

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a short clean-up that outlives its request."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stats(self) -> Mapping[str, int]:
        connections = [c for user in self._users.values() for c in user.connections]
        return {
            "connections": len(connections),
            "idle": sum(not c.busy for c in connections),
            "channels": sum(c.channels for c in connections),
            "shared": sum(c.shared for c in connections),
            "waiting": sum(len(user.waiting) for user in self._users.values()),
            "dialing": sum(user.dialing is not None for user in self._users.values()),
            "opened": self.opened,
            "replaced": self.replaced,
            "refusals": self.refusals,
            **asdict(self.traffic),
        }

    def __repr__(self) -> str:
        numbers = ", ".join(f"{value} {name}" for name, value in self.stats().items())
        each = "".join(f"\n  {c!r}" for user in self._users.values() for c in user.connections)
        return f"<Pool {self.host}: {numbers}{each}>"

    async def close(self) -> None:
        """Close every connection and end every task; waits a moment for the servers to hear of it."""
        self._closed = True
        tasks = [*self._tasks, *(user.dialing for user in self._users.values() if user.dialing is not None)]
        if self._tending is not None:
            tasks.append(self._tending)
        for task in tasks:
            task.cancel()
        for user in self._users.values():
            self._fail(user, Unavailable("The gateway is shutting down"))
        connections = [c for user in self._users.values() for c in user.connections]
        for connection in connections:
            connection.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        closing = [asyncio.ensure_future(c.raw.wait_closed()) for c in connections]
        if closing:
            _, late = await asyncio.wait(closing, timeout=1.0)
            for task in late:
                task.cancel()
            for connection in connections:
                connection.drop()
        self._users.clear()

    # --- decisions made and carried out

    def _view(self, connection: Connection) -> ConnectionState:
        now = time.monotonic()
        age = now - connection.opened
        return ConnectionState(
            connection.limit - connection.channels,
            connection.standing,
            connection.busy,
            not (connection.lost or connection.retired or age >= self.rules.age),
            now - connection.idle_since,
            age,
        )

    def _choose(self, user: _User, shared: bool, since: float) -> tuple[Decision, int]:
        views = [self._view(c) for c in user.connections]
        wish = Wish(shared, time.monotonic() - since) if since else Wish(shared)
        if (at := ready(views, wish)) is not None:
            return Decision.USE, at  # nearly always: only where there is none do all the others' connections count
        return choose(
            views,
            wish,
            opening=user.dialing is not None,
            total=sum(len(u.connections) + (u.dialing is not None) for u in self._users.values()),
            evictable=self._idlest() is not None,
            rules=self.rules,
        )

    def _take(self, connection: Connection, *, shared: bool) -> Connection:
        now = time.monotonic()
        if not connection.busy:
            connection.heard = now  # silence counts from the first question on
        if shared:
            connection.shared += 1
        else:
            connection.channels += 1
        return connection

    def _pump(self, user: _User) -> None:
        """Serve those who wait, in order, as far as it goes now."""
        while user.waiting and not self._closed:
            waiter = user.waiting[0]
            if waiter.future.done():
                user.waiting.popleft()
                continue
            act, at = self._choose(user, waiter.shared, waiter.since)
            if act is Decision.USE:
                user.waiting.popleft()
                waiter.future.set_result(self._take(user.connections[at], shared=waiter.shared))
                continue
            if act is Decision.EVICT and (victim := self._idlest()) is not None:
                self._forget(victim)
                victim.close()
            if act in {Decision.OPEN, Decision.EVICT} and user.identity is not None:
                user.dialing = asyncio.create_task(self._dial(user, user.identity))
            elif user.dialing is None:
                self._make_room(user)
            return

    @staticmethod
    def _make_room(user: _User) -> None:
        """Where a server takes so few channels that the standing ones fill it, they give way to commands."""
        for connection in user.connections:
            if connection.channels == connection.standing >= connection.limit and not connection.lost:
                connection.yield_standing()
                return

    def _feed_others(self) -> None:
        for user in self._users.values():
            if user.waiting and user.dialing is None and not user.connections:
                self._pump(user)

    def _idlest(self) -> Connection | None:
        idle = [c for user in self._users.values() for c in user.connections if not c.busy]
        return min(idle, key=lambda c: c.idle_since, default=None)

    async def _dial(self, user: _User, identity: Identity) -> None:
        failure: GatewayError | None = None
        try:
            connection = await self._connect(identity)
            connection.on_lost, connection.on_free = self._gone, self._freed
            connection.traffic = self.traffic
            if connection.lost:
                raise Lost("The SSH connection was lost")
            user.connections.append(connection)
            self.opened += 1
        except GatewayError as error:
            failure = error
        except Exception as error:
            logger.exception("connecting failed", extra={"fields": {"host": str(self.host)}})
            failure = Upstream(f"SSH to {self.host} failed", detail=type(error).__name__)
        finally:
            user.dialing = None
        if failure is not None and not any(self._view(c).usable for c in user.connections):
            self._fail(user, failure)
        self._pump(user)

    async def _connect(self, identity: Identity) -> Connection:
        patience = self.host.connect_timeout + self.host.login_timeout
        keys = await self._credentials.keys(identity, Deadline.after(patience))
        for pause in (*DIAL_RETRIES, None):
            try:
                async with self._gate:
                    connection = await dial(self.host, identity.username, keys, self._host_keys)
                    connection.limit, connection.limit_known = self._limit()
                    return connection
            except Lost:
                # dropped before the login was through: MaxStartups does that at random
                if pause is None:
                    raise
                await asyncio.sleep(pause)
        raise AssertionError  # pragma: no cover - the loop returns or raises

    def _limit(self) -> tuple[int, bool]:
        """How many channels a new connection takes, and whether that is known or to be tried out from there."""
        if self.rules.max_sessions is not None:
            return self.rules.max_sessions, True
        if self._learned is not None and time.monotonic() - self._learned[1] < LEARNED_FOR:
            return self._learned[0], True
        return OPENSSH_MAX_SESSIONS, False

    def _gone(self, connection: Connection) -> None:
        """A connection was lost: forget it and serve those who wait by another."""
        if self._forget(connection) and connection.busy:
            self.replaced += 1
        user = self._users.get(connection.user)
        if user is not None:
            self._pump(user)
        self._feed_others()

    def _freed(self, connection: Connection) -> None:
        user = self._users.get(connection.user)
        if user is not None:
            self._pump(user)

    def _forget(self, connection: Connection) -> bool:
        user = self._users.get(connection.user)
        if user is None or connection not in user.connections:
            return False
        user.connections.remove(connection)
        return True

    def _fail(self, user: _User, error: GatewayError) -> None:
        waiting, user.waiting = user.waiting, deque()
        for waiter in waiting:
            if not waiter.future.done():
                # one copy each: a traceback belongs to one request
                waiter.future.set_exception(
                    type(error)(error.public, detail=error.detail, retry_after=error.retry_after)
                )

    def _full(self, user: _User) -> GatewayError:
        if user.connections:
            return Busy("All your connections to the cluster are in use; try again in a moment")
        if user.dialing is not None:
            return Upstream(f"SSH to {self.host} failed: no answer in time")
        return Unavailable("The gateway has no free connection to this cluster", retry_after=2.0)

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(self.rules.tick)
            now = time.monotonic()
            for name, user in list(self._users.items()):
                for connection in list(user.connections):
                    connection.watch(now, self.host.keep_alive)
                    if expired(self._view(connection), self.rules):
                        self._forget(connection)
                        connection.close()
                if not user.connections and not user.waiting and user.dialing is None:
                    del self._users[name]
            self._feed_others()
