"""Messages of `/filesystem/{system_name}/transfer`: what moves where, by which method, and the job that does it."""

from typing import Annotated, Literal

from pydantic import Field

from .casing import WireModel
from .compute import JobDescriptionModel
from .filesystem import CompressionType, PathRequest
from .operations import Size
from .text import Path, Text, Word

_THEN = "A job that is submitted once when the transfer is complete"
Sha256 = Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{64}$")]


class MoveRequest(PathRequest):
    """What to move, and where."""

    target_path: Path
    account: Word | None = None
    then_submit: JobDescriptionModel | None = Field(default=None, description=_THEN)


class CopyRequest(PathRequest):
    """What to copy, and where."""

    target_path: Path
    account: Word | None = None
    dereference: bool = Field(default=False, description="Copy what links point to instead of the links")
    then_submit: JobDescriptionModel | None = Field(default=None, description=_THEN)


class CompressRequest(PathRequest):
    """What to archive, and into which file."""

    target_path: Path
    account: Word | None = None
    match_pattern: Text | None = Field(
        default=None, description="Archive only what matches this regular expression (as in `find -regex`)"
    )
    dereference: bool = Field(default=False, description="Archive what links point to instead of the links")
    compression: CompressionType = "gzip"
    then_submit: JobDescriptionModel | None = Field(default=None, description=_THEN)


class ExtractRequest(PathRequest):
    """Which archive to unpack, and where."""

    target_path: Path
    account: Word | None = None
    compression: CompressionType = "gzip"
    then_submit: JobDescriptionModel | None = Field(default=None, description=_THEN)


class S3TransferRequest(WireModel):
    """Through the object store (s3), or the gateway: direct, and s3 where no store is configured."""

    transfer_method: Literal["s3", "direct"]
    file_size: Size | None = Field(default=None, description="Bytes; needed for uploads")
    sha256: Sha256 | None = Field(default=None, description="That an uploaded file must have, in hexadecimal digits")


class StreamerTransferRequest(WireModel):
    """By firecrest-streamer."""

    transfer_method: Literal["streamer"]


class WormholeTransferRequest(WireModel):
    """By magic-wormhole."""

    transfer_method: Literal["wormhole"]


class WormholeTransferUploadRequest(WireModel):
    """By magic-wormhole; the sender's code is known."""

    transfer_method: Literal["wormhole"]
    wormhole_code: Word


class PostFileUploadRequest(PathRequest):
    """Where an upload goes, and how it comes."""

    account: Word | None = None
    transfer_directives: Annotated[
        WormholeTransferUploadRequest | S3TransferRequest | StreamerTransferRequest,
        Field(discriminator="transfer_method"),
    ]
    then_submit: JobDescriptionModel | None = Field(default=None, description=_THEN)


class PostFileDownloadRequest(PathRequest):
    """What to download, and how it goes."""

    account: Word | None = None
    transfer_directives: Annotated[
        WormholeTransferRequest | S3TransferRequest | StreamerTransferRequest,
        Field(discriminator="transfer_method"),
    ]


class TransferJobLogs(WireModel):
    """The files in which a transfer says how it goes."""

    output_log: str
    error_log: str


class TransferJob(WireModel):
    """The job that does a transfer."""

    job_id: str
    system: str
    working_directory: str
    logs: TransferJobLogs


class S3TransferResponse(WireModel):
    """Where a client puts or gets the parts of a file."""

    transfer_method: Literal["s3", "direct"]
    parts_upload_urls: list[str] | None = None
    complete_upload_url: str | None = None
    download_url: str | None = None
    max_part_size: int | None = None
    abort_upload_url: str | None = None
    resumable_upload_url: str | None = Field(default=None, description="With direct: for the tus protocol, and a token")
    range_download_url: str | None = Field(default=None, description="With direct: for `Range`, and a token")


class StreamerTransferResponse(WireModel):
    """What a streamer client needs to connect."""

    transfer_method: Literal["streamer"]
    coordinates: str | None = None


class WormholeTransferResponse(WireModel):
    """The code a wormhole client needs."""

    transfer_method: Literal["wormhole"]
    wormhole_code: str | None = None


TransferDirectives = WormholeTransferResponse | S3TransferResponse | StreamerTransferResponse


class UploadFileResponse(WireModel):
    """A transfer to a system that was begun."""

    transfer_job: TransferJob
    transfer_directives: TransferDirectives


class DownloadFileResponse(WireModel):
    """A transfer from a system that was begun."""

    transfer_job: TransferJob
    transfer_directives: TransferDirectives


class MoveResponse(WireModel):
    """A move that was begun."""

    transfer_job: TransferJob


class CopyResponse(WireModel):
    """A copy that was begun."""

    transfer_job: TransferJob


class DeleteResponse(WireModel):
    """A removal that was begun."""

    transfer_job: TransferJob


class CompressResponse(WireModel):
    """Archiving that was begun."""

    transfer_job: TransferJob


class ExtractResponse(WireModel):
    """Unpacking that was begun."""

    transfer_job: TransferJob
