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
from typing import TYPE_CHECKING, Literal, Protocol

from flamecrest.server.errors import Invalid

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline

Compression = Literal["none", "gzip", "bzip2", "xz"]


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


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a listing. `modified` is `YYYY-MM-DDTHH:MM:SS` in the cluster's time zone."""

    name: str
    kind: str  # one letter as `ls -l` has it: - d l p s b c
    permissions: str  # rwxr-xr-x
    user: str
    group: str
    size: int
    modified: str
    link_target: str | None = None


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

    def chunks(self) -> AsyncIterator[bytes]:
        """The bytes from the start to the size in `stat`; raises Upstream if the file became shorter."""
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
    ) -> list[Entry]:
        """List a directory, by name; a file or link is listed itself, under the path asked for.

        An entry that cannot be read is left out of a recursive listing's deeper levels, never the whole listing.
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

    async def checksum(self, path: str, deadline: Deadline) -> str:
        """The SHA-256 of a regular file, in hex."""
        ...

    async def chmod(self, path: str, mode: str, deadline: Deadline) -> None:
        """Set the permission bits, given in octal or as chmod's symbolic modes."""
        ...

    async def chown(self, path: str, owner: str, group: str, deadline: Deadline) -> None:
        """Change owner and group, by name or number; empty leaves one as it is."""
        ...

    async def mkdir(self, path: str, deadline: Deadline, *, parents: bool = False) -> None:
        """Make a directory; with `parents` the missing ones above it too, and it may exist already."""
        ...

    async def symlink(self, target: str, link: str, deadline: Deadline) -> None:
        """Make a symbolic link at `link` that points to `target`."""
        ...

    async def rm(self, path: str, deadline: Deadline) -> None:
        """Remove a file, a link or a whole directory tree."""
        ...

    async def upload(self, path: str, chunks: AsyncIterator[bytes], deadline: Deadline) -> None:
        """Write a file: beside its target, then by atomic rename; an existing file keeps its mode.

        The deadline limits the opening and each chunk's progress, not the whole.
        """
        ...

    def download(self, path: str, deadline: Deadline) -> AbstractAsyncContextManager[Reader]:
        """Open a regular file for streaming. The deadline limits the opening and each chunk's progress."""
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


PathCheck = Callable[[str], str]


def check_path(path: str, roots: Sequence[str], name: str = "path") -> str:
    """Return the path if it is absolute and, as written, lies within one of `roots`; else raise Invalid.

    The rule is lexical: it keeps mistakes out and tells which file system a request needs. It is no wall
    against links that lead elsewhere; what a user may read is decided by the cluster's own permissions,
    which are the same as over SSH (docs/adr/0003).
    """
    if "\0" in path:
        raise Invalid(f"`{name}` must not contain a NUL byte")
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise Invalid(f"`{name}` holds half a surrogate pair, which no file name can") from None
    if not path.startswith("/"):
        raise Invalid(f"`{name}` must be an absolute path")
    if not any(within(path, root) for root in roots):
        allowed = ", ".join(roots) or "none is configured"
        raise Invalid(f"`{name}` is outside the file systems of this cluster ({allowed})")
    return path


def within(path: str, root: str) -> bool:
    """Whether a path, as written and with `..` resolved lexically, is `root` or below it."""
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
