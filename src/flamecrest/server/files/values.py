"""Values of the file ports: attributes, entries of a listing, sizes, and options of an upload.

Paths and names are text as Python's os.fsdecode makes it: UTF-8, other bytes as lone surrogates.
"""

from __future__ import annotations

import stat as stat_bits
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

Compression = Literal["none", "gzip", "bzip2", "xz"]
ChecksumAlgorithm = Literal["md5", "sha1", "sha256", "sha512", "blake2b"]


class Stat(NamedTuple):
    """The attributes of a file, in the order of the agent's numbers, so that an answer is a Stat by `Stat(*numbers)`.

    `mode` holds type and permission bits; times are seconds since the epoch. 0 stands for what is not known.
    """

    dev: int = 0
    ino: int = 0
    mode: int = 0
    nlink: int = 1
    uid: int = 0
    gid: int = 0
    rdev: int = 0
    size: int = 0
    atime: int = 0
    mtime: int = 0
    ctime: int = 0
    mtime_fraction: int = 0  # nanoseconds; 0 where only the second is known

    @property
    def mtime_ns(self) -> int | None:
        """`mtime` in nanoseconds; None where only the second is known."""
        return self.mtime * 10**9 + self.mtime_fraction if self.mtime_fraction else None


@dataclass(frozen=True, slots=True)
class ListOptions:
    """Options of a directory listing."""

    hidden: bool = False  # list names that begin with a dot
    numeric: bool = False  # uid and gid instead of names
    recursive: bool = False
    dereference: bool = False  # attributes of a link's target instead of the link


DEFAULT_LISTING = ListOptions()


@dataclass(frozen=True, slots=True)
class TextRange:
    """The part of a text file that `head` or `tail` returns."""

    count: int
    limit: int  # bytes; a longer text is refused
    unit: Literal["bytes", "lines"] = "lines"
    skip: bool = False  # everything except this part


@dataclass(frozen=True, slots=True)
class CompressOptions:
    """Options of a tar archive."""

    compression: Compression = "gzip"
    pattern: str | None = None  # a regular expression as in find -regex: only matching regular files
    dereference: bool = False  # archive the targets of links


DEFAULT_COMPRESSION = CompressOptions()


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """Options of an upload."""

    mode: int | None = None  # permission bits; None: those of the replaced file, or as the umask has it
    mtime: int | None = None  # seconds since the epoch
    parents: bool = False  # create missing parent directories
    exclusive: bool = False  # refuse (PreconditionFailed) to replace a file, also one that appeared during the upload
    # Called with the existing file (None: none) before anything is written and again right before the rename; raises
    # to refuse. Only these attributes have an inode and nanoseconds for certain.
    precondition: Callable[[Stat | None], None] | None = None
    report_stat: bool = False  # return the attributes of the new file
    sync: bool = False  # rename only after fsync; else as the file system has it


DEFAULT_WRITE = WriteOptions()


@dataclass(frozen=True, slots=True)
class WriteResult:
    """The result of an upload."""

    created: bool  # no file existed before
    stat: Stat | None  # of the new file, if `report_stat` was set


class ListingEntry(NamedTuple):
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
class QuotaUsage:
    """What is used of something, and the limits; None is no limit."""

    used: int
    soft: int | None  # may be exceeded, for a time
    hard: int | None
    grace_until: int | None  # over the soft limit: when that time ends or has ended, in seconds since the epoch


@dataclass(frozen=True, slots=True)
class OwnerQuota:
    """Of one user or group on one file system."""

    name: str
    space: QuotaUsage  # in bytes
    files: QuotaUsage  # in inodes


@dataclass(frozen=True, slots=True)
class PathQuotas:
    """Whose quotas count when the user writes at a path; None where the file system keeps none, or does not tell."""

    user: OwnerQuota | None
    group: OwnerQuota | None  # of the group that new files get there, or that the file at the path has


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """How full a path's file system is, in bytes; `available` is what the user may still write."""

    total: int
    free: int
    available: int
    files: int  # inodes there are
    files_free: int
    read_only: bool | None  # None: not known
    quota: PathQuotas | None = None  # None: there are none, or they are not known


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """What a tree holds: bytes as `ls` shows them, bytes on disc, entries (with the tree's own root)."""

    size: int
    allocated: int
    entries: int
    complete: bool  # no part of it was unreadable


@dataclass(frozen=True, slots=True)
class FollowPosition:
    """A place in a followed file: which file it is, and how many bytes of it were given out."""

    ino: int
    offset: int


@dataclass(frozen=True, slots=True)
class FollowEvent:
    """What has happened to a followed file; after everything but `added` it is read from its start."""

    event: Literal["added", "truncated", "rotated"]
    text: str  # what was added; invalid UTF-8 replaced, a character never cut
    start: int  # byte of the file at which it begins
    mark: FollowPosition  # where to go on


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
