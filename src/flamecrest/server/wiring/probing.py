"""Boards and their probes: of a cluster, by the same ports as users' requests, and of what all clusters need."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from flamecrest.server.auth.port import Identity
from flamecrest.server.auth.service_account import ClientCredentials
from flamecrest.server.errors import GatewayError
from flamecrest.server.health.board import Board, Service
from flamecrest.server.health.maintenance import MaintenanceWindow
from flamecrest.server.health.probes import NotProbed, Probe, ProbeLoop
from flamecrest.server.ssh.errors import (
    AddressPenalised,
    CredentialsFailed,
    CredentialsRefused,
    CredentialsUnavailable,
    EndedEarly,
    LoginRefused,
    Lost,
    NotStarted,
)

if TYPE_CHECKING:
    import httpx

    from flamecrest.server.auth.authorization.openfga import OpenFgaAuthorizer
    from flamecrest.server.auth.oidc import OidcAuthenticator
    from flamecrest.server.auth.port import Authenticator
    from flamecrest.server.cluster import Cluster
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ports import Ports
    from flamecrest.server.settings import ClusterSettings, MaintenanceSettings, Settings
    from flamecrest.server.transfer.s3.access import StoreAccess


Check = Callable[["Identity", "Deadline"], Awaitable[None]]

# Failures of the service account alone: its key is refused, missing or not issued, the server drops logins from this
# address, or its start-up files end the login.
_ACCOUNT_ONLY: Final = (
    LoginRefused,
    AddressPenalised,
    CredentialsFailed,
    CredentialsRefused,
    CredentialsUnavailable,
    NotStarted,
    EndedEarly,
)


def make_board(cluster: ClusterSettings) -> Board:
    """The board of a cluster."""
    probing = cluster.probing
    return Board(
        cluster.name,
        interval=probing.interval_check,
        retry=probing.retry_interval,
        failures=probing.failures,
        requests=probing.failed_requests,
        windows=[_window(one) for one in cluster.maintenance],
    )


@asynccontextmanager
async def probing_auth(
    settings: Settings, issuers: Sequence[OidcAuthenticator], asked: Sequence[OpenFgaAuthorizer]
) -> AsyncIterator[Board]:
    """Probe the token issuers and OpenFGA while the block runs. Nothing is refused for what the board says."""
    given = settings.auth.probing
    board = Board("", interval=given.interval_check, retry=given.retry_interval)
    probes = [Probe(Service.ISSUER, one.check, given.timeout, path=one.name) for one in issuers]
    if settings.clusters:
        ask = settings.clusters[0].name
        probes += [Probe(Service.OPENFGA, partial(one.check, ask), given.timeout) for one in asked if one.can_be_probed]
    async with ProbeLoop(board, probes if given.interval_check else []):
        yield board


def _window(one: MaintenanceSettings) -> MaintenanceWindow:
    services = frozenset(map(Service, one.services))
    return MaintenanceWindow(one.start, one.end, services, frozenset(one.paths), one.message)


@asynccontextmanager
async def probing(
    cluster: ClusterSettings,
    made: Cluster,
    ports: Ports,
    account: ServiceAccount | None,
    store: StoreAccess | None,
) -> AsyncIterator[None]:
    """Probe the cluster while the block runs, if probes are configured."""
    timeouts = cluster.probing.timeouts()
    own = _without_account(timeouts, store)
    probes = [] if account is None else _probes(cluster, ports, timeouts, account)
    async with ProbeLoop(made.board, [*probes, *own], grace=cluster.probing.startup_grace_period):
        yield


@asynccontextmanager
async def service_account(
    settings: Settings, cluster: ClusterSettings, authenticator: Authenticator, http: httpx.AsyncClient
) -> AsyncIterator[ServiceAccount | None]:
    """The cluster's service account, if one is configured, while the block runs."""
    account, token_url = cluster.service_account, settings.auth.authentication.token_url
    if account is None or token_url is None:
        yield None
        return
    credentials = ClientCredentials(
        token_url,
        account.client_id,
        account.secret.get_secret_value(),
        http=http,
        auth_method=settings.auth.authentication.token_endpoint_auth_method,
    )
    async with credentials:
        yield ServiceAccount(credentials, authenticator, cluster.name)


def _without_account(timeouts: dict[str, float], store: StoreAccess | None) -> list[Probe]:
    """The probes that the gateway makes by its own rights."""
    if store is None or "s3" not in timeouts:
        return []
    return [Probe(Service.S3, store.store.ping, timeouts["s3"])]


class ServiceAccount:
    """The account that the gateway works with where it asks for itself: probes, nodes, queues of several users."""

    def __init__(self, credentials: ClientCredentials, authenticator: Authenticator, cluster: str) -> None:
        self._cluster = cluster
        self._credentials = credentials
        self._authenticator = authenticator
        self._last: Identity | None = None

    async def identity(self, deadline: Deadline) -> Identity:
        """Its identity by a valid token; the last one while the issuer is down. Raises NotProbed."""
        try:
            token = await self._credentials.token(deadline)
            identity = await self._authenticator.authenticate(f"Bearer {token}", deadline)
            self._last = identity.on(self._cluster)
        except GatewayError as error:
            if self._last is None:
                raise NotProbed(error.public, detail=error.detail) from error
        return self._last


def _probes(cluster: ClusterSettings, ports: Ports, timeouts: dict[str, float], account: ServiceAccount) -> list[Probe]:
    async def ssh(identity: Identity, deadline: Deadline) -> None:
        await ports.user(identity, deadline)

    async def scheduler(identity: Identity, deadline: Deadline) -> None:
        await ports.scheduler(identity).ping(deadline)

    def stat(path: str) -> Check:
        async def check(identity: Identity, deadline: Deadline) -> None:
            await ports.files(identity).queries.stat(path, deadline, follow=True)

        return check

    found = []
    if "ssh" in timeouts:
        found.append(Probe(Service.SSH, _as_account(ssh, account), timeouts["ssh"]))
    if "scheduler" in timeouts:
        check = _as_account(scheduler, account, needs=(*_ACCOUNT_ONLY, Lost))
        found.append(Probe(Service.SCHEDULER, check, timeouts["scheduler"]))
    if "filesystem" in timeouts:
        for system in cluster.file_systems:
            check = _as_account(stat(system.path), account, needs=(*_ACCOUNT_ONLY, Lost))
            found.append(Probe(Service.FILESYSTEM, check, timeouts["filesystem"], path=system.path))
    return found


def _as_account(
    check: Check, account: ServiceAccount, needs: tuple[type[GatewayError], ...] = _ACCOUNT_ONLY
) -> Callable[[Deadline], Awaitable[None]]:
    """The check as the service account. The errors `needs` mean that it could not be made: NotProbed."""

    async def made(deadline: Deadline) -> None:
        # an issuer that hangs must not use up the time of the check: that would look like an outage of the service
        identity = await account.identity(deadline.sub(deadline.left() / 2))
        try:
            await check(identity, deadline)
        except needs as error:
            raise NotProbed(error.public, detail=error.detail) from error

    return made
