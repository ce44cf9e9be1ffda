"""The choice among the login nodes of one cluster. Pure, without I/O; the rules are in docs/developers/pool.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

SLOW: Final = 4.0  # a node is slow whose requests take that many times as long as on the fastest one
FAR: Final = 4.0  # the cost of a node of another zone, as a multiple
WARM: Final = 0.5  # the cost of a node on which the user has a connection, as a multiple
PER_CONNECTION: Final = 0.1  # the cost of an open connection, in requests in flight
UNEVEN: Final = 3.0  # users leave a node whose cost is that many times the cost of the best one
CROWDED: Final = 8  # requests in flight from which on they leave it


class NodeView(NamedTuple):
    """What the choice needs to know of one node.

    `share`: the part of new work that it takes: 0 while it is down, below 1 after it has come back. `slowness`: its
    latency as a multiple of the fastest node's. `warm`: the user has a usable connection there.
    """

    share: float = 1.0
    slowness: float = 1.0
    in_flight: int = 0
    connections: int = 0
    weight: float = 1.0
    near: bool = True
    warm: bool = False
    failures: int = 0  # in a row

    @property
    def cost(self) -> float:
        """What one more request costs there, without regard to the user."""
        load = 1.0 + self.in_flight + PER_CONNECTION * self.connections
        return self.slowness * load * (1.0 if self.near else FAR) / (self.weight * max(self.share, 0.01))

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """Nodes of a lower rank are taken first, whatever they cost."""
        down = self.share <= 0
        return down, self.slowness >= SLOW, self.failures if down else 0


def choose(views: Sequence[NodeView]) -> int:
    """The index of the node on which a connection is opened. A node that is down only if all are."""
    return min(range(len(views)), key=lambda index: _order(views[index]))


def _order(view: NodeView) -> tuple[tuple[bool, bool, int], float]:
    return view.rank, view.cost * (WARM if view.warm else 1.0)


def leaves(views: Sequence[NodeView], current: int) -> bool:
    """Whether users on the node `current` are to move: it is down, slow or crowded, and another one is not."""
    mine = views[current]
    best = min(views, key=_order)
    if best.rank[:2] < mine.rank[:2]:
        return True
    return best.rank == mine.rank and mine.in_flight >= CROWDED and mine.cost > UNEVEN * best.cost
