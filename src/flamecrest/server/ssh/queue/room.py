"""How many requests may wait, and whose must go where there is no room. Pure.

With the room full, the user with most waiting requests gives way: nobody who has no more than a fair share is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """The greatest numbers of requests that wait for one cluster. `refuse_late`: what cannot be in time is refused."""

    requests: int = 1500
    per_user: int = 1000
    refuse_late: bool = True


class Entry(Enum):
    """What happens to one more request."""

    WAITS = auto()
    DISPLACES = auto()  # it waits, and the newest request of the user with most of them is refused
    TOO_MANY_OF_USER = auto()  # it is refused
    TOO_MANY = auto()  # it is refused: nobody has more than its user


def entry(mine: int, most: int, total: int, limits: QueueLimits) -> Entry:
    """What happens to one more request of a user.

    `mine` and `total` count the requests that wait, of the user and of all, with this one; `most` is the greatest
    number of another user.
    """
    if mine > limits.per_user:
        return Entry.TOO_MANY_OF_USER
    if total <= limits.requests:
        return Entry.WAITS
    return Entry.DISPLACES if most > mine else Entry.TOO_MANY
