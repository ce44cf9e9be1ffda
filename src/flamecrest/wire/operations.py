"""Messages of the file operations that FirecREST v2 does not have."""

from typing import Annotated

from pydantic import Field

from .casing import WireModel
from .filesystem import File, PathRequest
from .text import Path

# Times as SFTP carries them: seconds in 32 bits, until the year 2106.
Time = Annotated[int, Field(ge=0, le=2**32 - 1)]
Size = Annotated[int, Field(ge=0, le=2**63 - 1)]


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


class FileSystemSpace(WireModel):
    """How full a file system is, in bytes and in inodes."""

    total: int
    free: int
    available: int = Field(description="What the caller may still write, as far as the file system itself knows")
    files: int = Field(description="Inodes there are")
    files_free: int
    read_only: bool | None = Field(description="null where the cluster does not say")


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


class TailEvent(WireModel):
    """The data of an event of `tail?follow=true`."""

    content: str = Field(description="What was added; bytes that are not UTF-8 are replaced")
    start_position: int = Field(description="Where it begins in the file, in bytes")
    end_position: int
