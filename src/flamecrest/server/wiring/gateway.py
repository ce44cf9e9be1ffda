"""From settings to a running Gateway. Only the wiring package knows both settings and adapters.

Everything that lives as long as the gateway is entered in order on one exit stack, which closes it in reverse.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import httpx

from flamecrest.server.auth.port import Identity
from flamecrest.server.cluster import Cluster, Gateway, Limits, Ports
from flamecrest.server.files.archives.remote import RemoteBulk
from flamecrest.server.files.read_ahead import ReadAhead
from flamecrest.server.files.remote.cluster_facts import ClusterFacts
from flamecrest.server.files.remote.queries import remote_files
from flamecrest.server.files.resumable.remote import RemoteUploads
from flamecrest.server.health.board import Board
from flamecrest.server.settings import Settings, require_supported
from flamecrest.server.ssh.session import PooledSessions
from flamecrest.server.ssh.user import User, whoami
from flamecrest.server.telemetry.counters import Counters

from .access import choose_authorizer, choose_credentials, make_authenticator
from .describe import description, with_health
from .probing import probing
from .scheduler import choose_scheduler
from .ssh import make_pool
from .transfers import choose_transfers

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Authorizer
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.settings import ClusterSettings, DataOperationSettings
    from flamecrest.server.ssh.port import Sessions

VIEW_SIZE = 5 * 1024 * 1024  # bytes of a file's text in one answer if no max_ops_file_size is configured


@asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """The running gateway. Raises SettingsError for settings that this version does not support."""
    require_supported(settings)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=10.0, follow_redirects=False))
        authenticator = await stack.enter_async_context(make_authenticator(settings, http))
        authorizer, credentials = choose_authorizer(settings), choose_credentials(settings)
        counters, read_ahead = Counters(), ReadAhead()
        counters.register(None, "authenticator", lambda: asdict(authenticator.stats()))
        clusters = {}
        for cluster in settings.clusters:
            pool = await stack.enter_async_context(make_pool(cluster.ssh, credentials))
            sessions = PooledSessions(pool, agent=cluster.ssh.agent == "auto")
            counters.register(cluster.name, "pool", sessions.stats)
            ports = _ports(cluster, settings.operations(cluster), sessions, counters, read_ahead)
            made = _cluster(settings, cluster, ports, authorizer)
            await stack.enter_async_context(probing(settings, cluster, made, ports, authenticator, http))
            clusters[cluster.name.lower()] = made
        yield Gateway(authenticator, clusters, counters)


def _cluster(settings: Settings, cluster: ClusterSettings, ports: Ports, authorizer: Authorizer | None) -> Cluster:
    operations = settings.operations(cluster)
    connecting = cluster.ssh.timeout.connection + cluster.ssh.timeout.login
    described = description(cluster, operations)
    probing = cluster.probing
    board = Board(cluster.name, interval=probing.interval_check, failures=probing.failures)
    return Cluster(
        cluster.name,
        roots=[system.path for system in cluster.file_systems],
        limits=Limits(
            files=connecting + cluster.ssh.timeout.command_execution,
            jobs=connecting + cluster.scheduler.timeout,
            max_ops_file_size=operations.max_ops_file_size,
            view_size=operations.max_ops_file_size or VIEW_SIZE,
            longest=cluster.max_request_timeout,
        ),
        ports=ports,
        board=board,
        authorizer=authorizer,
        describe=lambda: with_health(described, board.results(), board.last_run),
    )


def _ports(
    cluster: ClusterSettings,
    operations: DataOperationSettings,
    sessions: Sessions,
    counters: Counters,
    read_ahead: ReadAhead,
) -> Ports:
    """The adapters of one cluster. What they share among users lives as long as the ports."""
    scheduler = choose_scheduler(cluster.scheduler, sessions)
    counters.register(cluster.name, "scheduler", scheduler.counters.read)

    def uploads(identity: Identity) -> RemoteUploads:
        return RemoteUploads(sessions.of(identity))

    def bulk(identity: Identity) -> RemoteBulk:
        return RemoteBulk(sessions.of(identity))

    async def user(identity: Identity, deadline: Deadline) -> User:
        return await sessions.of(identity).run(whoami(), deadline)

    return Ports(
        files=partial(remote_files, sessions, ClusterFacts(read_ahead)),
        scheduler=scheduler.make,
        scheduler_services=scheduler.services,
        transfers=choose_transfers(cluster, operations, scheduler.make),
        user=user,
        uploads=uploads,
        bulk=bulk,
    )
