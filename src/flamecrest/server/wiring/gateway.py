"""From settings to a Gateway: the only module that names every adapter.

Everything that lives as long as the gateway enters one stack, in order, and leaves it in reverse.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, assert_never

import httpx

from flamecrest.server.auth.oidc import OidcAuthenticator
from flamecrest.server.auth.port import Identity
from flamecrest.server.cluster import Cluster, Gateway, Limits, Ports
from flamecrest.server.files.archives.remote import RemoteBulk
from flamecrest.server.files.port import Files
from flamecrest.server.files.remote.changes import RemoteChanges
from flamecrest.server.files.remote.cluster_facts import ClusterFacts
from flamecrest.server.files.remote.content import RemoteContent
from flamecrest.server.files.remote.queries import RemoteQueries
from flamecrest.server.files.resumable.remote import RemoteUploads
from flamecrest.server.health.board import Board
from flamecrest.server.schedulers.cli import CliScheduler
from flamecrest.server.schedulers.counters import SchedulerCounters
from flamecrest.server.schedulers.slurm.dialect import Slurm
from flamecrest.server.settings import (
    Settings,
    SshCaSettings,
    SshServiceSettings,
    StaticKeysSettings,
    require_supported,
)
from flamecrest.server.ssh.credentials import Credentials, StaticKey
from flamecrest.server.ssh.credentials import StaticCredentials as LoadedKeys
from flamecrest.server.ssh.host_keys import HostKeyVerifier
from flamecrest.server.ssh.pool.dial import Host
from flamecrest.server.ssh.pool.policy import PoolLimits
from flamecrest.server.ssh.pool.pool import Pool
from flamecrest.server.ssh.session import PooledSessions
from flamecrest.server.ssh.user import User, whoami
from flamecrest.server.transfer.jobs import SchedulerTransfers
from flamecrest.server.wiring.describe import description, with_health
from flamecrest.server.wiring.probing import probing

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.schedulers.port import Scheduler
    from flamecrest.server.settings import ClusterSettings, DataOperationSettings, SshSettings
    from flamecrest.server.ssh.port import Sessions

VIEW_SIZE = 5 * 1024 * 1024  # bytes of a file's text in one answer where no max_ops_file_size is configured


@asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """The gateway, running; SettingsError for what is configured and not built."""
    require_supported(settings)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=10.0, follow_redirects=False))
        authenticator = await stack.enter_async_context(_authenticator(settings, http))
        credentials = _credentials(settings)
        clusters = {}
        for cluster in settings.clusters:
            pool = await stack.enter_async_context(_pool(cluster.ssh, credentials))
            made, ports = _cluster(settings, cluster, PooledSessions(pool))
            await stack.enter_async_context(probing(settings, cluster, made, ports, authenticator, http))
            clusters[cluster.name.lower()] = made
        yield Gateway(authenticator, clusters)


def _authenticator(settings: Settings, http: httpx.AsyncClient) -> OidcAuthenticator:
    tokens = settings.auth.authentication
    return OidcAuthenticator(
        http=http,
        public_certs=tokens.public_certs,
        issuer=tokens.issuer or "",
        audience=tokens.audience,
        username_claim=tokens.username_claim,
        algorithms=tokens.algorithms or None,
        jwk_algorithm=tokens.jwk_algorithm,
        leeway=tokens.leeway,
        min_token_ttl=tokens.min_token_ttl,
    )


def _credentials(settings: Settings) -> Credentials:
    source = settings.ssh_credentials
    match source:
        case StaticKeysSettings():
            return LoadedKeys(
                {
                    user: StaticKey(
                        key.private_key.get_secret_value(),
                        key.public_cert.get_secret_value() if key.public_cert else None,
                        key.passphrase.get_secret_value() if key.passphrase else None,
                    )
                    for user, key in source.keys.items()
                }
            )
        case SshServiceSettings() | SshCaSettings():
            raise NotImplementedError(source.type)  # refused by require_supported
        case _:
            assert_never(source)


def _pool(ssh: SshSettings, credentials: Credentials) -> Pool:
    trust = ssh.host_keys
    return Pool(
        Host(
            host=ssh.host,
            port=ssh.port,
            proxy_host=ssh.proxy_host,
            proxy_port=ssh.proxy_port or 22,
            proxy_user=ssh.proxy_user,
            connect_timeout=ssh.timeout.connection,
            login_timeout=ssh.timeout.login,
            keep_alive=ssh.timeout.keep_alive,
            accelerate=ssh.accelerate == "auto",
        ),
        credentials,
        HostKeyVerifier(
            [str(path) for path in trust.known_hosts] or None,
            pinned=trust.pinned,
            authorities=trust.certificate_authority,
            policy=trust.policy,
        ),
        PoolLimits(
            max_clients=ssh.max_clients,
            per_user=ssh.max_connections_per_user,
            idle=ssh.timeout.idle_timeout,
            age=ssh.max_age,
            max_sessions=ssh.max_sessions,
        ),
    )


def _cluster(settings: Settings, cluster: ClusterSettings, sessions: Sessions) -> tuple[Cluster, Ports]:
    operations = settings.operations(cluster)
    arrival = cluster.ssh.timeout.connection + cluster.ssh.timeout.login
    described = description(cluster, operations)
    board = Board(cluster.name, interval=cluster.probing.interval_check)
    ports = _ports(cluster, operations, sessions)
    made = Cluster(
        cluster.name,
        roots=[system.path for system in cluster.file_systems],
        limits=Limits(
            files=arrival + cluster.ssh.timeout.command_execution,
            jobs=arrival + cluster.scheduler.timeout,
            max_ops_file_size=operations.max_ops_file_size,
            view_size=operations.max_ops_file_size or VIEW_SIZE,
            longest=cluster.max_request_timeout,
        ),
        ports=ports,
        board=board,
        authorizer=None,
        describe=lambda: with_health(described, board.results(), board.last_run),
        transfer_methods=[operations.data_transfer.service_type] if operations.data_transfer else [],
    )
    return made, ports


def remote_files(sessions: Sessions, facts: ClusterFacts, identity: Identity) -> Files:
    """Compose the Files port of one user; `facts` is shared by all users of the cluster."""
    session = sessions.of(identity)
    return Files(RemoteQueries(session, facts), RemoteContent(session), RemoteChanges(session))


def _ports(cluster: ClusterSettings, operations: DataOperationSettings, sessions: Sessions) -> Ports:
    """The adapters of one cluster; what its users share lives as long as it does."""
    work_root = next((system.path for system in cluster.file_systems if system.default_work_dir), None)
    counters = SchedulerCounters()
    dialect = Slurm(bin_dir=cluster.scheduler.bin_dir)

    files = partial(remote_files, sessions, ClusterFacts())

    def uploads(identity: Identity) -> RemoteUploads:
        return RemoteUploads(sessions.of(identity))

    def bulk(identity: Identity) -> RemoteBulk:
        return RemoteBulk(sessions.of(identity))

    def scheduler(identity: Identity) -> Scheduler:
        return CliScheduler(dialect, sessions.of(identity), identity.username, counters=counters)

    def transfers(identity: Identity) -> SchedulerTransfers:
        return SchedulerTransfers(
            scheduler(identity),
            identity.username,
            directives=operations.datatransfer_jobs_directives,
            work_root=work_root,
        )

    async def user(identity: Identity, deadline: Deadline) -> User:
        return await sessions.of(identity).run(whoami(), deadline)

    return Ports(files, scheduler, transfers, user, uploads, bulk, sessions.stats)
