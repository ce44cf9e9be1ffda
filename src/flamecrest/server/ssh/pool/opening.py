"""Opening a connection on one of a cluster's login nodes: on the next one where a node does not take it.

Also the tests by which nodes that are down are found to be back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from flamecrest.server.ssh.errors import (
    CredentialsFailed,
    CredentialsRefused,
    CredentialsUnavailable,
    LoginRefused,
    LoginTimeout,
    NothingSent,
    Unreachable,
)
from flamecrest.server.ssh.login_memory import Expiring
from flamecrest.server.ssh.nodes.identification import identifies
from flamecrest.server.ssh.nodes.node import MOMENT, NODE
from flamecrest.server.ssh.nodes.table import Nodes

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity
    from flamecrest.server.ssh.nodes.node import Node

    from .connection import Connection
    from .dial import Dialer
    from .host import Host
    from .users import PoolUser

NOT_THE_NODE = (LoginRefused, CredentialsFailed, CredentialsRefused, CredentialsUnavailable)

UNCONFIRMED: Final = 600.0  # seconds for which a user's silent connections are no sign of a silent node
CONFIRMED: Final = 0.4  # seconds in which others of the node must answer then

Spawn = Callable[[Coroutine[Any, Any, None]], None]


class Opener:
    """Opens the connections of one pool. `spawn` runs a task of the pool."""

    def __init__(self, hosts: Iterable[Host], dialer: Dialer, spawn: Spawn) -> None:
        self.nodes = Nodes(tuple(hosts), dialer.paused)
        self._dialer = dialer
        self._spawn = spawn
        self._tested: set[Node] = set()
        self._unconfirmed: Expiring[bool] = Expiring()  # users whose connections were silent on a node that answers
        self._accusers: dict[Node, str] = {}  # the user whose connection was silent first

    async def connect(
        self, user: PoolUser, identity: Identity, open_now: Callable[[], tuple[list[Connection], list[Host]]]
    ) -> Connection:
        """A connection of that user on the best node.

        `open_now` gives the pool's connections, and the hosts of those that are being opened. Raises as
        `Dialer.connect`, after every node that may be tried was tried.
        """
        if self.nodes.to_be_resolved():
            if self.nodes.resolved:
                self._spawn(self.nodes.resolve())
            else:
                await self.nodes.resolve()
        tried: set[Node] = set()
        while True:
            node = self._next(user, open_now, tried)
            tried.add(node)
            user.host = node.host
            others = len(tried) < len(self.nodes.all)
            try:
                return await self._log_in(node, identity, user, others=others)
            except NothingSent as error:
                if isinstance(error, NOT_THE_NODE):
                    raise
                if isinstance(error, Unreachable) or not isinstance(error, LoginTimeout):
                    self.nodes.failed(node, error)  # a login that hangs after the greeting may be one user's matter
                if not others or user.patience() <= time.monotonic():
                    raise

    def _next(
        self,
        user: PoolUser,
        open_now: Callable[[], tuple[list[Connection], list[Host]]],
        tried: set[Node],
    ) -> Node:
        connections, opening = open_now()
        silent = {one.node for one in user.connections if one.suspected}
        for without in (tried | silent, tried):
            if (found := self.nodes.choose(connections, opening, user.connections, without)) is not None:
                return found
        return self.nodes.all[0]

    async def _log_in(self, node: Node, identity: Identity, user: PoolUser, *, others: bool) -> Connection:
        connection = await self._dialer.connect(identity, node.host, user.patience, others=others)
        if self.nodes.several:
            connection.node, connection.measured = node, True
            connection.liveness.hurry()
            if not node.silent:
                self.nodes.answers(node)
        return connection

    # --- nodes that are down

    def suspect(self, connection: Connection, connections: Iterable[Connection]) -> None:
        """A connection got no answer: its node is down until one of its connections is heard.

        The processes of a connection are its user's, who may stop them. So a user whose connection was silent while
        the node answered is believed no more for a while, unless others get no answer either.
        """
        node = connection.node
        if node is NODE:
            return
        there = [one for one in connections if one.node is node and not one.lost]
        if connection.user in self._unconfirmed:
            self._spawn(self._confirm(connection, [one for one in there if one is not connection]))
        else:
            self._silent(connection, there)

    def _silent(self, connection: Connection, there: Iterable[Connection]) -> None:
        node = connection.node
        if not self.nodes.silent(node):
            return
        self._accusers[node] = connection.user
        for one in there:
            self._spawn(self._listen(one, node))

    async def _confirm(self, connection: Connection, others: Sequence[Connection]) -> None:
        """Ask the other connections of the node. Without others there, nobody has to be moved."""
        asked = [asyncio.ensure_future(one.transport.answered()) for one in others]
        if not asked:
            return
        try:
            answered, _ = await asyncio.wait(asked, timeout=CONFIRMED, return_when=asyncio.FIRST_COMPLETED)
            if connection.suspected and all(one.exception() is not None for one in answered):
                self._silent(connection, [connection, *others])
        finally:
            for one in asked:
                one.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def _listen(self, connection: Connection, node: Node) -> None:
        """Wait for an answer on a connection of a node that is down."""
        await connection.transport.answered()
        if not connection.lost:
            self._answers(node)

    def _answers(self, node: Node) -> None:
        """A node that is down has answered: what was silent for a moment only was perhaps one user's matter."""
        accuser = self._accusers.pop(node, None)
        if accuser is not None and node.silent and time.monotonic() - node.since < MOMENT:
            self._unconfirmed.set(accuser, value=True, seconds=UNCONFIRMED)
        self.nodes.answers(node)

    def test_nodes(self) -> None:
        """Begin the tests that are due, of nodes that are down."""
        now = time.monotonic()
        for node in self.nodes.all:
            if node.may_be_tried(now) and node not in self._tested:
                self._tested.add(node)
                self._spawn(self._test(node))

    async def _test(self, node: Node) -> None:
        host = node.host
        try:
            # a node behind a jump host can be tested by a login only
            if host.proxy_host is not None or await identifies(host, host.connect_timeout):
                self._answers(node)
            else:
                node.down(node.reason or "", time.monotonic())
        finally:
            self._tested.discard(node)
