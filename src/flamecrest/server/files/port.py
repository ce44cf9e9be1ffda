"""The Files port: the operations on a cluster's file systems that one user may request.

It has three parts: FileQueries reads attributes, listings and text; FileContent transfers whole files; FileChanges
modifies files on the cluster. `Files` holds one of each.

All methods: paths are absolute and were checked by `check_path`. Errors: NotFound, Denied, Conflict (exists already)
and Invalid (not a directory, not a regular file) as the cluster reports them; Upstream for SSH failures; Timeout at
the deadline. FileQueries and `download` can be repeated.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from flamecrest.server.files.values import (
    DEFAULT_COMPRESSION,
    DEFAULT_LISTING,
    DEFAULT_WRITE,
    ChecksumAlgorithm,
    Compression,
    CompressOptions,
    DiskSpace,
    DiskUsage,
    FollowEvent,
    FollowPosition,
    ListingEntry,
    ListOptions,
    Stat,
    TextRange,
    WriteOptions,
    WriteResult,
)

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files.listing_filter import ListingFilter


class Reader(Protocol):
    """An open file that is being downloaded."""

    stat: Stat

    @property
    def content(self) -> bytes | None:
        """The whole content if it is in memory already, else None."""
        ...

    def chunks(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` to `end` (default: the size in `stat`).

        Raises Upstream before the last chunk if the bytes may not all be of the state in `stat`: the file was written
        to since it was opened. A file that only grew may have been written anew. One that was replaced or removed is
        read to its end.
        """
        ...


class FileQueries(Protocol):
    """Operations that read attributes, listings, text and checksums. They can be repeated."""

    async def ls(
        self,
        path: str,
        deadline: Deadline,
        options: ListOptions = DEFAULT_LISTING,
        *,
        listing_filter: ListingFilter = ...,
    ) -> list[ListingEntry]:
        """List a directory, sorted by name. A file or link is listed as one entry named by the requested path.

        An unreadable entry below the first level of a recursive listing is omitted; it does not fail the listing.
        `listing_filter` selects, limits and sorts the entries.
        """
        ...

    def scan(
        self, path: str, deadline: Deadline, options: ListOptions = DEFAULT_LISTING
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[ListingEntry]]]:
        """As `ls`, but yields unsorted batches as they arrive. Memory does not grow with the number of entries.

        The deadline limits the opening and the progress of each batch.
        """
        ...

    async def entry(self, path: str, deadline: Deadline) -> ListingEntry:
        """Return one entry for the path itself, named by the path. A link is not followed."""
        ...

    async def stat(self, path: str, deadline: Deadline, *, follow: bool = False) -> Stat:
        """Return the attributes of the path, as stat(2) with `follow`, else as lstat(2)."""
        ...

    async def file_type(self, path: str, deadline: Deadline) -> str:
        """Return the output of `file -b`: a description of the content."""
        ...

    async def head(self, path: str, deadline: Deadline, part: TextRange) -> str:
        """Return the first `part.count` bytes or lines; with `part.skip` all but the last `part.count`.

        Raises TooLarge if that is more than `part.limit` bytes.
        """
        ...

    async def tail(self, path: str, deadline: Deadline, part: TextRange) -> str:
        """Return the last `part.count` bytes or lines; with `part.skip` all from number `part.count` on (1-based).

        Raises TooLarge if that is more than `part.limit` bytes.
        """
        ...

    async def view(self, path: str, deadline: Deadline, *, offset: int, size: int) -> str:
        """Return at most `size` bytes from `offset` as text; "" past the end."""
        ...

    def follow(
        self, path: str, deadline: Deadline, *, lines: int = 10, after: FollowPosition | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[FollowEvent | None]]:
        """Follow a regular file as it grows, from `lines` before its end or from the position `after`.

        The iterator never ends by itself. It yields None from time to time while nothing changes, also while the
        file does not exist. The deadline limits the opening.
        """
        ...

    async def checksum(self, path: str, deadline: Deadline, *, algorithm: ChecksumAlgorithm = "sha256") -> str:
        """Return the checksum of a regular file in lower-case hexadecimal digits."""
        ...

    async def df(self, path: str, deadline: Deadline) -> DiskSpace:
        """Return size and usage of the path's file system, and the quotas of the user and of a group on it."""
        ...

    async def du(self, path: str, deadline: Deadline) -> DiskUsage:
        """Return the disk usage of a file or tree. Links are not followed; a file with several names counts once."""
        ...


