"""Values of the file ports: attributes, listing entries, sizes and options.

Paths and names are text as Python's os.fsdecode makes it: UTF-8, other bytes as lone surrogates.
"""

from __future__ import annotations

import stat as stat_bits
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

CLOCK_STEP: Final = 0.02  # seconds: longer than the step in which kernels count the times of files (1 to 10 ms)
CLOCK_SLACK: Final = 1.0  # seconds by which the clocks of the gateway and of a login node may differ

Compression = Literal["none", "gzip", "bzip2", "xz"]
ChecksumAlgorithm = Literal["md5", "sha1", "sha256", "sha512", "blake2b"]


class Stat(NamedTuple):
    """The attributes of a file, in the order of the agent's numbers, so that an answer is a Stat by `Stat(*numbers)`.

    `mode` holds type and permission bits; times are seconds since the epoch. 0 stands for what is not known. Attributes
    with ctime and without inode are perhaps of another file at the same path.
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
    ctime_fraction: int = 0  # the same of ctime
    clock: int = 0  # of the cluster, in microseconds since the epoch, right before the attributes were read

    @property
    def mtime_ns(self) -> int | None:
        """`mtime` in nanoseconds; None where only the second is known."""
        return self.mtime * 10**9 + self.mtime_fraction if self.mtime_fraction else None

    @property
    def version(self) -> tuple[int, ...]:
        """What changes with every change of the file, once it is settled: inode, size, mtime, ctime."""
        return self.ino, self.size, self.mtime, self.mtime_fraction, self.ctime, self.ctime_fraction

    def now(self, clock: float) -> float:
        """The cluster's time when the attributes were read, in seconds: its own, or that of the gateway, `clock`.

        The result may be too early, not too late.
        """
        return self.clock / 1e6 if self.clock else clock - CLOCK_SLACK

    def settles_in(self, clock: float) -> float:
        """Seconds until every later change of the file has another ctime; 0 or less: that is so already.

        The kernel counts ctime in steps, and two changes within a step have the same. `clock` is the gateway's time.
        """
        step = CLOCK_STEP if self.ctime_fraction else 1 + CLOCK_STEP
        return self.ctime + self.ctime_fraction / 1e9 + step - self.now(clock)


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
    """Usage of one resource and its limits; None is no limit."""

    used: int
    soft: int | None  # may be exceeded for a grace period
    hard: int | None
    grace_until: int | None  # end of the grace period, in seconds since the epoch; None below the soft limit


@dataclass(frozen=True, slots=True)
class OwnerQuota:
    """The quota of one user or group on one file system."""

    name: str
    space: QuotaUsage  # in bytes
    files: QuotaUsage  # in inodes


@dataclass(frozen=True, slots=True)
class PathQuotas:
    """The quotas that apply when the user writes to a path; None if there is none or it is unknown."""

    user: OwnerQuota | None
    group: OwnerQuota | None  # of the group of new files there, or of the file at the path


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """Size and usage of a path's file system in bytes; `available` is what the user can still write."""

    total: int
    free: int
    available: int
    files: int  # total number of inodes
    files_free: int
    read_only: bool | None  # None: unknown
    quota: PathQuotas | None = None  # None: there are none, or they are unknown


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """Disk usage of a tree: sum of file sizes, bytes on disk, number of entries including the root."""

    size: int
    allocated: int
    entries: int
    complete: bool  # every part was readable


@dataclass(frozen=True, slots=True)
class FollowPosition:
    """A position in a followed file: its inode, and the bytes that were delivered."""

    ino: int
    offset: int


@dataclass(frozen=True, slots=True)
class FollowEvent:
    """A change of a followed file. After `truncated` and `rotated` it is read from its start."""

    event: Literal["added", "truncated", "rotated"]
    text: str  # the added text; invalid UTF-8 is replaced, no character is split
    start: int  # byte offset of the text in the file
    position: FollowPosition  # for `after`, to resume behind this event


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
    """Return the type letter of `ls -l`; `?` for an unknown type."""
    return _KINDS.get(stat_bits.S_IFMT(mode), "?")


def permission_letters(mode: int) -> str:
    """Return the nine permission letters of `ls -l`."""
    return stat_bits.filemode(mode)[1:]
