"""How much of files may be read ahead of slow clients at once: per user, and in all. Counts bytes, does no I/O."""

from __future__ import annotations

from collections import Counter
from typing import Final

from flamecrest.server.errors import Busy

PER_USER: Final = 32 * 1024 * 1024  # bytes
TOTAL: Final = 256 * 1024 * 1024  # bytes
LEAST: Final = 64 * 1024  # bytes that each transfer may read ahead in any case, not counted
MOST_PER_USER: Final = 256  # transfers at the same time


class ReadAhead:
    """The bytes that all transfers together may read ahead."""

    def __init__(self, *, per_user: int = PER_USER, total: int = TOTAL) -> None:
        self.per_user = per_user
        self.total = total
        self.used = 0
        self.used_by: Counter[str] = Counter()  # bytes, by user
        self.transfers: Counter[str] = Counter()  # by user

    def window(self, user: str) -> Window:
        """The window of one transfer, to be closed at its end. Raises Busy if the user has too many."""
        if self.transfers[user] >= MOST_PER_USER:
            raise Busy(f"You have {MOST_PER_USER} downloads under way, which is the maximum", retry_after=2.0)
        self.transfers[user] += 1
        return Window(self, user)


class Window:
    """What one transfer may read ahead. It grows while there is room, and half of the room is left to others."""

    __slots__ = ("_closed", "_size", "_user", "_whole")

    def __init__(self, whole: ReadAhead, user: str) -> None:
        self._whole = whole
        self._user = user
        self._size = 0
        self._closed = False

    def grow(self, wanted: int) -> int:
        """Return the size in bytes, up to `wanted` if there is room for it; at least LEAST."""
        if wanted > self._size and not self._closed:
            whole = self._whole
            room = min(whole.per_user - whole.used_by[self._user], whole.total - whole.used) // 2
            more = min(wanted - self._size, room)
            if more > 0:
                self._size += more
                whole.used += more
                whole.used_by[self._user] += more
        return max(LEAST, self._size)

    def close(self) -> None:
        """Give everything back. Closing it again does nothing."""
        if self._closed:
            return
        self._closed = True
        whole = self._whole
        whole.used -= self._size
        whole.used_by[self._user] -= self._size
        whole.transfers[self._user] -= 1
        if not whole.transfers[self._user]:
            del whole.transfers[self._user], whole.used_by[self._user]