class FileContents(Protocol):
    """Upload and download of whole files."""

    async def upload(
        self, path: str, chunks: AsyncIterator[bytes], deadline: Deadline, options: WriteOptions = DEFAULT_WRITE
    ) -> WriteResult:
        """Write a temporary file beside the target, then rename it atomically. An existing file keeps its mode.

        If `chunks` raises, nothing has changed. The deadline limits the opening and the progress of each chunk, not
        the whole transfer.
        """
        ...

    def download(
        self, path: str, deadline: Deadline, *, choose_start: Callable[[Stat], int | None] | None = None
    ) -> AbstractAsyncContextManager[Reader]:
        """Open a regular file for streaming. The deadline limits the opening and the progress of each chunk.

        `choose_start` receives the attributes and returns the first byte to be read, or None to leave the file
        closed; its exceptions propagate. It is called again if the file was replaced before it could be opened.
        `stat` is of the open file; without inode if that cannot be proven, as the path leads to a new file each time.
        A file whose reported size is wrong (/proc) is read to its end: `Reader.stat` then has the true size and
        inode 0.
        """
        ...


class FileChanges(Protocol):
    """Operations that modify files on the cluster. None of them can be repeated."""

    async def chmod(self, path: str, mode: str, deadline: Deadline) -> None:
        """Set the permission bits, given in octal or as symbolic modes of chmod(1)."""
        ...

    async def chown(self, path: str, owner: str, group: str, deadline: Deadline) -> None:
        """Change owner and group, each a name or number; an empty string leaves it unchanged."""
        ...

    async def mkdir(self, path: str, deadline: Deadline, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Create a directory; with `parents` also its missing parents. With either option it may exist already."""
        ...

    async def symlink(self, target: str, link: str, deadline: Deadline) -> None:
        """Create a symbolic link at `link`. `target` is stored unchanged."""
        ...

    async def mv(self, source: str, target: str, deadline: Deadline, *, overwrite: bool = False) -> None:
        """Rename atomically; a link itself is renamed. `target` is the new path, not a directory to move into.

        Conflict if the target exists (with `overwrite`: if it is a directory that is not empty); Invalid between
        file systems, for two names of one file, and for a trailing slash if the source is no directory.
        """
        ...

    async def cp(
        self, source: str, target: str, deadline: Deadline, *, overwrite: bool = False, dereference: bool = False
    ) -> None:
        """Copy a file or tree on the cluster with its attributes; a link is copied itself unless `dereference`.

        `target` is the new path. It appears complete or not at all; with `overwrite` a directory is merged into an
        existing one, each file by a rename, and no link is followed. Conflict if the target exists and must not be
        overwritten; Invalid, with nothing changed, for a directory in the place of something else or the reverse.
        """
        ...

    async def touch(self, path: str, deadline: Deadline, *, mtime: int | None = None) -> None:
        """Create an empty file, or set the time of an existing path to `mtime` (seconds since the epoch) or now."""
        ...

    async def truncate(self, path: str, size: int, deadline: Deadline) -> None:
        """Set the size of a regular file in bytes; it is extended with zeros."""
        ...

    async def rm(self, path: str, deadline: Deadline) -> None:
        """Remove a file, a link or a whole directory tree.

        Invalid, with nothing removed, for a path that ends in `.` or `..`, or in a slash if it is no directory itself.
        """
        ...

    async def compress(
        self, source: str, target: str, deadline: Deadline, options: CompressOptions = DEFAULT_COMPRESSION
    ) -> None:
        """Create a tar archive of `source`; the last name of `source` is the archive's top directory."""
        ...

    async def extract(self, source: str, target: str, deadline: Deadline, *, compression: Compression = "gzip") -> None:
        """Unpack a tar archive into the directory `target`, which is created if it is missing."""
        ...


@dataclass(frozen=True, slots=True)
class Files:
    """One user's access to the files of one cluster."""

    queries: FileQueries
    content: FileContents
    changes: FileChanges
