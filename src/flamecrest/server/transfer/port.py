"""The Transfers port: work on files that is too long for one request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from flamecrest.server.errors import Field, Invalid, Upstream

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files.values import Compression, CompressOptions


class RefusedKey(Upstream):
    """The object store does not accept the key of the gateway, or what was signed with it at this time."""


@dataclass(frozen=True, slots=True)
class SubmittedTransfer:
    """A transfer job that the scheduler has accepted, and the paths of its logs on the cluster."""

    job_id: str
    working_directory: str
    output_log: str
    error_log: str
    transfer: str = ""  # its id in the list of transfers; empty: that of the job

    @property
    def transfer_id(self) -> str:
        """The id of the transfer that the job does."""
        return self.transfer or self.job_id


@dataclass(frozen=True, slots=True)
class TransferRequest:
    """The method by which a client wants to send or receive a file, and the parameters of that method."""

    method: str  # s3, direct, streamer or wormhole
    file_size: int | None = None  # bytes; for an upload by s3 or direct
    sha256: str = ""  # that the file must have, in hexadecimal digits; for an upload by s3 or direct
    wormhole_code: str | None = None  # the sender's code; for an upload by wormhole


@dataclass(frozen=True, slots=True)
class S3Directives:
    """Signed URLs: an upload has those of its parts, a download has one. Those of the gateway have no host."""

    parts_upload_urls: Sequence[str] | None = None  # each begins with `parts_start`
    complete_upload_url: str | None = None
    download_url: str | None = None
    max_part_size: int | None = None  # bytes
    abort_upload_url: str | None = None
    method: str = "s3"  # or direct, which has the same URLs
    parts_start: str = ""


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


class TransferMethod(Protocol):
    """A way in which files come to the cluster of one user, and from it. Paths have been checked.

    `account` is charged for the jobs of methods that submit any. Raises NotFound, Denied, Invalid, Conflict as the
    cluster reports for the path, Upstream for SSH failures, and what Submitter.submit raises if a job is submitted.
    """

    async def upload(
        self, path: str, deadline: Deadline, *, account: str | None, request: TransferRequest
    ) -> StartedTransfer:
        """Start an upload to `path`. Cannot be repeated: each call starts another."""
        ...

    async def download(
        self, path: str, deadline: Deadline, *, account: str | None, request: TransferRequest
    ) -> StartedTransfer:
        """Start a download of `path`."""
        ...


class Transfers(Protocol):
    """Jobs that work on files, as one user. Paths have been checked. With an idempotency `key` a job is submitted once.

    Without a key no method can be repeated safely. Each returns as soon as the scheduler has accepted the job. Raises
    what Submitter.submit raises, Invalid if the cluster requires an account and none is given, and NotFound, Denied or
    Invalid if the folder for the logs cannot be made.
    """

    async def mv(
        self, source: str, target: str, deadline: Deadline, *, account: str | None, key: str | None = None
    ) -> SubmittedTransfer:
        """Move or rename."""
        ...

    async def cp(
        self,
        source: str,
        target: str,
        deadline: Deadline,
        *,
        account: str | None,
        key: str | None = None,
        dereference: bool,
    ) -> SubmittedTransfer:
        """Copy a file or a tree."""
        ...

    async def rm(
        self, path: str, deadline: Deadline, *, account: str | None, key: str | None = None
    ) -> SubmittedTransfer:
        """Remove a file or a tree."""
        ...

    async def compress(
        self,
        source: str,
        target: str,
        deadline: Deadline,
        *,
        account: str | None,
        key: str | None = None,
        options: CompressOptions,
    ) -> SubmittedTransfer:
        """Archive a file or a tree."""
        ...

    async def extract(
        self,
        source: str,
        target: str,
        deadline: Deadline,
        *,
        account: str | None,
        key: str | None = None,
        compression: Compression,
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
