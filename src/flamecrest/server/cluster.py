"""Cluster: what a handler is given to work with, already authorised and guarded; Gateway: all of them.

It joins the ports and knows no adapter, no settings and no HTTP.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flamecrest.server.errors import NotFound, Unsupported
from flamecrest.server.files.paths import check_path, file_system
from flamecrest.server.files.port import Files
from flamecrest.server.health.board import Board, Service, guard

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Authenticator, Authorizer, Identity
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files.archives.port import Bulk
    from flamecrest.server.files.resumable.port import Uploads
    from flamecrest.server.schedulers.port import Scheduler
    from flamecrest.server.ssh.user import User
    from flamecrest.server.transfer.port import TransferJobs
    from flamecrest.wire.status import HPCCluster

log = logging.getLogger("flamecrest.pool")


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an operation may take, in seconds, and how large it may be, in bytes (None: no limit)."""

    files: float
    jobs: float
    max_ops_file_size: int | None
    view_size: int  # the most that view, head and tail put into one answer
    longest: float = 300.0  # the most seconds that a caller may ask for


def _no_uploads(_: Identity) -> Uploads:
    raise Unsupported("This cluster takes no resumable uploads")


def _no_bulk(_: Identity) -> Bulk:
    raise Unsupported("This cluster makes and takes no archives")


@dataclass(frozen=True, slots=True)
class Ports:
    """The adapters of one cluster, each as a function of who calls."""

    files: Callable[[Identity], Files]
    scheduler: Callable[[Identity], Scheduler]
    transfers: Callable[[Identity], TransferJobs]
    user: Callable[[Identity, Deadline], Awaitable[User]]
    uploads: Callable[[Identity], Uploads] = _no_uploads
    bulk: Callable[[Identity], Bulk] = _no_bulk
    stats: Callable[[], Mapping[str, int]] = dict  # of its SSH connections


class Cluster:
    """One cluster. Handing out a port checks the paths and asks the guard first."""

    def __init__(
        self,
        name: str,
        *,
        roots: Sequence[str],
        limits: Limits,
        ports: Ports,
        board: Board,
        describe: Callable[[], HPCCluster],
        transfer_methods: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.roots = tuple(roots)
        self.limits = limits
        self.board = board
        self.describe = describe
        self.transfer_methods = tuple(transfer_methods)
        self._ports = ports

    def files(self, identity: Identity, **paths: str) -> Files:
        """The caller's files, once every path (named as on the wire) is allowed and its file system is up."""
        self._admit(paths)
        return self._ports.files(identity)

    def uploads(self, identity: Identity, **paths: str) -> Uploads:
        """The caller's resumable uploads, once every path is allowed and its file system is up."""
        self._admit(paths)
        return self._ports.uploads(identity)

    def bulk(self, identity: Identity, **paths: str) -> Bulk:
        """The caller's archives, once every path is allowed and its file system is up."""
        self._admit(paths)
        return self._ports.bulk(identity)

    def scheduler(self, identity: Identity) -> Scheduler:
        """The caller's view of the scheduler, if it is up."""
        guard(self.board, Service.SSH)
        guard(self.board, Service.SCHEDULER)
        return self._ports.scheduler(identity)

    def transfers(self, identity: Identity, **paths: str) -> TransferJobs:
        """The caller's transfer jobs, once every path is allowed and file systems and scheduler are up."""
        self._admit(paths)
        guard(self.board, Service.SCHEDULER)
        return self._ports.transfers(identity)

    async def user(self, identity: Identity, deadline: Deadline) -> User:
        """Who the login node says the caller is."""
        guard(self.board, Service.SSH)
        return await self._ports.user(identity, deadline)

    def stats(self) -> Mapping[str, int]:
        """Counters and gauges of its SSH connections, by name."""
        return self._ports.stats()

    def _admit(self, paths: Mapping[str, str]) -> None:
        guard(self.board, Service.SSH)
        for name, path in paths.items():
            check_path(path, self.roots, name)
            guard(self.board, Service.FILESYSTEM, file_system(path, self.roots))


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything that a request may need, made by wiring.open and left when the server stops."""

    authenticator: Authenticator
    authorizer: Authorizer
    clusters: Mapping[str, Cluster]  # by name in lower case

    def cluster(self, name: str) -> Cluster:
        """The cluster of that name, in any case; NotFound."""
        try:
            return self.clusters[name.lower()]
        except KeyError:
            raise NotFound("System not found") from None

    def report(self) -> None:
        """Tell the log how every cluster's SSH connections are."""
        for cluster in self.clusters.values():
            log.info("pool", extra={"fields": {"cluster": cluster.name, **cluster.stats()}})
