"""The Uploads port: files on their way to a cluster in pieces, and what is known of them; it knows no adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files.resumable.state import UploadKey

CHECKSUM_ALGORITHMS = ("sha1", "sha256", "md5")  # of a checksum that goes with a piece


@dataclass(frozen=True, slots=True)
class PieceChecksum:
    """What the bytes of one piece must hash to."""

    algorithm: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class UploadStatus:
    """An upload as it stands. `metadata` is as it was given; `length` is None until the client has told it."""

    key: UploadKey
    offset: int
    length: int | None
    metadata: str

    @property
    def complete(self) -> bool:
        return self.offset == self.length


class Uploads(Protocol):
    """Files on their way to a cluster, as one user. The path of every key was checked by `check_path`.

    NotFound for an upload that is not there, Gone once it has expired, Locked while another request works on it;
    Denied, Invalid, Conflict as the cluster says about the file to be; Unavailable when the connection was lost: ask
    `look` and go on. The file to be changes only by an atomic rename, after the last byte.
    """

    async def create(self, path: str, length: int | None, metadata: str, deadline: Deadline) -> UploadStatus:
        """Begin an upload (an empty one is complete at once). Not repeatable: each call begins another."""
        ...

    async def look(self, key: UploadKey, deadline: Deadline) -> UploadStatus:
        """How far an upload is; also completes one whose last byte has arrived. Can be repeated."""
        ...

    async def append(
        self,
        key: UploadKey,
        offset: int,
        chunks: AsyncIterator[bytes],
        deadline: Deadline,
        *,
        length: int | None = None,
        checksum: PieceChecksum | None = None,
    ) -> UploadStatus:
        """Add bytes at `offset`: StaleState if it is not the upload's. What arrived stays if `chunks` raises.

        `length` tells it where it was not known. With a checksum all is kept or nothing; wrong: ChecksumMismatch.
        The deadline limits the opening and each step's progress, not the whole.
        """
        ...

    async def remove(self, key: UploadKey, deadline: Deadline) -> None:
        """End an upload and remove what is there of it."""
        ...
