"""The Files port: what a cluster's file systems offer to one user."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Literal, Protocol

from flamecrest.server.files.values import (
    DEFAULT_WRITE,
    ChecksumAlgorithm,
    Compression,
    DiskSpace,
    DiskUsage,
    FollowEvent,
    FollowPosition,
    ListingEntry,
    Stat,
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
    def held(self) -> bytes | None:
        """All of it, where it is here already."""
        ...

    def chunks(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` to `end` (the size in `stat`).

        Raises Upstream before the last of them if the file became shorter or was written over meanwhile;
        one that only grew is read as far as it went at first.
        """
        ...


class Files(Protocol):
    """A cluster's files, seen as one user. Paths are absolute and were checked by `check_path`.

    NotFound, Denied, Conflict (exists already), Invalid (not a directory, not a regular file) as the server
    says; Upstream for SSH failures; Timeout at the deadline. Reading methods can be repeated.
    """

    async def ls(
        self,
        path: str,
        deadline: Deadline,
        *,
        hidden: bool = False,
        numeric: bool = False,
        recursive: bool = False,
        dereference: bool = False,
        choice: ListingFilter = ...,
    ) -> list[ListingEntry]:
        """List a directory, by name; a file or link is listed itself, under the path asked for.

        An entry that cannot be read is left out of a recursive listing's deeper levels, never the whole listing.
        `choice` says which entries are wanted, how many, and in which order.
        """
        ...

    def scan(
        self,
        path: str,
        deadline: Deadline,
        *,
        hidden: bool = False,
        numeric: bool = False,
        recursive: bool = False,
        dereference: bool = False,
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[ListingEntry]]]:
        """As `ls`, but entries in batches as they come, in no order, in memory that does not grow with their number.

        The deadline limits the opening and each batch's progress.
        """
        ...

    async def entry(self, path: str, deadline: Deadline) -> ListingEntry:
        """One Entry for the path itself (a link is not followed), named by its path."""
        ...

    async def stat(self, path: str, deadline: Deadline, *, follow: bool = False) -> Stat:
        """The attributes of the path."""
        ...

    async def kind(self, path: str, deadline: Deadline) -> str:
        """What `file` says the content is, as bare text."""
        ...

    async def head(
        self, path: str, deadline: Deadline, *, count: int, unit: Literal["bytes", "lines"], skip: bool, limit: int
    ) -> str:
        """The first `count` bytes or lines; with `skip` all but the last `count`. TooLarge over `limit` bytes."""
        ...

    async def tail(
        self, path: str, deadline: Deadline, *, count: int, unit: Literal["bytes", "lines"], skip: bool, limit: int
    ) -> str:
        """The last `count` bytes or lines; with `skip` all from byte or line `count` on (1 is the first)."""
        ...

    async def view(self, path: str, deadline: Deadline, *, offset: int, size: int) -> str:
        """At most `size` bytes from `offset` as text; "" past the end."""
        ...

    def follow(
        self, path: str, deadline: Deadline, *, lines: int = 10, after: FollowPosition | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[FollowEvent | None]]:
        """Follow a regular file from `lines` before its end, or from where it was left, as it grows.

        Never ends by itself; gives None now and then while nothing happens. A file that is gone is waited for.
        The deadline limits the opening.
        """
        ...

    async def checksum(self, path: str, deadline: Deadline, *, algorithm: ChecksumAlgorithm = "sha256") -> str:
        """The checksum of a regular file, in hex."""
        ...

    async def df(self, path: str, deadline: Deadline) -> DiskSpace:
        """How full the file system is that the path is on, and what the user and a group may still store there."""
        ...

    async def du(self, path: str, deadline: Deadline) -> DiskUsage:
        """What a file or tree holds; links are not followed, a file with several names counts once."""
        ...

    async def chmod(self, path: str, mode: str, deadline: Deadline) -> None:
        """Set the permission bits, given in octal or as chmod's symbolic modes."""
        ...

    async def chown(self, path: str, owner: str, group: str, deadline: Deadline) -> None:
        """Change owner and group, by name or number; empty leaves one as it is."""
        ...

    async def mkdir(self, path: str, deadline: Deadline, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a directory; with `parents` the missing ones above it too. With either it may exist already."""
        ...

    async def symlink(self, target: str, link: str, deadline: Deadline) -> None:
        """Make a symbolic link at `link` that points to `target`, which is stored as it is given."""
        ...

    async def mv(self, source: str, target: str, deadline: Deadline, *, overwrite: bool = False) -> None:
        """Rename, atomically; a link is renamed itself. `target` is the new path, never a folder to put it into.

        Conflict when the target exists, with `overwrite` only for a directory that is not empty; Invalid from one
        file system to another.
        """
        ...

    async def cp(
        self, source: str, target: str, deadline: Deadline, *, overwrite: bool = False, dereference: bool = False
    ) -> None:
        """Copy a file or tree on the cluster, with its attributes; a link itself unless `dereference`.

        `target` is the new path. It appears complete or not at all; with `overwrite` a directory is merged into an
        existing one in place. Conflict when the target exists and may not be overwritten.
        """
        ...

    async def touch(self, path: str, deadline: Deadline, *, mtime: int | None = None) -> None:
        """Make an empty file, or set the time of what is there: to now, or to `mtime` (seconds since the epoch)."""
        ...

    async def truncate(self, path: str, size: int, deadline: Deadline) -> None:
        """Cut a regular file to that many bytes, or extend it with zeros."""
        ...

    async def rm(self, path: str, deadline: Deadline) -> None:
        """Remove a file, a link or a whole directory tree."""
        ...

    async def upload(
        self, path: str, chunks: AsyncIterator[bytes], deadline: Deadline, landing: WriteOptions = DEFAULT_WRITE
    ) -> WriteResult:
        """Write a file: beside its target, then by atomic rename; an existing file keeps its mode.

        If `chunks` raises, nothing has changed. The deadline limits the opening and each chunk's progress, not
        the whole.
        """
        ...

    def download(
        self, path: str, deadline: Deadline, *, first: Callable[[Stat], int | None] | None = None
    ) -> AbstractAsyncContextManager[Reader]:
        """Open a regular file for streaming. The deadline limits the opening and each chunk's progress.

        `first` is told the file's attributes and says which byte will be read first; None: nothing will be, and
        the file is not opened. What it raises is raised. It is asked again when the file turns out to be another
        by the time it is open. A file that says it has no bytes and has some (/proc) is read to its end: then
        `stat` of the Reader has the true size and no inode.
        """
        ...

    async def compress(
        self,
        source: str,
        target: str,
        deadline: Deadline,
        *,
        compression: Compression = "gzip",
        pattern: str | None = None,
        dereference: bool = False,
    ) -> None:
        """Archive `source` (kept as the archive's top folder); `pattern` is a regular expression as in find -regex."""
        ...

    async def extract(self, source: str, target: str, deadline: Deadline, *, compression: Compression = "gzip") -> None:
        """Unpack an archive into the folder `target`, which is made if it is missing."""
        ...


NAME_MAX, PATH_MAX = 255, 4095  # bytes; Linux's, without the final NUL
