"""Chooses a cluster's transfer methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING

from flamecrest.server.auth.port import Identity
from flamecrest.server.errors import Unsupported
from flamecrest.server.health.board import Service
from flamecrest.server.settings import S3TransferSettings, StreamerTransferSettings, WormholeTransferSettings
from flamecrest.server.transfer.direct.links import LinkSigner
from flamecrest.server.transfer.direct.lookup import TransferJobs
from flamecrest.server.transfer.direct.methods import DirectOptions, DirectTransfers
from flamecrest.server.transfer.direct.receive import Writers
from flamecrest.server.transfer.direct.uploads import RemoteDirectUploads
from flamecrest.server.transfer.direct.write_out import WriteOut
from flamecrest.server.transfer.jobs.folders import LogFolders
from flamecrest.server.transfer.jobs.log_ids import LogIds
from flamecrest.server.transfer.jobs.operations import SchedulerTransfers
from flamecrest.server.transfer.jobs.submission import TransferSubmitter
from flamecrest.server.transfer.records.names import WorkFolder
from flamecrest.server.transfer.s3.lookup import StoreJobs
from flamecrest.server.transfer.s3.methods import StoreTransfers
from flamecrest.server.transfer.s3.moves import StoreMoves
from flamecrest.server.transfer.s3.relay import Relay
from flamecrest.server.transfer.streamer.methods import StreamerOptions, StreamerTransfers
from flamecrest.server.transfer.streamer.starting import ListeningJobs
from flamecrest.server.transfer.wormhole.methods import WormholeOptions, WormholeTransfers

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files.port import Files
    from flamecrest.server.health.board import Board
    from flamecrest.server.schedulers.port import JobLookup, Scheduler
    from flamecrest.server.settings import ClusterSettings, DataOperationSettings, TransferSettings
    from flamecrest.server.ssh.port import Session, Sessions
    from flamecrest.server.transfer.port import TransferMethod
    from flamecrest.server.transfer.records.record import Record
    from flamecrest.server.transfer.records.sweeping import Sweeps
    from flamecrest.server.transfer.s3.access import StoreAccess

    from .stores import Background


@dataclass(frozen=True, slots=True)
class TransferUser:
    """What the transfer methods of one user work with."""

    session: Session
    username: str
    work: WorkFolder  # the user's directory for logs and records
    submitter: TransferSubmitter
    direct: DirectTransfers  # through the gateway
    remember: Callable[[Record], str]  # keeps the record of a job
    sweeps: Sweeps
    moves: StoreMoves | None = None  # with an object store


def make_signer(settings: TransferSettings, made: bytes | None = None) -> LinkSigner:
    """The signer of the URLs of transfers. Without a configured key it has the one that was `made`, or a new one."""
    key = settings.signing_key
    if key is not None:
        return LinkSigner(key.get_secret_value().encode())
    return LinkSigner.random() if made is None else LinkSigner(made)


@dataclass(frozen=True, slots=True)
class Through:
    """What data goes through: the gateway, by its options, or an object store."""

    options: DirectOptions
    access: StoreAccess | None
    background: Background
    board: Board


@dataclass(frozen=True)
class TransferPorts:
    """The adapters of one cluster's transfers, each of one user: as jobs, through the gateway, through a store."""

    cluster: ClusterSettings
    operations: DataOperationSettings
    through: Through
    sessions: Sessions
    files: Callable[[Identity], Files]
    scheduler: Callable[[Identity], Scheduler]
    writers: Writers = field(default_factory=Writers)
    write_out: WriteOut = field(default_factory=WriteOut)
    folders: LogFolders = field(default_factory=LogFolders)
    log_ids: LogIds = field(default_factory=LogIds)

    @cached_property
    def _root(self) -> str | None:
        return work_root(self.cluster)

    @cached_property
    def _factories(self) -> Mapping[str, Callable[[TransferUser], TransferMethod]]:
        return method_factories(self.cluster, self.operations, self.through.access)

    def transfers(self, identity: Identity) -> SchedulerTransfers:
        """All operations on transfers."""

        def method(name: str) -> TransferMethod:
            if name == "s3" and self.through.access is not None:
                self.through.board.require(Service.S3)
            return self._factories[name](self._user(identity))

        methods = {name: partial(method, name) for name in self._factories}
        submitter = self._submitter(identity)
        remember = partial(self._remember, identity)
        return SchedulerTransfers(submitter, cluster=self.cluster.name, methods=methods, remember=remember)

    def uploads(self, identity: Identity) -> RemoteDirectUploads:
        """What signed URLs of the gateway do."""
        folder, sha256 = self.work(identity).records, partial(self._sha256, identity)
        return RemoteDirectUploads(self.sessions.of(identity), folder, self.writers, self.write_out, sha256)

    async def _sha256(self, identity: Identity, path: str, deadline: Deadline) -> str:
        return await self.files(identity).queries.checksum(path, deadline)

    def direct(self, identity: Identity) -> DirectTransfers:
        """Uploads and downloads through the gateway."""
        session, work = self.sessions.of(identity), self.work(identity)
        within = () if identity.restriction is None else identity.restriction.paths
        return DirectTransfers(
            session, identity.username, work, self.through.options, self.through.background.sweeps, within
        )

    def records(self, identity: Identity) -> TransferJobs:
        """The records of transfers as jobs."""
        session, work = self.sessions.of(identity), self.work(identity)
        return TransferJobs(session, identity.username, work, self.uploads(identity))

    def jobs(self, identity: Identity) -> JobLookup:
        """Transfers as jobs."""
        records = self.records(identity)
        moves = self._moves(identity)
        return records if moves is None else StoreJobs(records, moves)

    def shown_jobs(self, identity: Identity, lookup: JobLookup) -> JobLookup:
        """The scheduler's jobs, of which some are transfers."""
        return ListeningJobs(lookup, self.sessions.of(identity)) if "streamer" in self._factories else lookup

    def through_store(self, identity: Identity) -> StoreTransfers | None:
        """Transfers through the object store; None without one."""
        return store_transfers(self._user(identity), self.through.access)

    def work(self, identity: Identity) -> WorkFolder:
        """The user's directory for logs and records."""
        if self._root is None:
            raise Unsupported("Transfers need a file system with default_work_dir. This cluster has none.")
        return WorkFolder(f"{self._root.rstrip('/')}/{identity.username}", self.cluster.name)

    def _remember(self, identity: Identity, record: Record) -> str:
        session, work = self.sessions.of(identity), self.work(identity)
        self.through.background.sweeps.begin(session, work.records)
        return self.through.background.running.remember(session, work, record)

    def _submitter(self, identity: Identity) -> TransferSubmitter:
        return TransferSubmitter(
            self.scheduler(identity),
            identity.username,
            directives=job_directives(self.cluster, self.operations),
            work_root=self._root,
            log_ids=self.log_ids,
            make_folder=partial(self.folders.ensure, self.sessions.of(identity)),
        )

    def _user(self, identity: Identity) -> TransferUser:
        session, work, submitter = self.sessions.of(identity), self.work(identity), self._submitter(identity)
        remember = partial(self._remember, identity)
        direct = self.direct(identity)
        sweeps, moves = self.through.background.sweeps, self._moves(identity)
        return TransferUser(session, identity.username, work, submitter, direct, remember, sweeps, moves)

    def _moves(self, identity: Identity) -> StoreMoves | None:
        access = self.through.access
        if access is None:
            return None
        session, work, uploads = self.sessions.of(identity), self.work(identity), self.uploads(identity)
        contents, http = self.files(identity).content, self.through.background.http
        sha256 = partial(self._sha256, identity)
        relay = Relay(session, identity.username, work, access, uploads, contents, sha256, http)
        submitter, scheduler = self._submitter(identity), self.scheduler(identity)
        return StoreMoves(
            session, identity.username, work, access, submitter, scheduler, relay, self.through.background.watch
        )


