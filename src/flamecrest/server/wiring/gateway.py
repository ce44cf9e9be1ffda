"""From settings to a running Gateway. Only the wiring package knows both settings and adapters.

Everything that lives as long as the gateway is entered in order on one exit stack, which closes it in reverse.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

import httpx

from flamecrest.server.auth.authorization.openfga import OpenFgaAuthorizer
from flamecrest.server.auth.port import Identity
from flamecrest.server.cluster import Cluster, Gateway
from flamecrest.server.files.archives.remote import RemoteBulk
from flamecrest.server.files.read_ahead import ReadAhead
from flamecrest.server.files.remote.cluster_facts import ClusterFacts
from flamecrest.server.files.remote.links import resolve_links
from flamecrest.server.files.remote.queries import remote_files
from flamecrest.server.files.resumable.remote import RemoteUploads
from flamecrest.server.health.samples import probe_samples, samples_of
from flamecrest.server.ports import Limits, Ports
from flamecrest.server.settings import Settings
from flamecrest.server.ssh.session import PooledSessions
from flamecrest.server.ssh.user import User, whoami
from flamecrest.server.telemetry.counters import Counters
from flamecrest.server.transfer.direct.methods import DirectOptions
from flamecrest.server.transfer.s3.watch import Watch
from flamecrest.server.transfer.tracking.background import RunningTransfers
from flamecrest.server.transfer.tracking.followed import Followed

from .audit import open_audit
from .authentication import (
    accepting,
    issuers_of,
    make_authenticator,
    make_narrow_tokens,
    protected_resource,
    restricted,
)
from .authorization import make_authorizer
from .clusters import Clusters, OpenCluster, made_of
from .credentials import CredentialSources
from .describe import description, with_health, with_nodes
from .limits import make_fair_use
from .probing import make_board, probing, probing_auth, service_account
from .scheduler import SchedulerChoice, choose_scheduler
from .ssh import make_pool
from .stores import Background, Stores
from .tracked import jobs_of_transfers, tracked_transfers
from .transfers import Through, TransferPorts, make_signer

if TYPE_CHECKING:
    from flamecrest.server.audit.calls import Audit
    from flamecrest.server.auth.issuers import TrustedIssuers
    from flamecrest.server.auth.narrow.tokens import NarrowTokens
    from flamecrest.server.auth.oidc import OidcAuthenticator
    from flamecrest.server.auth.port import Authenticator, Authorizer
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.health.board import Board
    from flamecrest.server.limits.fair_use import FairUse
    from flamecrest.server.settings import ClusterSettings, TracingSettings
    from flamecrest.server.ssh.pool.pool import Pool
    from flamecrest.server.ssh.port import Sessions
    from flamecrest.server.telemetry.tracing import RequestTracer
    from flamecrest.server.transfer.direct.links import LinkSigner

VIEW_SIZE = 5 * 1024 * 1024  # bytes of a file's text in one answer if no max_ops_file_size is configured


@asynccontextmanager
async def open_gateway(settings: Settings, signing_key: bytes | None = None) -> AsyncIterator[Gateway]:
    """The running gateway.

    `signing_key` signs URLs if none is configured; None: a new key.
    """
    async with AsyncExitStack() as stack:
        audit = await stack.enter_async_context(open_audit(settings.audit))  # ends last: requests may still be recorded
        tracer = await _open_tracer(settings.tracing, stack)
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=10.0, follow_redirects=False))
        counters = Counters()
        if audit is not None:
            counters.measure(audit.samples)
        access = await _open_access(settings, http, counters, stack)
        signer = make_signer(settings.transfers, signing_key)
        shared = _share(settings, signer, http, access, audit, stack)
        clusters = await _open_clusters(settings, shared, counters, stack)
        yield Gateway(
            accepting(access.authenticator, access.narrow, settings),
            clusters.by_name,
            counters,
            access.authorizer,
            signer,
            settings.transfers.public_url,
            await _open_limits(settings, counters, stack),
            protected_resource(settings),
            audit,
            access.narrow,
            reload=clusters.change,
            unready=lambda: None if access.authenticator.has_keys() else "no key of a token issuer could be read yet",
            depends_on=access.board.results,
            tracer=tracer,
        )


@dataclass(frozen=True, slots=True)
class _Access:
    """Who calls, and what is allowed. `board`: the health of the services that are asked about it."""

    authenticator: OidcAuthenticator | TrustedIssuers
    narrow: NarrowTokens | None
    authorizer: Authorizer | None
    board: Board


async def _open_access(
    settings: Settings, http: httpx.AsyncClient, counters: Counters, stack: AsyncExitStack
) -> _Access:
    authenticator = make_authenticator(settings, http)
    await stack.enter_async_context(authenticator)
    counters.register(None, "authenticator", lambda: asdict(authenticator.stats()))
    narrow, asked = make_narrow_tokens(settings), list[OpenFgaAuthorizer]()
    owner = await make_authorizer(settings.auth.authorization, stack, partial(counters.register, None), asked)
    authorizer = restricted(owner, narrow, links=_resolves_links(settings))
    board = await stack.enter_async_context(probing_auth(settings, issuers_of(authenticator), asked))
    counters.measure(partial(probe_samples, board))
    return _Access(authenticator, narrow, authorizer, board)


def _share(
    settings: Settings,
    signer: LinkSigner,
    http: httpx.AsyncClient,
    access: _Access,
    audit: Audit | None,
    stack: AsyncExitStack,
) -> _Shared:
    stores = Stores(settings.server.cors_origins)
    stack.callback(stores.close)
    return _Shared(
        CredentialSources(stack),
        stores,
        access.authenticator,
        http,
        access.authorizer,
        audit,
        ReadAhead(),
        DirectOptions(signer, settings.transfers.lifetime, settings.transfers.part_size),
        Background(http, Watch(), RunningTransfers(), Followed()),
    )


async def _open_clusters(settings: Settings, shared: _Shared, counters: Counters, stack: AsyncExitStack) -> Clusters:
    """All clusters, and what works in the background for them."""
    clusters = Clusters(shared, counters)
    stack.push_async_callback(clusters.close)
    await clusters.change(settings)
    counters.register(None, "transfers", shared.background.counts)
    stack.push_async_callback(shared.background.sweeps.close)
    stack.push_async_callback(shared.background.running.close)
    stack.push_async_callback(shared.background.followed.close)
    stack.push_async_callback(shared.background.watch.close)  # before the connections that it uses
    stack.callback(shared.stores.leave)
    return clusters


async def _open_limits(settings: Settings, counters: Counters, stack: AsyncExitStack) -> FairUse | None:
    fair_use = await make_fair_use(settings.limits)
    if fair_use is not None:
        stack.push_async_callback(fair_use.close)
        counters.measure(fair_use.samples)
    return fair_use


async def _open_tracer(tracing: TracingSettings | None, stack: AsyncExitStack) -> RequestTracer | None:
    if tracing is None:
        return None
    try:  # in a thread: it reads some hundred files
        module = await asyncio.to_thread(import_module, "flamecrest.server.telemetry.tracing")
    except ModuleNotFoundError:
        raise RuntimeError("tracing needs OpenTelemetry: pip install 'flamecrest[otel]'") from None
    token = None if tracing.token is None else tracing.token.get_secret_value()
    sending = module.sending_traces(
        tracing.endpoint, token=token, ratio=tracing.ratio, service_name=tracing.service_name
    )
    tracer: RequestTracer = await stack.enter_async_context(sending)
    return tracer


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all clusters of a gateway share."""

    credentials: CredentialSources
    stores: Stores
    authenticator: Authenticator
    http: httpx.AsyncClient
    authorizer: Authorizer | None
    audit: Audit | None
    read_ahead: ReadAhead
    options: DirectOptions
    background: Background

    async def open(self, settings: Settings, cluster: ClusterSettings) -> OpenCluster:
        """Open a cluster. Raises SettingsError."""
        counters, access = Counters(), await self.stores.of(settings.operations(cluster))
        async with AsyncExitStack() as stack:
            pool = await stack.enter_async_context(make_pool(cluster.ssh, await self.credentials.of(settings, cluster)))
            sessions = PooledSessions(pool, agent=cluster.ssh.agent == "auto")
            counters.register(cluster.name, "pool", sessions.stats)
            account = await stack.enter_async_context(service_account(settings, cluster, self.authenticator, self.http))
            scheduler = choose_scheduler(cluster.scheduler, sessions, None if account is None else account.identity)
            if scheduler.close is not None:
                stack.push_async_callback(scheduler.close)
            board = make_board(cluster)
            through = Through(self.options, access, self.background, board)
            ports = _ports(cluster, settings, sessions, counters, self.read_ahead, scheduler, through)
            made = _cluster(settings, cluster, ports, board, self.authorizer, self.audit, pool)
            probes = await stack.enter_async_context(AsyncExitStack())
            await probes.enter_async_context(probing(cluster, made, ports, account, access))
            counters.measure(partial(samples_of, board))
            return OpenCluster(
                made, made_of(settings, cluster), cluster.ssh.max_age_in_use, counters, stack.pop_all(), probes
            )
        raise AssertionError


