"""What all transfers through one object store share: its client, the signers of its URLs, and the sizes. No I/O."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from flamecrest.server.transfer.direct.parts import DataFile, PartPlan, plan_of
from flamecrest.server.transfer.records.record import Record, damaged

from .naming import LONGEST_URL_LIFE, bucket_name

if TYPE_CHECKING:
    from .presign import Presigner
    from .store import Store

Mover = Literal["job", "gateway"]

AT_ONCE: Final = 500  # URLs that are signed before other requests go on
MOVING: Final = 24 * 3600  # seconds after the last moment to upload in which the data is moved to the cluster


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """An object store, and how transfers use it. Clients have `public` URLs, movers `private` ones.

    `life` is that of the URLs in seconds, `part_size` in bytes. `parallel` parts are moved at the same time.
    """

    store: Store
    public: Presigner
    private: Presigner
    prefix: str | None
    tenant: str | None
    life: float
    part_size: int
    parallel: int
    mover: Mover
    copies: bool = False  # whether copies to other clusters go through it
    family: list[StoreAccess] = field(default_factory=list, repr=False)  # the same store, as other clusters use it

    @property
    def url_life(self) -> float:
        """The life of presigned URLs, in seconds."""
        return min(self.life, LONGEST_URL_LIFE)

    def bucket(self, username: str) -> str:
        """The name of a user's bucket."""
        return bucket_name(username, self.prefix, self.tenant)

    def place(self, record: Record, username: str) -> ObjectPlace:
        """Where the object of a transfer is.

        Raises Conflict if that is no bucket of the user: the record is a file that the user may write, and the access
        key may use all buckets.
        """
        item = ObjectPlace.of(record)
        if item.bucket not in {one.bucket(username) for one in (self, *self.family)}:
            raise damaged()
        return item

    async def part_urls(self, signer: Presigner, item: ObjectPlace, count: int, life: float | None = None) -> list[str]:
        """The URLs of all parts of an upload, valid for `life` seconds. Other requests go on meanwhile."""
        life = self.url_life if life is None else life
        urls: list[str] = []
        for first in range(1, count + 1, AT_ONCE):
            numbers = range(first, min(first + AT_ONCE, count + 1))
            urls += signer.part_urls(item.bucket, item.key, item.upload, numbers, life)
            await asyncio.sleep(0)
        return urls


@dataclass(frozen=True, slots=True)
class ObjectPlace:
    """Where the object of a transfer is, the id of its multipart upload, and the account for the mover job."""

    bucket: str
    key: str
    upload: str
    account: str = ""

    @classmethod
    def of(cls, record: Record) -> ObjectPlace:
        """Read it from a record, which may name any bucket. Raises Conflict if it is damaged."""
        bucket, upload, account = (record.details.get(name) for name in ("bucket", "upload", "account"))
        if not isinstance(bucket, str) or not isinstance(upload, str) or not isinstance(account, str):
            raise damaged()
        return cls(bucket, record.key, upload, account)

    def details(self, data: DataFile) -> dict[str, str | int]:
        """The details of the record of a transfer."""
        return {
            "bucket": self.bucket,
            "upload": self.upload,
            "account": self.account,
            "part_size": data.part_size,
            "file": data.file,
            "mode": data.mode,
        }


def parts_of(record: Record) -> PartPlan:
    """The parts of the object of a transfer. Raises Conflict if the record is damaged."""
    return plan_of(record)
