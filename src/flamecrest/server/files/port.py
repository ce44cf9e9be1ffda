"""What a cluster's file systems are to the gateway: the Files port, its values and the path rule.

Paths and names are text as Python's os.fsdecode makes it: UTF-8, other bytes as lone surrogates.
"""

from __future__ import annotations

import os
import posixpath
import stat as stat_bits
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from flamecrest.server.errors import Invalid

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files.listing_filter import Choice
    from flamecrest.server.files.remote.commands.quota import Quotas

Compression = Literal["none", "gzip", "bzip2", "xz"]
Algorithm = Literal["md5", "sha1", "sha256", "sha512", "blake2b"]


@dataclass(frozen=True, slots=True)
class Stat:
    """The attributes of a file; `mode` holds type and permission bits, times are seconds since the epoch."""

    mode: int
    uid: int
    gid: int
    size: int
    atime: int
    mtime: int
    ctime: int = 0
    ino: int = 0
    dev: int = 0
    nlink: int = 1
    mtime_ns: int | None = None  # mtime in nanoseconds; None where only the second is known

    @classmethod
    def of(cls, numbers: Sequence[int]) -> Stat:
        """The Stat of `Session.stat`'s twelve numbers."""
        dev, ino, mode, nlink, uid, gid, _, size, atime, mtime, ctime, part = numbers
        exact = mtime * 10**9 + part if part else None
        return cls(mode, uid, gid, size, atime, mtime, ctime, ino, dev, nlink, exact)


@dataclass(frozen=True, slots=True)
class Landing:
    """How an uploaded file lands."""

    mode: int | None = None  # permission bits; None: those of the file it replaces, or what the umask says
    mtime: int | None = None  # seconds since the epoch
    parents: bool = False  # make the missing folders above it
    new: bool = False  # refuse (Unmet) to replace a file, also one that came meanwhile
    # Called with the file that is there (None: none) before anything is written and again right before the file lands;
    # raises what speaks against it. Only then are inode and nanoseconds known for sure.
    admit: Callable[[Stat | None], None] | None = None
    report: bool = False  # look the file up when it is written
    sync: bool = False  # land only when the disk has it; else the file system's own pace, as scp has it


PLAIN = Landing()


@dataclass(frozen=True, slots=True)
class Landed:
    """What has become of an upload."""

    created: bool  # nothing was there before
    stat: Stat | None  # of the new file, if `report` asked for it


class Entry(NamedTuple):
    """One line of a listing. `modified` is `YYYY-MM-DDTHH:MM:SS` in the cluster's time zone."""

    name: str
    kind: str  # one letter as `ls -l` has it: - d l p s b c
    permissions: str  # rwxr-xr-x
    user: str
    group: str
    size: int
    modified: str
    link_target: str | None = None
    mtime: int = 0  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class Space:
    """How full a path's file system is, in bytes; `available` is what the user may still write."""

    total: int
    free: int
    available: int
    files: int  # inodes there are
    files_free: int
    read_only: bool | None  # None: not known
    quota: Quotas | None = None  # None: there are none, or they are not known


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tree holds: bytes as `ls` shows them, bytes on disc, entries (with the tree's own root)."""

    size: int
    allocated: int
    entries: int
    complete: bool  # no part of it was unreadable


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a followed file: which file it is, and how many bytes of it were given out."""

    ino: int
    offset: int


@dataclass(frozen=True, slots=True)
class Followed:
    """What has happened to a followed file; after everything but `added` it is read from its start."""

    event: Literal["added", "truncated", "rotated"]
    text: str  # what was added; invalid UTF-8 replaced, a character never cut
    start: int  # byte of the file at which it begins
    mark: Mark  # where to go on


@dataclass(frozen=True, slots=True)
class Content:
    """A part of a text file: text (invalid UTF-8 replaced) and what part it is."""

    text: str
    unit: Literal["bytes", "lines"]
    start: int
    end: int


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
        choice: Choice = ...,
    ) -> list[Entry]:
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
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Entry]]]:
        """As `ls`, but entries in batches as they come, in no order, in memory that does not grow with their number.

        The deadline limits the opening and each batch's progress.
        """
        ...

    async def entry(self, path: str, deadline: Deadline) -> Entry:
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
        self, path: str, deadline: Deadline, *, lines: int = 10, after: Mark | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Followed | None]]:
        """Follow a regular file from `lines` before its end, or from where it was left, as it grows.

        Never ends by itself; gives None now and then while nothing happens. A file that is gone is waited for.
        The deadline limits the opening.
        """
        ...

    async def checksum(self, path: str, deadline: Deadline, *, algorithm: Algorithm = "sha256") -> str:
        """The checksum of a regular file, in hex."""
        ...

    async def df(self, path: str, deadline: Deadline) -> Space:
        """How full the file system is that the path is on, and what the user and a group may still store there."""
        ...

    async def du(self, path: str, deadline: Deadline) -> Usage:
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
        self, path: str, chunks: AsyncIterator[bytes], deadline: Deadline, landing: Landing = PLAIN
    ) -> Landed:
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


def check_path(path: str, roots: Sequence[str], name: str = "path") -> str:
    """Return the path if it is absolute and, as written, lies within one of `roots`; else raise Invalid.

    The rule is lexical: it keeps mistakes out and tells which file system a request needs. It is no wall
    against links that lead elsewhere; what a user may read is decided by the cluster's own permissions,
    which are the same as over SSH (docs/adr/0003).
    """
    if "\0" in path:
        raise Invalid(f"`{name}` must not contain a NUL byte")
    try:
        raw = os.fsencode(path)
    except UnicodeEncodeError:
        raise Invalid(f"`{name}` holds half a surrogate pair, which no file name can") from None
    if not path.startswith("/"):
        raise Invalid(f"`{name}` must be an absolute path")
    if len(raw) > PATH_MAX or (len(raw) > NAME_MAX and any(len(part) > NAME_MAX for part in raw.split(b"/"))):
        raise Invalid(f"`{name}` is too long: a name may have {NAME_MAX} bytes, a path {PATH_MAX}")
    if not any(within(path, root) for root in roots):
        allowed = ", ".join(roots) or "none is configured"
        raise Invalid(f"`{name}` is outside the file systems of this cluster ({allowed})")
    return path


def within(path: str, root: str) -> bool:
    """Whether a path, as written and with `..` resolved lexically, is `root` or below it."""
    if path.startswith(f"{root}/") and root[:1] == "/" and "/." not in path and "//" not in path:
        return True  # there is nothing to resolve
    plain = "/" + posixpath.normpath(path).lstrip("/")
    base = "/" + posixpath.normpath(root).lstrip("/")
    return base in {"/", plain} or plain.startswith(base + "/")


def file_system(path: str, roots: Sequence[str]) -> str | None:
    """The root that a path belongs to: the longest that holds it."""
    return max((root for root in roots if within(path, root)), key=len, default=None)


_KINDS = {
    stat_bits.S_IFREG: "-",
    stat_bits.S_IFDIR: "d",
    stat_bits.S_IFLNK: "l",
    stat_bits.S_IFIFO: "p",
    stat_bits.S_IFSOCK: "s",
    stat_bits.S_IFBLK: "b",
    stat_bits.S_IFCHR: "c",
}


def kind_letter(mode: int) -> str:
    """The letter `ls -l` shows for a mode; `?` for a type nobody knows."""
    return _KINDS.get(stat_bits.S_IFMT(mode), "?")


def permission_letters(mode: int) -> str:
    """The nine letters `ls -l` shows for a mode."""
    return stat_bits.filemode(mode)[1:]
