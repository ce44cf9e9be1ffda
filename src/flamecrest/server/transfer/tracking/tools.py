"""What the transfers of one user on one cluster work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flamecrest.server.files.port import Files
    from flamecrest.server.schedulers.port import JobLookup, Scheduler
    from flamecrest.server.ssh.port import Session
    from flamecrest.server.transfer.direct.lookup import TransferJobs
    from flamecrest.server.transfer.direct.methods import DirectTransfers
    from flamecrest.server.transfer.direct.uploads import RemoteDirectUploads
    from flamecrest.server.transfer.port import Transfers
    from flamecrest.server.transfer.records.names import WorkFolder
    from flamecrest.server.transfer.records.sweeping import Sweeps
    from flamecrest.server.transfer.s3.methods import StoreTransfers

    from .background import RunningTransfers
    from .followed import Followed
    from .then import ThenSubmit


@dataclass(frozen=True, slots=True)
class UserTools:
    """`work` is the user's directory for logs and records."""

    session: Session
    username: str
    work: WorkFolder
    running: RunningTransfers
    followed: Followed
    sweeps: Sweeps
    then: ThenSubmit
    files: Callable[[], Files]
    scheduler: Callable[[], Scheduler]
    uploads: RemoteDirectUploads
    direct: DirectTransfers
    jobs: TransferJobs
    transfers: Callable[[], Transfers]
    lookup: JobLookup  # transfers of every method as jobs
    shown: Callable[[], JobLookup]  # the scheduler's jobs, as users see those of transfers
    store: StoreTransfers | None = None  # through an object store
