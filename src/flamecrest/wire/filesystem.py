"""Messages of `/filesystem/{system_name}/ops` in FirecREST v2."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    StringConstraints,
    model_validator,
)
from typing_extensions import TypeAliasType

from .casing import WireModel
from .text import Encoding, Path, Text, Word

CompressionType = TypeAliasType("CompressionType", Literal["none", "bzip2", "gzip", "xz"])

_PathField = Literal["path", "target_path", "link_path"]
_SPELLINGS: Final[Mapping[_PathField, tuple[str, ...]]] = {  # of the fields that are paths; the first one found counts
    "path": ("sourcePath", "source_path", "path"),
    "target_path": ("targetPath", "target_path"),
    "link_path": ("linkPath", "link_path"),
}
PATH_NAMES = AliasChoices(*_SPELLINGS["path"])
_PATH_SPELLINGS: Final = frozenset(name for spellings in _SPELLINGS.values() for name in spellings)


class ContentUnit(StrEnum):
    """The unit of positions in a file."""

    LINES = "lines"
    BYTES = "bytes"


class File(WireModel):
    """One entry of a listing. A name that is not UTF-8 is percent-encoded; then `encoding` is set."""

    name: str
    type: str
    link_target: str | None = None
    user: str
    group: str
    permissions: str
    last_modified: str
    size: str
    encoding: Encoding | None = Field(
        default=None, description="`percent` if name and linkTarget are percent-encoded bytes; else omitted."
    )


class FileContent(WireModel):
    """A part of a file: from `start_position` to `end_position`, negative ones counted from the end."""

    content: str
    content_type: ContentUnit
    start_position: int
    end_position: int


class FileChecksum(WireModel):
    """A checksum in hexadecimal digits."""

    algorithm: str = "SHA-256"
    checksum: str


class FileStat(WireModel):
    """The attributes of a file; times in seconds since the epoch."""

    mode: int
    ino: int
    dev: int
    nlink: int
    uid: int
    gid: int
    size: int
    atime: int
    ctime: int
    mtime: int


class GetDirectoryLsResponse(WireModel):
    """A listing."""

    output: list[File] | None = None
    next_cursor: str | None = Field(
        default=None, description="Cursor of the next page, null on the last page; omitted without `limit`"
    )


class GetFileHeadResponse(WireModel):
    """The first part of a file."""

    output: FileContent | None = None


class GetFileTailResponse(WireModel):
    """The last part of a file."""

    output: FileContent | None = None


class GetViewFileResponse(WireModel):
    """A part of a file as text."""

    output: str | None = None


class GetFileChecksumResponse(WireModel):
    """The checksum of a file."""

    output: FileChecksum | None = None


class GetFileTypeResponse(WireModel):
    """The output of `file`."""

    output: str | None = None


class GetFileStatResponse(WireModel):
    """The attributes of a file."""

    output: FileStat | None = None


class PutFileChmodResponse(WireModel):
    """The file after its mode was changed."""

    output: File | None = None


class PutFileChownResponse(WireModel):
    """The file after its owner was changed."""

    output: File | None = None


class PostMkdirResponse(WireModel):
    """The new directory."""

    output: File | None = None


class PostFileSymlinkResponse(WireModel):
    """The new link."""

    output: File | None = None


class PathRequest(WireModel):
    """A path, under any of three names."""

    encoding: Encoding | None = Field(default=None, description="`percent`: paths are percent-encoded bytes.")
    path: Path = Field(validation_alias=PATH_NAMES, serialization_alias="sourcePath", examples=["/home/user/dir"])
    _sent: frozenset[str] = PrivateAttr(default=frozenset())

    @model_validator(mode="wrap")
    @classmethod
    def _keep_names(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        request = handler(data)
        if isinstance(data, Mapping):
            request._sent = _PATH_SPELLINGS.intersection(data)  # noqa: SLF001 # its own class
        return request

    def sent_as(self, field: _PathField) -> str:
        """The name under which the caller has sent a path: errors about it name the field so."""
        return next((name for name in _SPELLINGS[field] if name in self._sent), _SPELLINGS[field][0])

    @property
    def paths(self) -> dict[str, str]:
        """All paths of the request by their names as they were sent."""
        fields = type(self).model_fields
        return {self.sent_as(field): getattr(self, field) for field in _SPELLINGS if field in fields}


def _empty_for_null(value: Any) -> Any:
    return "" if value is None else value


OwnerName = Annotated[Word, BeforeValidator(_empty_for_null, json_schema_input_type=str)]


class PutFileChmodRequest(PathRequest):
    """A mode to set."""

    mode: Annotated[Word, StringConstraints(min_length=1)] = Field(
        description="In octal, or as chmod's symbolic modes", examples=["640", "u+x"]
    )


class PutFileChownRequest(PathRequest):
    """An owner and a group to set; empty or null leaves it unchanged."""

    owner: OwnerName = Field(default="", description="User name or number")
    group: OwnerName = Field(default="", description="Group name or number")


class PostMakeDirRequest(PathRequest):
    """A directory to create."""

    parent: bool = Field(default=False, description="Create missing parent directories")
    exist_ok: bool = Field(default=False, description="An existing directory is no error")


class PostFileSymlinkRequest(PathRequest):
    """A link to the path to create."""

    link_path: Path = Field(description="Path of the link")
    relative: bool = Field(
        default=False,
        description="Store the path relative to the link; then the path may be given relative to it, too",
    )


class PostCompressRequest(PathRequest):
    """A file or tree to archive."""

    target_path: Path = Field(description="The archive to write")
    match_pattern: Text | None = Field(
        default=None, description="Archive only what matches this regular expression (as in `find -regex`)"
    )
    dereference: bool = Field(default=False, description="Archive what links point to instead of the links")
    compression: CompressionType = "gzip"


class PostExtractRequest(PathRequest):
    """An archive to unpack."""

    target_path: Path = Field(description="The directory to unpack into")
    compression: CompressionType = "gzip"


class UploadForm(WireModel):
    """The form of an upload, as the schema describes it; its bytes are never a value of this class."""

    file: bytes = Field(
        description="The file; its name is taken from the part's `filename` (or `filename*`)",
        json_schema_extra={"type": "string", "contentMediaType": "application/octet-stream"},
    )
