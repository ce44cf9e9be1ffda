"""The probes of one cluster, made by its service account through the same ports as users' requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from flamecrest.server.auth.port import Identity
from flamecrest.server.auth.service_account import ClientCredentials
from flamecrest.server.health.board import Service
from flamecrest.server.health.probes import Probe, ProbeLoop

if TYPE_CHECKING:
    import httpx

    from flamecrest.server.auth.port import Authenticator
    from flamecrest.server.cluster import Cluster, Ports
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.settings import ClusterSettings, Settings


@asynccontextmanager
async def probing(
    settings: Settings,
    cluster: ClusterSettings,
    made: Cluster,
    ports: Ports,
    authenticator: Authenticator,
    http: httpx.AsyncClient,
) -> AsyncIterator[None]:
    """Probe the cluster while the block runs, if probes are configured."""
    timeouts, account = cluster.probing.timeouts(), cluster.service_account
    token_url = settings.auth.authentication.token_url
    if not timeouts or account is None or token_url is None:
        yield
        return
    credentials = ClientCredentials(
        token_url,
        account.client_id,
        account.secret.get_secret_value(),
        http=http,
        auth_method=settings.auth.authentication.token_endpoint_auth_method,
    )
    async with credentials:
        probes = _probes(cluster, ports, timeouts, _ServiceAccount(credentials, authenticator))
        async with ProbeLoop(made.board, probes, grace=cluster.probing.startup_grace_period):
            yield


class _ServiceAccount:
    """The account that probes work with."""

    def __init__(self, credentials: ClientCredentials, authenticator: Authenticator) -> None:
        self._credentials = credentials
        self._authenticator = authenticator
        self._last: Identity | None = None

    async def identity(self, deadline: Deadline) -> Identity:
        """Its identity by a valid token; the last one while the issuer is down."""
        try:
            token = await self._credentials.token(deadline)
            self._last = await self._authenticator.authenticate(f"Bearer {token}", deadline)
        except Exception:
            if self._last is None:
                raise
        return self._last


def _probes(
    cluster: ClusterSettings, ports: Ports, timeouts: dict[str, float], account: _ServiceAccount
) -> list[Probe]:
    async def ssh(deadline: Deadline) -> None:
        await ports.user(await account.identity(deadline), deadline)

    async def scheduler(deadline: Deadline) -> None:
        await ports.scheduler(await account.identity(deadline)).ping(deadline)

    def stat(path: str) -> Callable[[Deadline], Awaitable[None]]:
        async def check(deadline: Deadline) -> None:
            await ports.files(await account.identity(deadline)).queries.stat(path, deadline, follow=True)

        return check

    found = []
    if "ssh" in timeouts:
        found.append(Probe(Service.SSH, ssh, timeouts["ssh"]))
    if "scheduler" in timeouts:
        found.append(Probe(Service.SCHEDULER, scheduler, timeouts["scheduler"]))
    if "filesystem" in timeouts:
        found += [
            Probe(Service.FILESYSTEM, stat(system.path), timeouts["filesystem"], path=system.path)
            for system in cluster.file_systems
        ]
    return found
