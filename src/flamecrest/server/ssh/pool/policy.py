"""The pool's decisions: which connection takes a channel, when one is opened, which one is closed. Pure, no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum, auto
from typing import NamedTuple

from flamecrest.server.ssh.queue.room import QueueLimits


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """The limits of one pool; times in seconds. `max_sessions` None: learn it from the server's refusal.

    The gateway's values come from the settings (wiring/ssh.py). The defaults here are for pools of tests.
    """

    max_clients: int = 100  # connections
    per_user: int = 2  # connections
    idle: float = 60.0  # a connection without a command and without a use of a shared channel is closed after this
    age: float = 3600.0  # older connections get no new work
    age_in_use: float = 86400.0  # older connections are closed, whatever they are used for
    max_sessions: int | None = None  # channels on one connection
    max_failed_logins: int | None = None  # on one node in a short time; None: by its server's version
    turn: float = 60.0  # a connection that another user waits for is closed after this, whatever it is used for
    tick: float = 1.0  # between two checks for idle, old and silent connections
    queue: QueueLimits = field(default_factory=QueueLimits)  # of requests that wait


TURN = 2.0  # seconds for which a user keeps the only connection although others wait


class ConnectionState(NamedTuple):
    """What a decision needs to know of one connection. `free` counts channels, `idle` and `age` are seconds."""

    free: int
    busy: bool
    usable: bool  # open, answering and not too old
    idle: float
    age: float


class Decision(Enum):
    """What to do for the next request for a channel."""

    USE = auto()
    OPEN = auto()
    EVICT = auto()  # close the connection that has been idle longest, of any user, then open
    WAIT = auto()


def available(states: Sequence[ConnectionState], max_age: float = float("inf")) -> int | None:
    """The index of the first connection with a free channel that is at most `max_age` seconds old.

    The first one, so that the others can become idle and be closed.
    """
    for index, state in enumerate(states):
        if state.usable and state.free > 0 and state.age <= max_age:
            return index
    return None


def decide(
    states: Sequence[ConnectionState],
    limits: PoolLimits,
    *,
    max_age: float = float("inf"),
    dialing: bool,
    total: int,
    evictable: bool,
    allowed: bool = True,
    may_open: bool = True,
) -> tuple[Decision, int]:
    """What to do for a user's next request, and with USE the index of the connection (else -1).

    `states` are the user's connections; `total` counts those of all users, with those being opened. A request that
    has lost a connection prefers one opened after that (`max_age`): the cause may have broken the others, too.
    `allowed`: the user's load allows the request a channel. `may_open`: no pause, and no other user comes first.
    """
    if allowed and (index := available(states, max_age)) is not None:
        return Decision.USE, index
    if dialing:
        return Decision.WAIT, -1
    if may_open and sum(state.usable for state in states) < limits.per_user:
        if total < limits.max_clients:
            return Decision.OPEN, -1
        if evictable:
            return Decision.EVICT, -1
    if allowed and (index := available(states)) is not None:
        return Decision.USE, index  # no other can be opened, so an older one is used
    return Decision.WAIT, -1


class Hold(IntEnum):
    """What a connection in use may be held by, by how soon it can be free."""

    COMMANDS = 0
    RESUMABLE = 1  # streams that end when they are asked to: followed files
    TRANSFERS = 2


class Holder(NamedTuple):
    """A connection in use that a waiting user might get: its user, its age in seconds, and what holds it."""

    user: str
    age: float
    hold: Hold


def choose_recalls(holders: Sequence[Holder], waiting: int) -> list[int]:
    """The indexes of the connections to take from their users for that many users who wait without one.

    First those of users who keep another one, then those whose turn is over; of these first those that may be free
    soon, then the oldest.
    """
    left = Counter(holder.user for holder in holders)
    chosen: list[int] = []
    for _ in range(waiting):
        due = [
            (left[holder.user] < 2, holder.hold, -holder.age, index)
            for index, holder in enumerate(holders)
            if index not in chosen and (left[holder.user] > 1 or holder.age >= TURN)
        ]
        if not due:
            break
        chosen.append(min(due)[-1])
        left[holders[chosen[-1]].user] -= 1
    return chosen


def expired(state: ConnectionState, limits: PoolLimits) -> bool:
    """Whether a connection is to be closed now."""
    return not state.busy and (not state.usable or state.idle >= limits.idle or state.age >= limits.age)
