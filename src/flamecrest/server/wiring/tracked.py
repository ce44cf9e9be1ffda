"""Makes the port of a cluster's transfers as things."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from flamecrest.server.transfer.tracking.jobs import CopyJobs
from flamecrest.server.transfer.tracking.remote import RemoteTrackedTransfers
from flamecrest.server.transfer.tracking.starting import FolderTransfers
from flamecrest.server.transfer.tracking.then import ThenSubmit
from flamecrest.server.transfer.tracking.tools import UserTools

if TYPE_CHECKING:
    from collections.abc import Callable

    from flamecrest.server.auth.port import Identity

    from .transfers import TransferPorts


def jobs_of_transfers(ports: TransferPorts) -> Callable[[Identity], CopyJobs]:
    """The transfers of one cluster as jobs, as a function of the caller's identity."""
    tracked = tracked_transfers(ports)
    return lambda identity: CopyJobs(ports.jobs(identity), tracked(identity).get)


def tracked_transfers(ports: TransferPorts) -> Callable[[Identity], RemoteTrackedTransfers]:
    """The transfers of one cluster, as a function of the caller's identity."""
    cluster, options = ports.cluster.name, ports.through.options

    def tracked(identity: Identity) -> RemoteTrackedTransfers:
        session, user, work = ports.sessions.of(identity), identity.username, ports.work(identity)
        scheduler = partial(ports.scheduler, identity)
        tools = UserTools(
            session,
            user,
            work,
            ports.through.background.running,
            ports.through.background.followed,
            ports.through.background.sweeps,
            then=ThenSubmit(user, cluster, options.signer, scheduler),
            files=partial(ports.files, identity),
            scheduler=scheduler,
            uploads=ports.uploads(identity),
            direct=ports.direct(identity),
            jobs=ports.records(identity),
            transfers=partial(ports.transfers, identity),
            lookup=ports.jobs(identity),
            shown=lambda: ports.shown_jobs(identity, scheduler()),
            store=ports.through_store(identity),
        )
        return RemoteTrackedTransfers(tools, FolderTransfers(tools))

    return tracked
