"""The Bulk port: many files in one request, packed as an archive or unpacked from one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from flamecrest.server.errors import Unsupported
from flamecrest.server.files.paths import PATH_MAX

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline

ArchiveFormat = Literal["tar", "gzip", "zstd", "zip"]

TRAILER = ".flamecrest-errors.json"  # the last member of an incomplete archive
MAX_LISTED = 1000  # failures that are listed; further ones are only counted


@dataclass(frozen=True, slots=True)
class PathFailure:
    """A path for which an operation failed, and the reason."""

    path: str
    message: str


@dataclass(frozen=True, slots=True)
class Selection:
    """The content of an archive: names relative to `base`, as tar reads them, and the paths that were not found."""

    base: str
    names: tuple[bytes, ...]
    missing: tuple[PathFailure, ...] = ()


@dataclass(slots=True)
class UnpackResult:
    """The result of unpacking. `complete` is False if the archive was truncated."""

    created: int = 0
    failed: list[PathFailure] = field(default_factory=list)
    failures: int = 0
    complete: bool = True

    def fail(self, path: str, message: str) -> None:
        """Count a failure, and list it if fewer than MAX_LISTED are."""
        self.failures += 1
        if len(self.failed) < MAX_LISTED:
            self.failed.append(PathFailure(path[:PATH_MAX], message))  # names in archives can be far longer


class FormatUnavailable(Unsupported):
    """The cluster lacks a program for this format of archives."""


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """Limits of one archive. They protect the gateway; the user's quota protects the cluster."""

    entries: int = 1_000_000
    size: int = 1 << 44  # bytes, after decompression
    ratio: int = 250  # of decompressed to compressed bytes, beyond `free`
    free: int = 1 << 28  # decompressed bytes to which the ratio does not apply


class Bulk(Protocol):
    """Archives of one user's files on one cluster. Paths are absolute and were checked by `check_path`."""

    async def select(self, paths: Sequence[str], base: str | None, deadline: Deadline) -> Selection:
        """Look up files, directories (with their content) and patterns.

        NotFound when nothing is; Invalid for a path with `..` or outside `base`. Can be repeated.
        """
        ...

    def pack(
        self, selection: Selection, form: ArchiveFormat, deadline: Deadline
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Yield the archive as one remote tar writes it; the deadline limits its start.

        Unsupported before the block is entered when the cluster lacks the program for that form. What failed is
        in the member TRAILER, which is missing when nothing did. Raises Upstream from the iterator when the
        archive could not be finished: what was sent so far is then no archive. Leaving the block ends tar.
        """
        ...

    async def unpack(
        self, path: str, chunks: AsyncIterator[bytes], deadline: Deadline, *, setuid: bool = False
    ) -> UnpackResult:
        """Unpack a tar archive (plain, gzip or zstd) into the directory `path`; no file appears incomplete.

        Raises NotFound and Invalid for the directory, Invalid for bytes that are not an archive, TooLarge beyond
        UnpackLimits, Unsupported if the cluster has no program for the compression. A truncated archive is reported,
        not raised.
        """
        ...