def work_root(cluster: ClusterSettings) -> str | None:
    """The file system with the users' directories for logs and records; None: the cluster has none."""
    return next((system.path for system in cluster.file_systems if system.default_work_dir), None)


def store_transfers(user: TransferUser, access: StoreAccess | None) -> StoreTransfers | None:
    """Transfers of one user through an object store; None without one."""
    if access is None or user.moves is None:
        return None
    return StoreTransfers(user.session, user.username, user.work, access, user.moves, user.sweeps)


def method_factories(
    cluster: ClusterSettings, operations: DataOperationSettings, access: StoreAccess | None
) -> dict[str, Callable[[TransferUser], TransferMethod]]:
    """The transfer methods of a cluster by their names on the wire, as functions that make them for one user."""

    def through_store(user: TransferUser) -> TransferMethod:
        made = store_transfers(user, access)
        if made is None:
            raise RuntimeError("there is no object store")
        return made

    made: dict[str, Callable[[TransferUser], TransferMethod]] = {}
    if access is not None and work_root(cluster) is not None:
        made["s3"] = through_store
    made |= dict.fromkeys(direct_methods(cluster, operations), lambda user: user.direct)
    match operations.data_transfer:
        case StreamerTransferSettings() as settings:
            streamer = _streamer_options(settings)
            made["streamer"] = lambda user: StreamerTransfers(user.session, user.submitter, streamer, user.remember)
        case WormholeTransferSettings() as settings:
            wormhole = _wormhole_options(settings)
            made["wormhole"] = lambda user: WormholeTransfers(user.session, user.submitter, wormhole, user.remember)
        case _:
            pass
    return made


def _wormhole_options(settings: WormholeTransferSettings) -> WormholeOptions:
    index = settings.pypi_index_url
    return WormholeOptions(
        mailbox=settings.mailbox_url,
        relay=settings.transit_relay,
        wait_timeout=settings.wait_timeout,
        python=settings.python,
        install=settings.install,
        index=None if index is None else index.get_secret_value(),
    )


def _streamer_options(settings: StreamerTransferSettings) -> StreamerOptions:
    return StreamerOptions(
        host=settings.host,
        ports=settings.port_range,
        addresses=settings.public_ips or ("localhost",),
        wait_timeout=settings.wait_timeout,
        retry_timeout=settings.retry_timeout,
        inbound_limit=settings.inbound_transfer_limit,
        require_tls=settings.require_tls,
        python=settings.python,
    )


def job_directives(cluster: ClusterSettings, operations: DataOperationSettings) -> tuple[str, ...]:
    """The directives of transfer jobs. PBS starts jobs by the user's login shell, which may be none of POSIX."""
    shell = ("#PBS -S /bin/bash", "#PBS -r n") if cluster.scheduler.type == "pbs" else ()
    return (*shell, *operations.datatransfer_jobs_directives)


def direct_methods(cluster: ClusterSettings, operations: DataOperationSettings) -> tuple[str, ...]:
    """The names of the methods that the gateway itself serves: s3 only where no object store is configured.

    They need a file system for the records of transfers.
    """
    if work_root(cluster) is None:
        return ()
    return ("direct",) if isinstance(operations.data_transfer, S3TransferSettings) else ("s3", "direct")
