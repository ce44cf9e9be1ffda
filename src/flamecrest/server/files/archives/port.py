"""Many files in one request: the Bulk port, its values, and which form of an archive a caller gets; no I/O."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline

ArchiveFormat = Literal["tar", "gzip", "zstd", "zip"]

TRAILER = ".flamecrest-errors.json"  # the last member of an archive that is not complete
MAX_LISTED = 1000  # failures that are named; the others are only counted


@dataclass(frozen=True, slots=True)
class PathFailure:
    """A path that something did not work for, and why."""

    path: str
    message: str


@dataclass(frozen=True, slots=True)
class Selection:
    """What an archive will hold: names relative to `base`, as tar reads them, and what was not found."""

    base: str
    names: tuple[bytes, ...]
    missing: tuple[PathFailure, ...] = ()


@dataclass(slots=True)
class UnpackResult:
    """What became of an archive's entries. `complete` is False when the archive ended too early."""

    created: int = 0
    failed: list[PathFailure] = field(default_factory=list)
    failures: int = 0
    complete: bool = True

    def fail(self, path: str, message: str) -> None:
        """Note a failure; the first MAX_LISTED by name."""
        self.failures += 1
        if len(self.failed) < MAX_LISTED:
            self.failed.append(PathFailure(path, message))


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """How much an archive may unpack to: it protects the gateway; the user's quota protects the cluster."""

    entries: int = 1_000_000
    size: int = 1 << 44  # bytes, after decompression
    ratio: int = 250  # of plain to compressed bytes, beyond `free`
    free: int = 1 << 28  # plain bytes that need no ratio


class Bulk(Protocol):
    """Archives of a cluster's files, seen as one user. Paths are absolute and were checked by `check_path`."""

    async def select(self, paths: Sequence[str], base: str | None, deadline: Deadline) -> Selection:
        """Find out what is there: files, folders (with all in them) and patterns.

        NotFound when nothing is; Invalid for a path with `..` or outside `base`. Can be repeated.
        """
        ...

    def pack(
        self, selection: Selection, form: ArchiveFormat, deadline: Deadline
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The archive, as one remote tar writes it; the deadline limits its start.

        Unsupported before the block is entered when the cluster lacks the program for that form. What failed is
        in the member TRAILER, which is missing when nothing did. Raises Upstream from the iterator when the
        archive could not be finished: what was sent so far is then no archive. Leaving the block ends tar.
        """
        ...

    async def unpack(
        self, path: str, chunks: AsyncIterator[bytes], deadline: Deadline, *, setuid: bool = False
    ) -> UnpackResult:
        """Write a tar archive (plain, gzip or zstd) into the folder `path`, each file whole or not at all.

        NotFound, Invalid for the folder; Invalid for bytes that are no archive; TooLarge beyond Bounds; Unsupported
        for a compression that the cluster can't undo. An archive that is cut off is reported, not raised.
        """
        ...
