"""A cluster, the Permission that hands out its ports, and the Gateway, which holds all clusters.

Knows the ports; no adapter, no settings, no HTTP.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flamecrest.server.auth.port import Verb
from flamecrest.server.errors import NotFound
from flamecrest.server.files.paths import check_path, check_removable
from flamecrest.server.files.port import Files
from flamecrest.server.health.board import Board, Service

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Authenticator, Authorizer, Identity
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files.archives.port import Bulk
    from flamecrest.server.files.resumable.port import Uploads
    from flamecrest.server.schedulers.port import Scheduler
    from flamecrest.server.ssh.user import User
    from flamecrest.server.telemetry.counters import Counters
    from flamecrest.server.transfer.port import Transfers
    from flamecrest.wire.status import HPCCluster


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an operation may take, in seconds, and how large it may be, in bytes (None: no limit)."""

    files: float
    jobs: float
    max_ops_file_size: int | None
    view_size: int  # the most that view, head and tail put into one answer
    longest: float = 300.0  # the most seconds that a caller may ask for


@dataclass(frozen=True, slots=True)
class Ports:
    """The adapters of one cluster, each as a function of the caller's identity.

    `scheduler_services` are the services that the scheduler's adapter goes through: SSH is not one of them if it
    uses HTTP.
    """

    files: Callable[[Identity], Files]
    scheduler: Callable[[Identity], Scheduler]
    scheduler_services: Sequence[Service]
    transfers: Callable[[Identity], Transfers]
    user: Callable[[Identity, Deadline], Awaitable[User]]
    uploads: Callable[[Identity], Uploads]
    bulk: Callable[[Identity], Bulk]


class Cluster:
    """One cluster: its name, limits and health, and `allow`, the only way to its ports."""

    def __init__(
        self,
        name: str,
        *,
        roots: Sequence[str],
        limits: Limits,
        ports: Ports,
        board: Board,
        describe: Callable[[], HPCCluster],
        authorizer: Authorizer | None,
    ) -> None:
        """`roots` are the paths of the file systems. Without an authorizer every verb is allowed."""
        self.name = name
        self.roots = tuple(roots)
        self.limits = limits
        self.board = board
        self.describe = describe
        self._authorizer = authorizer
        self._ports = ports

    async def allow(self, identity: Identity, verb: Verb, deadline: Deadline) -> Permission:
        """Ask the authorizer. Raises Denied, or Unavailable if the authorizer does not answer."""
        if self._authorizer is not None:
            await self._authorizer.allow(identity, self.name, verb, deadline)
        return Permission(identity, verb, self, self._ports)


# The verbs that hand out a port.
_FILES = frozenset({Verb.FILES_READ, Verb.FILES_WRITE})
_UPLOADS = frozenset({Verb.FILES_WRITE})
_SCHEDULER = frozenset({Verb.JOBS_READ, Verb.JOBS_SUBMIT, Verb.STATUS})
_TRANSFERS = frozenset({Verb.TRANSFER})


@dataclass(slots=True)
class Permission:
    """Proof that the authorizer has allowed a request. The only object that hands out ports.

    Made by `Cluster.allow`. Before a port is handed out, its services must be up (else Unavailable), and every path,
    given by its name on the wire, must lie in a file system of the cluster that is up (else Invalid or Unavailable).
    A port that the verb does not stand for is a RuntimeError: the route has asked for the wrong verb.
    """

    identity: Identity
    verb: Verb
    cluster: Cluster
    _ports: Ports
    tried: tuple[tuple[Service, str | None], ...] = ()  # services that are down and that this request may try

    def succeeded(self) -> None:
        """Report that the request was served: the services that it has tried are up."""
        for service, path in self.tried:
            self.cluster.board.succeeded(service, path)

    def files(self, **paths: str) -> Files:
        """The caller's files."""
        self._check(paths, _FILES)
        return self._ports.files(self.identity)

    def refuse_root(self, path: str) -> None:
        """Raise Invalid if a path to be removed is a whole file system of the cluster, or contains one."""
        check_removable(path, self.cluster.roots)

    def uploads(self, **paths: str) -> Uploads:
        """The caller's resumable uploads."""
        self._check(paths, _UPLOADS)
        return self._ports.uploads(self.identity)

    def bulk(self, **paths: str) -> Bulk:
        """The caller's archives."""
        self._check(paths, _FILES)
        return self._ports.bulk(self.identity)

    def scheduler(self) -> Scheduler:
        """The scheduler, used as the caller."""
        if self.verb not in _SCHEDULER:
            raise self._wrong_verb()
        if self.cluster.board.refused:
            self._require(self._ports.scheduler_services)
        return self._ports.scheduler(self.identity)

    def transfers(self, **paths: str) -> Transfers:
        """The caller's transfer jobs."""
        services = self._ports.scheduler_services
        self._check(paths, _TRANSFERS, ssh=Service.SSH in services)
        self._require(services)
        return self._ports.transfers(self.identity)

    async def user(self, deadline: Deadline) -> User:
        """The caller's account on the login node."""
        if self.verb is not Verb.STATUS:
            raise self._wrong_verb()
        self._require((Service.SSH,))
        return await self._ports.user(self.identity, deadline)

    def _check(self, paths: Mapping[str, str], verbs: frozenset[Verb], *, ssh: bool = True) -> None:
        if self.verb not in verbs:
            raise self._wrong_verb()
        cluster, board = self.cluster, self.cluster.board
        if ssh and board.refused:
            self._require((Service.SSH,))
        for name, path in paths.items():
            file_system = check_path(path, cluster.roots, name)
            if board.refused:
                self._require((Service.FILESYSTEM,), file_system)

    def _wrong_verb(self) -> RuntimeError:
        return RuntimeError(f"{self.verb} does not allow this port")

    def _require(self, services: Sequence[Service], path: str | None = None) -> None:
        for service in services:
            if self.cluster.board.require(service, path):
                self.tried += ((service, path),)


@dataclass(frozen=True, slots=True)
class Gateway:
    """What requests are served with. Opened by wiring.gateway.open_gateway, closed when the server stops."""

    authenticator: Authenticator
    clusters: Mapping[str, Cluster]  # by name in lower case
    counters: Counters

    def cluster(self, name: str) -> Cluster:
        """The cluster of that name; case is ignored. Raises NotFound."""
        try:
            return self.clusters[name.lower()]
        except KeyError:
            raise NotFound("System not found") from None

    def report(self) -> None:
        """Log all counters: one line for each component, of each cluster or of the gateway."""
        for source in self.counters:
            log = logging.getLogger(f"flamecrest.{source.component}")
            where = {} if source.cluster is None else {"cluster": source.cluster}
            log.info(source.component, extra={"fields": {**where, **source.read()}})
