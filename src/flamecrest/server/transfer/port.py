"""The Transfers port: work on files that is too long for one request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from flamecrest.server.errors import Field, Invalid

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files.values import Compression, CompressOptions


@dataclass(frozen=True, slots=True)
class SubmittedTransfer:
    """A transfer job that the scheduler has accepted, and the paths of its logs on the cluster."""

    job_id: str
    working_directory: str
    output_log: str
    error_log: str


@dataclass(frozen=True, slots=True)
class TransferRequest:
    """The method by which a client wants to send or receive a file, and the parameters of that method."""

    method: str  # s3, streamer or wormhole
    file_size: int | None = None  # bytes; for an upload by s3
    wormhole_code: str | None = None  # the sender's code; for an upload by wormhole


@dataclass(frozen=True, slots=True)
class S3Directives:
    """Presigned URLs: an upload has those of its parts, a download has one."""

    parts_upload_urls: Sequence[str] | None = None
    complete_upload_url: str | None = None
    download_url: str | None = None
    max_part_size: int | None = None  # bytes


@dataclass(frozen=True, slots=True)
class StreamerDirectives:
    """The coordinates that a streamer client connects to."""

    coordinates: str


@dataclass(frozen=True, slots=True)
class WormholeDirectives:
    """The code of the wormhole; the receiver enters it."""

    code: str


@dataclass(frozen=True, slots=True)
class StartedTransfer:
    """The job of an upload or a download, and what the client needs to do its part."""

    job: SubmittedTransfer
    directives: S3Directives | StreamerDirectives | WormholeDirectives


class Transfers(Protocol):
    """Jobs that work on files, as one user. Paths have been checked. No method can be repeated safely.

    Each returns as soon as the scheduler has accepted the job. Raises what Scheduler.submit raises, and Invalid if
    the cluster requires an account and none is given.
    """

    async def mv(self, source: str, target: str, deadline: Deadline, *, account: str | None) -> SubmittedTransfer:
        """Move or rename."""
        ...

    async def cp(
        self, source: str, target: str, deadline: Deadline, *, account: str | None, dereference: bool
    ) -> SubmittedTransfer:
        """Copy a file or a tree."""
        ...

    async def rm(self, path: str, deadline: Deadline, *, account: str | None) -> SubmittedTransfer:
        """Remove a file or a tree."""
        ...

    async def compress(
        self, source: str, target: str, deadline: Deadline, *, account: str | None, options: CompressOptions
    ) -> SubmittedTransfer:
        """Archive a file or a tree."""
        ...

    async def extract(
        self, source: str, target: str, deadline: Deadline, *, account: str | None, compression: Compression
    ) -> SubmittedTransfer:
        """Unpack an archive."""
        ...

    async def upload(
        self, path: str, deadline: Deadline, *, account: str | None, request: TransferRequest
    ) -> StartedTransfer:
        """Start an upload to `path`. Raises Invalid (see method_unavailable) for a method that the cluster lacks."""
        ...

    async def download(
        self, path: str, deadline: Deadline, *, account: str | None, request: TransferRequest
    ) -> StartedTransfer:
        """Start a download of `path`. Raises Invalid (see method_unavailable) for a method that the cluster lacks."""
        ...


def method_unavailable(method: str, cluster: str, configured: Sequence[str]) -> Invalid:
    """The error for a transfer method that a cluster does not have."""
    message = f"the method {method} is not available on {cluster} (available: {', '.join(configured) or 'none'})"
    return Invalid(f"`transferMethod`: {message}", fields=(Field("body", "transferMethod", message),))
