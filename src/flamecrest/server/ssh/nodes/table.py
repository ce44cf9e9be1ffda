"""The login nodes of one pool: which one a connection is opened on, and which ones its users leave.

It knows nodes and connections. It opens none: the pool acts on what it says.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .addresses import expanded
from .choice import NodeView, choose, leaves
from .node import Health, Node, is_slow, slowness

if TYPE_CHECKING:
    from flamecrest.server.errors import GatewayError
    from flamecrest.server.ssh.pool.connection import Connection
    from flamecrest.server.ssh.pool.host import Host

logger = logging.getLogger(__name__)

REFRESH: Final = 30.0  # seconds after which names are resolved again


@dataclass(frozen=True, slots=True)
class NodeReport:
    """One node, for `/status/systems` and logs. `since` is the number of seconds for which it is in that state."""

    host: Host
    health: Health
    since: float
    reason: str | None
    connections: int
    in_flight: int


class Nodes:
    """The login nodes. `closed` says of a host whether logins on it are to wait."""

    def __init__(
        self, hosts: Sequence[Host], closed: Callable[[Host], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._configured = tuple(hosts)
        self._closed = closed
        self._clock = clock
        self._resolved: float | None = None
        self.all = [Node(host, clock()) for host in hosts]

    @property
    def several(self) -> bool:
        """Whether there is more than one."""
        return len(self.all) > 1

    @property
    def resolved(self) -> bool:
        """Whether the names have been resolved."""
        return self._resolved is not None

    def to_be_resolved(self) -> bool:
        """Whether it is time to resolve the names; true once per period."""
        now = self._clock()
        if self._resolved is not None and now - self._resolved < REFRESH:
            return False
        if self._resolved is not None:
            self._resolved = now
        return True

    async def resolve(self) -> None:
        """Resolve the names: an address that is new is a new node; connections to one that is gone get no new work."""
        self.use(await expanded(self._configured))
        self._resolved = self._clock()

    def use(self, hosts: Sequence[Host]) -> None:
        """Use these hosts; what is known of the nodes that stay is kept."""
        now, known = self._clock(), {node.host: node for node in self.all}
        if list(known) == list(hosts):
            return
        self.all = [known.get(host) or Node(host, now) for host in hosts]
        for host, node in known.items():
            node.avoided = host not in hosts
        logger.info("login nodes", extra={"fields": {"hosts": [str(host) for host in hosts]}})

    # --- choosing

    def choose(
        self,
        connections: Sequence[Connection],
        opening: Iterable[Host],
        mine: Sequence[Connection],
        without: Iterable[Node] = (),
    ) -> Node | None:
        """The node on which a user's next connection is opened; None if all of them are in `without`.

        `connections` are all of the pool, `opening` the hosts of those that are being opened, `mine` the user's.
        """
        left = [node for node in self.all if node not in set(without)]
        if len(left) < 2:
            return left[0] if left else None
        views = self._views(left, connections, opening)
        warm = {id(one.node) for one in mine if not one.lost}
        return left[choose([v._replace(warm=id(node) in warm) for node, v in zip(left, views, strict=True)])]

    def leaving(self, connections: Sequence[Connection], opening: Iterable[Host]) -> list[Node]:
        """The nodes whose users are to move. Marks nodes that have become slow; lets time pass."""
        now = self._clock()
        for node in self.all:
            node.tick(now)
        if not self.several:
            return []
        for node in [node for node in self.all if is_slow(node, self.all, now) and _agreed(node, connections, now)]:
            node.slow(f"{slowness(node, self.all, now):.0f} times slower than another login node", now)
            _log("SSH login node is slow", node)
        self._mark_avoided()
        views = self._views(self.all, connections, opening)
        return [
            node
            for index, node in enumerate(self.all)
            if node.health is not Health.DOWN and leaves(views, index)  # of one that takes no logins, nobody leaves
        ]

    def _views(
        self, nodes: Sequence[Node], connections: Sequence[Connection], opening: Iterable[Host]
    ) -> list[NodeView]:
        now, count, flying = self._clock(), Counter(opening), Counter[int]()
        for connection in connections:
            count[connection.host] += 1
            flying[id(connection.node)] += connection.in_flight
        return [
            NodeView(
                share=0.0 if self._closed(node.host) else node.share(now),
                slowness=slowness(node, self.all, now) if _agreed(node, connections, now) else 1.0,
                in_flight=flying[id(node)],
                connections=count[node.host],
                weight=node.host.weight,
                near=node.host.near,
                failures=node.failures,
            )
            for node in nodes
        ]

    # --- what connections and logins report

    def failed(self, node: Node, error: GatewayError) -> None:
        """A login failed because of the node."""
        if self.several and node.down(error.public, self._clock()):
            _log("SSH login node is down", node)
        self._mark_avoided()

    def silent(self, node: Node) -> bool:
        """A request on the node got no answer: its connections get no new work while another node is up.

        Whether its other connections are to be tested now.
        """
        if not self.several or not node.down("no answer to requests", self._clock(), silent=True):
            return False
        self._mark_avoided()
        _log("SSH login node does not answer", node)
        return True

    def answers(self, node: Node) -> None:
        """The node has answered, or a login on it has succeeded."""
        if node.health is Health.DOWN:
            node.back(self._clock())
            self._mark_avoided()
            _log("SSH login node answers again", node)

    def _mark_avoided(self) -> None:
        up = any(node.health is not Health.DOWN for node in self.all)
        for node in self.all:
            node.avoided = up and node.silent and node.health is Health.DOWN

    def report(self, connections: Sequence[Connection]) -> list[NodeReport]:
        """The state of each node."""
        now = self._clock()
        views = self._views(self.all, connections, ())
        return [
            NodeReport(node.host, node.health, now - node.since, node.reason, view.connections, view.in_flight)
            for node, view in zip(self.all, views, strict=True)
        ]


def _agreed(node: Node, connections: Sequence[Connection], now: float) -> bool:
    """Whether the node's latency may move others: two users have measured it, or nobody else is there.

    The answers of one user's agent take as long as that user's start-up files, limits and programs make them.
    """
    witnesses = node.witnesses(now)
    return len(witnesses) > 1 or {one.user for one in connections if one.node is node} <= witnesses


def _log(event: str, node: Node) -> None:
    fields = {"host": str(node.host), "health": node.health.value, "reason": node.reason, "failures": node.failures}
    logger.warning(event, extra={"fields": fields})
