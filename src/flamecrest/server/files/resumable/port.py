"""The Uploads port: resumable uploads of files in several requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files.resumable.state import UploadKey

CHECKSUM_ALGORITHMS = ("sha1", "sha256", "md5")  # of the checksum of one piece


@dataclass(frozen=True, slots=True)
class PieceChecksum:
    """The expected digest of one piece."""

    algorithm: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class UploadStatus:
    """The state of an upload. `metadata` is the client's; `length` is None until the client has declared it."""

    key: UploadKey
    offset: int
    length: int | None
    metadata: str

    @property
    def complete(self) -> bool:
        return self.offset == self.length


class Uploads(Protocol):
    """One user's uploads to one cluster. The path of every key was checked by `check_path`.

    NotFound for an upload that is not there, Gone once it has expired, Locked while another request works on it;
    Denied, Invalid, Conflict as the cluster reports for the target; Unavailable when the connection was lost: ask
    `look` and go on. The target changes by one atomic rename after the last byte.
    """

    async def create(self, path: str, length: int | None, metadata: str, deadline: Deadline) -> UploadStatus:
        """Create an upload (an empty one is complete at once). Cannot be repeated: each call creates another."""
        ...

    async def look(self, key: UploadKey, deadline: Deadline) -> UploadStatus:
        """Return the offset of an upload; completes one whose last byte has arrived. Can be repeated."""
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
        """Append bytes at `offset`; StaleState if that is not the upload's offset. Bytes are kept if `chunks` raises.

        `length` declares a deferred length. With a checksum, all bytes are kept or none; wrong: ChecksumMismatch.
        The deadline limits the opening and each step's progress, not the whole.
        """
        ...

    async def remove(self, key: UploadKey, deadline: Deadline) -> None:
        """Cancel an upload and remove its files. The file of a complete one stays; its id is Gone from then on."""
        ...
