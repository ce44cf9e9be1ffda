"""Who may be given answers to questions that others have asked. No I/O."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

ADMITTED_FOR: Final = 600.0  # seconds after a question of one's own in which a user is given answers to others
MAX_USERS: Final = 10_000


class Admissions:
    """The users whom the cluster has answered a question of their own not long ago. `ticks` returns monotonic time."""

    def __init__(self, ticks: Callable[[], float] = time.monotonic) -> None:
        self._ticks = ticks
        self._admitted: OrderedDict[str, float] = OrderedDict()

    def __contains__(self, user: str) -> bool:
        return self._ticks() - self._admitted.get(user, float("-inf")) < ADMITTED_FOR

    def admit(self, user: str) -> None:
        """Note that a question of the user's own has succeeded now."""
        self._admitted[user] = self._ticks()
        self._admitted.move_to_end(user)
        if len(self._admitted) > MAX_USERS:
            self._admitted.popitem(last=False)