def _cluster(
    settings: Settings,
    cluster: ClusterSettings,
    ports: Ports,
    board: Board,
    authorizer: Authorizer | None,
    audit: Audit | None,
    pool: Pool,
) -> Cluster:
    operations = settings.operations(cluster)
    connecting = cluster.ssh.timeout.connection + cluster.ssh.timeout.login
    described = description(cluster, operations, settings.transfers)
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
        audit=audit,
        describe=lambda: with_health(with_nodes(described, pool), board.results(), board.last_run),
    )


def _ports(
    cluster: ClusterSettings,
    settings: Settings,
    sessions: Sessions,
    counters: Counters,
    read_ahead: ReadAhead,
    scheduler: SchedulerChoice,
    through: Through,
) -> Ports:
    """The adapters of one cluster. What they share among users lives as long as the ports."""
    counters.register(cluster.name, "scheduler", scheduler.counters.read)

    def uploads(identity: Identity) -> RemoteUploads:
        return RemoteUploads(sessions.of(identity))

    def bulk(identity: Identity) -> RemoteBulk:
        return RemoteBulk(sessions.of(identity))

    async def resolve(identity: Identity, paths: Sequence[str], deadline: Deadline) -> list[str]:
        return await resolve_links(sessions.of(identity), paths, deadline)

    async def user(identity: Identity, deadline: Deadline) -> User:
        return await sessions.of(identity).run(whoami(), deadline)

    files = partial(remote_files, sessions, ClusterFacts(read_ahead))
    transfers = TransferPorts(cluster, settings.operations(cluster), through, sessions, files, scheduler.make)
    return Ports(
        files=files,
        scheduler=scheduler.make,
        scheduler_services=scheduler.services,
        transfers=transfers.transfers,
        user=user,
        uploads=uploads,
        bulk=bulk,
        direct_uploads=transfers.uploads,
        transfer_jobs=jobs_of_transfers(transfers),
        shown_jobs=transfers.shown_jobs,
        tracked=tracked_transfers(transfers),
        **({"resolve": resolve} if _resolves_links(settings) or settings.auth.tokens is not None else {}),
    )


def _resolves_links(settings: Settings) -> bool:
    """Whether rules about paths are applied to what links lead to. Limits of narrow tokens always are."""
    authorization = settings.auth.authorization
    return authorization is None or authorization.resolve_links
