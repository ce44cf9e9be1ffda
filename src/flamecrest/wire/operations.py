"""Messages of the file operations that FirecREST v2 does not have."""

from typing import Annotated

from pydantic import Field

from .casing import WireModel
from .filesystem import File, PathRequest
from .text import Path
from .units import Integer

# Times as SFTP carries them: seconds in 32 bits, until the year 2106.
Time = Annotated[Integer, Field(ge=0, le=2**32 - 1)]
Size = Annotated[Integer, Field(ge=0, le=2**63 - 1)]


class OpsMvRequest(PathRequest):
    """A file or folder to rename."""

    target_path: Path = Field(description="The new path; never a folder to put it into")
    overwrite: bool = Field(default=False, description="Replace a file (or an empty folder) that is there")


class OpsCpRequest(PathRequest):
    """A file or folder to copy on the cluster."""

    target_path: Path = Field(description="The path of the copy; never a folder to put it into")
    overwrite: bool = Field(default=False, description="Replace a file, merge a folder into one that is there")
    dereference: bool = Field(default=False, description="Copy what links point to instead of the links")


class OpsTouchRequest(PathRequest):
    """A file to make, or whose time to set."""

    mtime: Time | None = Field(default=None, description="Seconds since the epoch; now if it is not given")


class OpsTruncateRequest(PathRequest):
    """A file to cut or extend."""

    size: Size = Field(description="Its new size in bytes")


class OpsFileResponse(WireModel):
    """The file as it is afterwards."""

    output: File


class Allowance(WireModel):
    """What is used of something, and the limits: null is no limit."""

    used: int
    soft: int | None = Field(description="May be exceeded for a time, the grace period")
    hard: int | None
    grace_until: int | None = Field(
        description="When more than `soft` is used: when the grace period ends or ended, in seconds since the epoch"
    )


class Quota(WireModel):
    """What a user or a group may store on a file system, wherever on it."""

    name: str
    space: Allowance = Field(description="In bytes")
    files: Allowance = Field(description="In inodes")


class Quotas(WireModel):
    """The quotas that apply when the caller writes at the path; null if there is none or it is unknown."""

    user: Quota | None
    group: Quota | None = Field(
        description="Of the group that new files in a folder get (the folder's own if it is set-group-ID, else the "
        "caller's), or that a file has; null also where the caller is no member of it"
    )


class FileSystemSpace(WireModel):
    """How full a file system is, in bytes and in inodes."""

    total: int
    free: int
    available: int = Field(description="What the caller may still write, as far as the file system itself knows")
    files: int = Field(description="Inodes there are")
    files_free: int
    read_only: bool | None = Field(description="null where the cluster does not say")
    quota: Quotas | None = Field(
        description="null where the cluster's `quota` program knows none for this file system, or does not say in time"
    )


class GetDfResponse(WireModel):
    """The space on a path's file system."""

    output: FileSystemSpace


class TreeUsage(WireModel):
    """What a file or tree holds."""

    size: int = Field(description="Bytes as `ls` shows them")
    allocated: int = Field(description="Bytes on disc")
    entries: int = Field(description="Files, folders and all else, the path itself included")
    complete: bool = Field(description="false when a part of it could not be read")


class GetDuResponse(WireModel):
    """What a file or tree holds."""

    output: TreeUsage
