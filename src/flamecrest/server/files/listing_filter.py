"""Which entries of a listing are wanted, and in which order: pure, and in memory that a limit bounds."""

from __future__ import annotations

import fnmatch
import os
import re
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from flamecrest.server.files.values import ListingEntry

SortOrder = Literal["name", "size", "mtime"]
ListingPosition = tuple[int, bytes]  # where an entry stands in an order: its size or time (0 by name), then its name

_name = attrgetter("name")

_SLACK = 1000  # entries over the limit that are held before the surplus is thrown away


@dataclass(frozen=True, slots=True)
class ListingFilter:
    """`glob` is matched as a shell does it: against the last name of a path, or all of it if it holds a slash.

    Entries stand in `order` (ties by name), at most `limit` of them, beginning behind the place `after`.
    """

    glob: str | None = None
    kinds: frozenset[str] = frozenset()  # letters of `ls -l`; none: all
    order: SortOrder = "name"
    backwards: bool = False
    limit: int | None = None
    after: ListingPosition | None = None

    def place(self, entry: ListingEntry) -> ListingPosition:
        """Where an entry stands, counted forwards."""
        # "/" sorts as the smallest byte, so that what is in a folder follows it at once
        name = os.fsencode(entry.name).replace(b"/", b"\0")
        match self.order:
            case "name":
                return 0, name
            case "size":
                return entry.size, name
        return entry.mtime, name

    def matcher(self) -> Callable[[ListingEntry], bool] | None:
        """Whether an entry is wanted, wherever it stands; None: every one is."""
        kinds, glob = self.kinds, self.glob
        if glob is None:
            return (lambda entry: entry.kind in kinds) if kinds else None
        whole = "/" in glob
        matches = re.compile(fnmatch.translate(glob)).match

        def wanted(entry: ListingEntry) -> bool:
            name = entry.name if whole else entry.name.rpartition("/")[2]
            return (not kinds or entry.kind in kinds) and matches(name) is not None

        return wanted

    async def collect(self, batches: AsyncIterator[Sequence[ListingEntry]]) -> list[ListingEntry]:
        """The entries that are wanted, in order; never many more of them are held than twice the limit."""
        wanted = self._wanted()
        kept: list[ListingEntry] = []
        async for batch in batches:
            kept += batch if wanted is None else filter(wanted, batch)
            if self.limit is not None and len(kept) > 2 * self.limit + _SLACK:
                self._cut(kept)
        self._cut(kept)
        return kept

    def _wanted(self) -> Callable[[ListingEntry], bool] | None:
        matches = self.matcher()
        after = self.after
        if after is None:
            return matches

        def behind(entry: ListingEntry) -> bool:
            if matches is not None and not matches(entry):
                return False
            place = self.place(entry)
            return place < after if self.backwards else place > after

        return behind

    def _cut(self, kept: list[ListingEntry]) -> None:
        names = "".join(map(_name, kept)) if self.order == "name" else "/"
        if names.isascii() and "/" not in names:  # as text they sort as they do as bytes
            kept.sort(key=_name, reverse=self.backwards)
        else:
            kept.sort(key=self.place, reverse=self.backwards)
        if self.limit is not None:
            del kept[self.limit :]


ALL_ENTRIES = ListingFilter()
