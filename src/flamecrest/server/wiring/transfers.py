"""Chooses a cluster's transfer methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, assert_never

from flamecrest.server.auth.port import Identity
from flamecrest.server.settings import S3TransferSettings, StreamerTransferSettings, WormholeTransferSettings
from flamecrest.server.transfer.jobs import SchedulerTransfers

if TYPE_CHECKING:
    from flamecrest.server.schedulers.port import Scheduler
    from flamecrest.server.settings import ClusterSettings, DataOperationSettings
    from flamecrest.server.transfer.port import Transfers


def choose_transfers(
    cluster: ClusterSettings, operations: DataOperationSettings, scheduler: Callable[[Identity], Scheduler]
) -> Callable[[Identity], Transfers]:
    """The adapter of file operations and transfers as jobs of `scheduler`."""
    work_root = next((system.path for system in cluster.file_systems if system.default_work_dir), None)
    methods = configured_methods(operations)

    def make(identity: Identity) -> Transfers:
        return SchedulerTransfers(
            scheduler(identity),
            identity.username,
            cluster=cluster.name,
            directives=operations.datatransfer_jobs_directives,
            work_root=work_root,
            configured_methods=methods,
        )

    return make


def configured_methods(operations: DataOperationSettings) -> Sequence[str]:
    """The transfer methods in the settings. None is built yet: uploads and downloads are refused by all methods."""
    transfer = operations.data_transfer
    match transfer:
        case None:
            return ()
        case S3TransferSettings() | StreamerTransferSettings() | WormholeTransferSettings():
            return (transfer.service_type,)
        case _:
            assert_never(transfer)
