"""Values of the file ports: attributes, entries of a listing, sizes, and options of an upload.

Paths and names are text as Python's os.fsdecode makes it: UTF-8, other bytes as lone surrogates.
"""

from __future__ import annotations

import stat as stat_bits
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Compression = Literal["none", "gzip", "bzip2", "xz"]
ChecksumAlgorithm = Literal["md5", "sha1", "sha256", "sha512", "blake2b"]


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
class WriteOptions:
    """How an uploaded file lands."""

    mode: int | None = None  # permission bits; None: those of the file it replaces, or what the umask says
    mtime: int | None = None  # seconds since the epoch
    parents: bool = False  # make the missing folders above it
    new: bool = False  # refuse (PreconditionFailed) to replace a file, also one that came meanwhile
    # Called with the file that is there (None: none) before anything is written and again right before the file lands;
    # raises what speaks against it. Only then are inode and nanoseconds known for sure.
    admit: Callable[[Stat | None], None] | None = None
    report: bool = False  # look the file up when it is written
    sync: bool = False  # land only when the disk has it; else the file system's own pace, as scp has it


DEFAULT_WRITE = WriteOptions()


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What has become of an upload."""

    created: bool  # nothing was there before
    stat: Stat | None  # of the new file, if `report` asked for it


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
