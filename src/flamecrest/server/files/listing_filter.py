"""Select, sort and limit the entries of a listing. No I/O; a limit bounds the memory."""

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
ListingPosition = tuple[int, bytes]  # sort key of an entry: its size or time (0 when sorted by name), then its name

_name = attrgetter("name")

_SLACK = 1000  # entries kept above the limit before the surplus is dropped


@dataclass(frozen=True, slots=True)
class ListingFilter:
    """`glob` is a shell pattern for the last name of a path, or for the whole path if it contains a slash.

    At most `limit` entries after the position `after`, in `order` (ties by name). `keep` is called with the number of
    entries in memory each time that there are more; it may raise an error, which ends the listing.
    """

    glob: str | None = None
    kinds: frozenset[str] = frozenset()  # letters of `ls -l`; none: all
    order: SortOrder = "name"
    backwards: bool = False
    limit: int | None = None
    after: ListingPosition | None = None
    keep: Callable[[int], None] | None = None

    def place(self, entry: ListingEntry) -> ListingPosition:
        """Return the sort key of an entry, for ascending order."""
        # "/" sorts as the smallest byte, so that the content of a directory follows it directly
        name = os.fsencode(entry.name).replace(b"/", b"\0")
        match self.order:
            case "name":
                return 0, name
            case "size":
                return entry.size, name
        return entry.mtime, name

    def matcher(self) -> Callable[[ListingEntry], bool] | None:
        """Return a function that tests glob and type of an entry; None if every entry passes."""
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
        """Return the selected entries, sorted. At most about twice the limit are in memory."""
        wanted = self._wanted()
        kept: list[ListingEntry] = []
        async for batch in batches:
            kept += batch if wanted is None else filter(wanted, batch)
            if self.limit is not None and len(kept) > 2 * self.limit + _SLACK:
                self._cut(kept)
            if self.keep is not None:
                self.keep(len(kept))
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
        if names.isascii() and "/" not in names:  # the order of text is the order of bytes
            kept.sort(key=_name, reverse=self.backwards)
        else:
            kept.sort(key=self.place, reverse=self.backwards)
        if self.limit is not None:
            del kept[self.limit :]


ALL_ENTRIES = ListingFilter()
