"""The errors of requests that are refused because of the queue: what is wrong, and when to try again."""

from __future__ import annotations

import math
from typing import Final

from flamecrest.server.errors import Busy, GatewayError, Unavailable

AGAIN: Final = 2.0  # seconds after which there may be room
LONGEST: Final = 60.0  # seconds: later than that, an estimate of now says nothing


class QueueFull(Unavailable):
    """As many requests wait for the cluster as may."""


class TooLate(Unavailable):
    """The request would not get a channel by its deadline, as far as is known."""


def too_late(seconds: float, left: float, ahead: int, *, without: bool) -> GatewayError:
    """Refusal for the expected wait. `without`: users ahead wait for a connection; else the user's own requests."""
    wait = min(max(1.0, seconds), LONGEST)
    because = (
        f"all connections to this cluster are in use, and users who came before you wait for one ({ahead})"
        if without
        else f"all your connections to the cluster are in use, and requests of yours wait already ({ahead})"
    )
    error = TooLate(
        f"This request would wait too long: {because}. Its turn would come in about {_shown(seconds)}, and it has "
        f"{_shown(left)}; try again in {math.ceil(wait)} s, or send fewer requests at a time",
        retry_after=wait,
    )
    error.details = {"reason": "late", "expectedWait": round(seconds, 1)}
    return error


def too_many_of_user(count: int) -> GatewayError:
    """Refusal of a request beyond the greatest number of one user."""
    text = (
        f"{count} requests of yours wait for this cluster, the greatest number allowed; try again when some have ended"
    )
    return Busy(text, retry_after=AGAIN)


def too_many(count: int) -> GatewayError:
    """Refusal of a request of the user with most that wait, where as many wait as may."""
    error = QueueFull(
        f"As many requests wait for this cluster as may ({count}), and nobody has more of them than you; try again in "
        "a moment, and send fewer at a time",
        retry_after=AGAIN,
    )
    error.details = {"reason": "full"}
    return error


def _shown(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
