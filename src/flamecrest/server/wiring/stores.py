"""Opens the object stores of transfers: one client for each store that the settings name."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flamecrest.server.settings import S3TransferSettings
from flamecrest.server.transfer.records.sweeping import Sweeps
from flamecrest.server.transfer.s3.access import StoreAccess

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx

    from flamecrest.server.settings import DataOperationSettings
    from flamecrest.server.transfer.s3.watch import Watch
    from flamecrest.server.transfer.tracking.background import RunningTransfers
    from flamecrest.server.transfer.tracking.followed import Followed


@dataclass(frozen=True, slots=True)
class Background:
    """What all transfers share that go on when no request waits for them."""

    http: httpx.AsyncClient
    watch: Watch
    running: RunningTransfers
    followed: Followed
    sweeps: Sweeps = field(default_factory=Sweeps)

    def tasks(self) -> set[asyncio.Task[None]]:
        """All that goes on now."""
        return self.watch.tasks() | self.running.tasks() | self.followed.tasks() | self.sweeps.tasks()

    def counts(self) -> dict[str, int]:
        """Numbers of transfers, by the names of counters."""
        return {
            "running": len(self.running),
            "followed": len(self.followed) + len(self.watch),
            "started": self.running.started,
        }


class Stores:
    """The object stores of all clusters. Two clusters with the same settings share one client.

    Web pages from the origins `pages` may use what is in them.
    """

    def __init__(self, pages: Sequence[str] = ()) -> None:
        self._pages = pages
        self._opened: list[tuple[S3TransferSettings, StoreAccess]] = []

    async def of(self, operations: DataOperationSettings) -> StoreAccess | None:
        """The object store of a cluster; None if it has none."""
        settings = operations.data_transfer
        if not isinstance(settings, S3TransferSettings):
            return None
        for known, access in self._opened:
            if known == settings:
                return access
        access = await asyncio.to_thread(_access, settings, self._pages)
        for _, known_access in self._opened:
            if known_access.store.is_same(access.store):
                known_access.family.append(access)
                access.family.append(known_access)
        self._opened.append((settings, access))
        return access

    def leave(self) -> None:
        """What is tidied up from now on must not hold up the end of the gateway."""
        for _, access in self._opened:
            access.store.leave()

    def close(self) -> None:
        """Close the clients of all stores."""
        for _, access in self._opened:
            access.store.close()


def _access(settings: S3TransferSettings, pages: Sequence[str]) -> StoreAccess:
    # The import of botocore takes 0.4 s, which gateways without a store need not wait.
    from flamecrest.server.transfer.s3.presign import Presigner, StoreKey  # noqa: PLC0415
    from flamecrest.server.transfer.s3.store import Store  # noqa: PLC0415

    key = StoreKey(
        settings.access_key_id.get_secret_value(), settings.secret_access_key.get_secret_value(), settings.region
    )
    private, style = settings.private_url.get_secret_value(), settings.addressing_style
    days = settings.bucket_lifecycle_configuration.days
    return StoreAccess(
        store=Store(settings.name, private, key, style, lifecycle_days=days, pages=pages),
        public=Presigner(settings.public_url, key, style),
        private=Presigner(private, key, style),
        prefix=settings.bucket_name_prefix,
        tenant=settings.tenant,
        life=settings.ttl,
        part_size=settings.multipart.max_part_size,
        parallel=settings.multipart.parallel_runs,
        mover=settings.mover,
        copies=settings.copy_through == "store",
    )
