"""Messages of `/filesystem/{system_name}/bulk`: many files in one request, with a result for each."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from .casing import WireModel
from .filesystem import PATH_NAMES, File, FileStat
from .text import Encoding, Path

MAX_ITEMS = 10_000


class BulkDownloadRequest(WireModel):
    """What an archive shall hold. A path that does not exist as it is written may be a pattern."""

    encoding: Encoding | None = Field(default=None, description="`percent`: paths are percent-encoded bytes.")
    paths: list[Path] = Field(
        min_length=1,
        max_length=MAX_ITEMS,
        description="Files, folders (with all in them) and patterns (`*`, `?`, `[...]`, `**` for any folders)",
    )
    base: Path | None = Field(
        default=None, description="Names in the archive are relative to this folder; else to the paths' common one"
    )


class BulkItem(WireModel):
    """A path. What is wrong with it is told in its result and does not concern the others."""

    encoding: Encoding | None = Field(default=None, description="`percent`: the path is percent-encoded bytes.")
    path: str = Field(validation_alias=PATH_NAMES, serialization_alias="path")


class StatItem(BulkItem):
    """A path to look at."""

    dereference: bool = False


class ChmodItem(BulkItem):
    """A path and the mode it shall have."""

    mode: Annotated[str, StringConstraints(min_length=1, max_length=255)] = Field(
        description="In octal, or as chmod's symbolic modes"
    )


class MkdirItem(BulkItem):
    """A directory to make."""

    parent: bool = Field(default=False, description="Make missing directories above it too")


class BulkStatRequest(WireModel):
    """Paths to look at."""

    items: list[StatItem] = Field(min_length=1, max_length=MAX_ITEMS)


class BulkRmRequest(WireModel):
    """Files and trees to remove."""

    items: list[BulkItem] = Field(min_length=1, max_length=MAX_ITEMS)


class BulkChmodRequest(WireModel):
    """Modes to set."""

    items: list[ChmodItem] = Field(min_length=1, max_length=MAX_ITEMS)


class BulkMkdirRequest(WireModel):
    """Directories to make."""

    items: list[MkdirItem] = Field(min_length=1, max_length=MAX_ITEMS)


class BulkResult(WireModel):
    """What became of one item: the status that a request for it alone would have had, and its answer."""

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
    """How many files, folders and links were made; the first thousand that were not; how many were not."""

    created: int
    failed: list[BulkFailure]
    failures: int
