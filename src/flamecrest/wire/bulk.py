"""Messages of `/filesystem/{system_name}/bulk`: many files in one request, each with its own result."""

from typing import Annotated, Any

from pydantic import AliasChoices, Field, StringConstraints

from .casing import WireModel
from .filesystem import File, FileStat
from .text import Encoding, Path

MAX_ITEMS = 10_000


class BulkDownloadRequest(WireModel):
    """The content of an archive. A path that does not exist literally is used as a pattern."""

    encoding: Encoding | None = Field(default=None, description="`percent`: paths are percent-encoded bytes.")
    paths: list[Path] = Field(
        min_length=1,
        max_length=MAX_ITEMS,
        description="Files, directories with their content, and patterns (`*`, `?`, `[...]`, `**` for any directories)",
    )
    base: Path | None = Field(
        default=None,
        description="Names in the archive are relative to this directory; default: to the common parent of the paths",
    )


class BulkItem(WireModel):
    """A path. An error is part of its result and does not affect the others."""

    encoding: Encoding | None = Field(default=None, description="`percent`: the path is percent-encoded bytes.")
    path: str = Field(validation_alias=AliasChoices("path", "sourcePath", "source_path"), serialization_alias="path")


class StatItem(BulkItem):
    """A path whose attributes are shown."""

    dereference: bool = False


class ChmodItem(BulkItem):
    """A path and its new mode."""

    mode: Annotated[str, StringConstraints(min_length=1, max_length=255)] = Field(
        description="In octal, or as chmod's symbolic modes"
    )


class MkdirItem(BulkItem):
    """A directory to create."""

    parent: bool = Field(default=False, description="Create missing parent directories")


class BulkStatRequest(WireModel):
    """Paths whose attributes are shown."""

    items: list[StatItem] = Field(min_length=1, max_length=MAX_ITEMS)


class BulkRmRequest(WireModel):
    """Files and trees to remove."""

    items: list[BulkItem] = Field(min_length=1, max_length=MAX_ITEMS)


class BulkChmodRequest(WireModel):
    """Modes to set."""

    items: list[ChmodItem] = Field(min_length=1, max_length=MAX_ITEMS)


class BulkMkdirRequest(WireModel):
    """Directories to create."""

    items: list[MkdirItem] = Field(min_length=1, max_length=MAX_ITEMS)


class BulkResult(WireModel):
    """The result of one item: status and output of a request for it alone."""

    path: str
    encoding: Encoding | None = None
    status: int
    output: FileStat | File | Any | None = None
    message: str | None = None


class BulkResponse(WireModel):
    """The results, in the order of the items."""

    results: list[BulkResult]


class BulkFailure(WireModel):
    """An entry of an archive that could not be written, and why."""

    path: str
    encoding: Encoding | None = None
    message: str


class BulkUploadResponse(WireModel):
    """Number of created files, directories and links; the first thousand failures; number of failures."""

    created: int
    failed: list[BulkFailure]
    failures: int
