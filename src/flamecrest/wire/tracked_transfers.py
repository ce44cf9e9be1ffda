"""Messages of transfers as things: list, details, synchronizations, copies."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from .casing import WireModel
from .compute import JobDescriptionModel
from .filesystem import PathRequest
from .text import Path, Text, Word
from .transfer import TransferJob, TransferJobLogs

Pattern = Annotated[Text, StringConstraints(min_length=1, max_length=1024)]
Patterns = Annotated[list[Pattern], Field(max_length=100)]


class SyncTransferRequest(PathRequest):
    """Which folder is made like which."""

    target_path: Path = Field(examples=["/home/user/copy"])
    target_system: Word | None = Field(default=None, description="The system of `targetPath`; default: the same system")
    compare: Literal["mtime", "checksum"] = Field(
        default="mtime", description="A file is the same if size and time are, or if its SHA-256 is"
    )
    delete: bool = Field(default=False, description="Remove what the source does not have")
    include: Patterns = Field(
        default_factory=list,
        description="Transfer only files that match one of these patterns. Without a slash they match names, else "
        "paths below the folder: `*.csv`, `results/**`",
        examples=[["*.csv"]],
    )
    exclude: Patterns = Field(
        default_factory=list, description="Neither transfer nor remove what matches", examples=[["*.tmp", "cache/"]]
    )
    dry_run: bool = Field(default=False, description="Only list what would be done")
    then_submit: JobDescriptionModel | None = Field(
        default=None, description="A job for the target's system that is submitted once when all is there"
    )


class CopyTransferRequest(PathRequest):
    """What is copied to which system."""

    target_path: Path = Field(examples=["/home/user/copy"], description="In it, if it is a folder")
    target_system: Word = Field(description="The system of `targetPath`")
    account: Word | None = Field(default=None, description="For jobs on both systems, if the copy needs any")
    then_submit: JobDescriptionModel | None = Field(
        default=None, description="A job for the target's system that is submitted once when all is there"
    )


class PlannedStepModel(WireModel):
    """What a synchronization would do with one entry."""

    action: Literal["create", "update", "delete", "attributes", "skip", "fail"]
    path: str = Field(description="Below the folders; bytes that are not UTF-8 as %XX if `encoding` is set")
    type: Literal["file", "folder", "link", "other"]
    size: int = Field(description="Bytes")
    reason: str | None = None
    encoding: Literal["percent"] | None = None


class SyncPlanModel(WireModel):
    """What a synchronization would do. A folder that is removed counts once."""

    steps: list[PlannedStepModel] = Field(description="The first 1000")
    counts: dict[str, int] = Field(description="By action, of all")
    bytes: int = Field(description="That would be transferred")


class SyncTransferResponse(WireModel):
    """A synchronization that was begun, or its plan."""

    transfer_job: TransferJob | None = None
    plan: SyncPlanModel | None = None


class CopyTransferResponse(WireModel):
    """A copy that was begun."""

    transfer_job: TransferJob


class TransferModel(WireModel):
    """A transfer. Times are seconds since the epoch, sizes bytes; null: not known, or not of this transfer."""

    id: str
    method: (
        Literal["direct", "s3", "streamer", "wormhole", "mv", "cp", "rm", "compress", "extract", "sync", "copy"] | None
    ) = Field(default=None, description="null: the record of the transfer was damaged, and its path is empty")
    direction: Literal["upload", "download", "internal"] | None = None
    state: Literal["PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"]
    system: str
    path: str
    target_path: str | None = None
    target_system: str | None = None
    job_id: str | None = Field(default=None, description="The scheduler's job that does it")
    created: int
    ended: int | None = None
    expires: int | None = Field(default=None, description="When a transfer that waits for its client ends")
    bytes_done: int | None = None
    bytes_total: int | None = None
    files_done: int | None = None
    rate: float | None = Field(default=None, description="Bytes per second")
    seconds_left: int | None = Field(default=None, description="At this rate")
    etag: str | None = None
    sha256: str | None = Field(default=None, description="Of the file, if both sides have it")
    state_reason: str | None = Field(
        default=None, description="Why it is `PENDING`: the scheduler's reason, or what is missing"
    )
    error: str | None = None
    hint: str | None = Field(default=None, description="What can be done about the error, or about `stateReason`")
    then_job_id: str | None = Field(default=None, description="The job of `thenSubmit`")
    logs: TransferJobLogs
    encoding: Literal["percent"] | None = Field(default=None, description="`percent`: paths are percent-encoded bytes")


class TransferListResponse(WireModel):
    """Transfers, the newest first."""

    transfers: list[TransferModel]
    next_cursor: str | None = Field(default=None, description="`cursor` of the next page; null: there is none")


class TransferResponse(WireModel):
    """One transfer."""

    transfer: TransferModel
