"""The ports of one cluster, each made for the caller of a request, and the limits of its operations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Never

from flamecrest.server.errors import Unsupported

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files.archives.port import Bulk
    from flamecrest.server.files.port import Files
    from flamecrest.server.files.resumable.port import Uploads
    from flamecrest.server.health.board import Service
    from flamecrest.server.schedulers.port import JobLookup, Scheduler
    from flamecrest.server.ssh.user import User
    from flamecrest.server.transfer.direct.port import DirectUploads
    from flamecrest.server.transfer.port import Transfers
    from flamecrest.server.transfer.tracking.port import TrackedTransfers


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an operation may take, in seconds, and how large it may be, in bytes (None: no limit)."""

    files: float
    jobs: float
    max_ops_file_size: int | None
    view_size: int  # the most that view, head and tail put into one answer
    longest: float = 300.0  # the most seconds that a caller may ask for


def _no_transfers(_: Identity) -> Never:
    raise Unsupported("This cluster has no transfers through the gateway")


def _unchanged(_: Identity, jobs: JobLookup) -> JobLookup:
    return jobs


async def _unresolved(_: Identity, paths: Sequence[str], __: Deadline) -> Sequence[str]:
    return paths


@dataclass(frozen=True, slots=True)
class Ports:
    """The adapters of one cluster, each as a function of the caller's identity.

    `scheduler_services` are the services that the scheduler's adapter goes through: SSH is not one of them if it
    uses HTTP. `shown_jobs` may change how the scheduler's jobs are shown. `resolve` returns paths without links.
    """

    files: Callable[[Identity], Files]
    scheduler: Callable[[Identity], Scheduler]
    scheduler_services: Sequence[Service]
    transfers: Callable[[Identity], Transfers]
    user: Callable[[Identity, Deadline], Awaitable[User]]
    uploads: Callable[[Identity], Uploads]
    bulk: Callable[[Identity], Bulk]
    direct_uploads: Callable[[Identity], DirectUploads] = _no_transfers
    transfer_jobs: Callable[[Identity], JobLookup] = _no_transfers
    shown_jobs: Callable[[Identity, JobLookup], JobLookup] = _unchanged
    tracked: Callable[[Identity], TrackedTransfers] = _no_transfers
    resolve: Callable[[Identity, Sequence[str], Deadline], Awaitable[Sequence[str]]] = _unresolved
