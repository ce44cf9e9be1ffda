"""The pool's decisions: over which connection a request goes, when one is opened, when one is closed. All pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """The pool's limits; times in seconds. `max_sessions` None: learn it from the server's refusal."""

    max_clients: int = 100
    per_user: int = 2
    idle: float = 60.0
    age: float = 3600.0
    max_sessions: int | None = None
    tick: float = 1.0  # between looks at idle, old and silent connections


class ConnectionState(NamedTuple):
    """What a decision needs to know of one connection. `free` counts channels, `idle` and `age` seconds."""

    free: int
    standing: int  # shared channels that are open on it: SFTP, the agent
    busy: bool
    usable: bool
    idle: float
    age: float


class Decision(Enum):
    """What to do for the next who waits."""

    USE = auto()
    OPEN = auto()
    EVICT = auto()  # close somebody's idle connection, then open
    WAIT = auto()


class Wish(NamedTuple):
    """What somebody waits for: one channel, or a `shared` use of the channels that stand open, which needs no free one.

    `age` is the greatest that the connection may have, in seconds: whoever has lost one prefers those that were
    opened after it, since what broke it may have broken its neighbours too.
    """

    shared: bool = False
    age: float = float("inf")


def ready(views: Sequence[ConnectionState], wish: Wish) -> int | None:
    """Which connection can be used at once and is as young as is wished; None: none."""
    young = [at for at in _with_room(views, wish) if views[at].age <= wish.age]
    return _best(views, young, wish) if young else None


def choose(
    views: Sequence[ConnectionState], wish: Wish, *, opening: bool, total: int, evictable: bool, rules: PoolLimits
) -> tuple[Decision, int]:
    """What to do for one user's next request, and over which of the user's connections.

    `total` counts the cluster's connections, those being opened too. A shared use goes where most of the shared
    channels stand already. Else the first connection with room is taken, so that the others can become idle.
    """
    if (at := ready(views, wish)) is not None:
        return Decision.USE, at
    if opening:
        return Decision.WAIT, -1
    if sum(view.usable for view in views) < rules.per_user:
        if total < rules.max_clients:
            return Decision.OPEN, -1
        if evictable:
            return Decision.EVICT, -1
    # where no other can be opened, an older one has to do
    room = _with_room(views, wish)
    return (Decision.USE, _best(views, room, wish)) if room else (Decision.WAIT, -1)


def _with_room(views: Sequence[ConnectionState], wish: Wish) -> list[int]:
    return [at for at, view in enumerate(views) if view.usable and (wish.shared or view.free > 0)]


def _best(views: Sequence[ConnectionState], room: Sequence[int], wish: Wish) -> int:
    return max(room, key=lambda at: views[at].standing) if wish.shared else room[0]


def expired(view: ConnectionState, rules: PoolLimits) -> bool:
    """Whether a connection is to be closed now."""
    return not view.busy and (not view.usable or view.idle >= rules.idle or view.age >= rules.age)
