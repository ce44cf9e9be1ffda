"""Connection checks of a configuration: clusters through their ports, issuers and stores over HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

import httpx

from flamecrest.server.auth.keys import UnusableKey, read_keys
from flamecrest.server.auth.port import Identity, Verb
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Denied, NotFound, Timeout, Unavailable, Upstream
from flamecrest.server.settings import ProbingSettings, S3TransferSettings
from flamecrest.server.wiring.authentication import make_introspection
from flamecrest.server.wiring.stores import Stores

from .checks.running import HTTP, LOGIN, Advice, CheckResult, UnusableResponse, login_advice, reach, run_check
from .checks.services import service_checks
from .checks.store import STORE_ADVICE, try_store

if TYPE_CHECKING:
    from flamecrest.server.cluster import Cluster, Gateway, Permission
    from flamecrest.server.settings import ClusterSettings, IntrospectionSettings, Settings
    from flamecrest.server.transfer.s3.access import StoreAccess
    from flamecrest.wire.systems import TransferMethod

_FILES: Advice = {
    NotFound: "correct file_systems[].path, or mount the file system",
    Denied: "the user has no access: correct file_systems[].path, or give another user with --user",
    Timeout: "the file system does not respond",
}
_SCHEDULER: Advice = {
    Upstream: "if its commands are not on the default PATH, set scheduler.bin_dir",
    Unavailable: "the scheduler is down",
    Timeout: "the scheduler is slow: increase scheduler.timeout",
}
_TRANSFERS: Advice = {
    Denied: "the user has no access to their folder in the file system with default_work_dir",
}


_STORE: Advice = {**STORE_ADVICE, **HTTP}
_KEYS = "use the URL of a key set (JWKS), or a file with a JWKS or PEM"
MOST_REASONS: Final = 300  # characters about keys that cannot be used
MOST_DIFFERENCE: Final = 60  # seconds between two clocks


class UnusableDocument(UnusableResponse):
    """There is no discovery document."""


class WrongClock(UnusableResponse):
    """The clock of a server, or that of this machine, is wrong."""


def for_checks(settings: Settings) -> Settings:
    """The settings without health probes, whose results would hide those of the checks, and without the audit log.

    A record of a check is no record of the gateway, and a log created by root could not be opened by the gateway.
    """
    clusters = tuple(cluster.model_copy(update={"probing": ProbingSettings()}) for cluster in settings.clusters)
    return settings.model_copy(update={"clusters": clusters, "audit": None})


def each_login_node(settings: Settings) -> Iterator[Settings]:
    """The settings with the clusters that have several `ssh.hosts`, each with one of them, until all had their turn."""
    several = [cluster for cluster in settings.clusters if len(cluster.ssh.hosts) > 1]
    for number in range(max((len(cluster.ssh.hosts) for cluster in several), default=0)):
        clusters = tuple(_on_node(cluster, number) for cluster in several if number < len(cluster.ssh.hosts))
        yield settings.model_copy(update={"clusters": clusters})


def _on_node(cluster: ClusterSettings, number: int) -> ClusterSettings:
    node = cluster.ssh.hosts[number]
    alone = {"hosts": (node,), "host": node.host, "port": node.port or cluster.ssh.port}
    return cluster.model_copy(update={"ssh": cluster.ssh.model_copy(update=alone)})


async def check_logins(gateway: Gateway, settings: Settings, username: str, seconds: float) -> list[CheckResult]:
    """Check nothing but the login, on every cluster."""
    identity = Identity(username=username)
    checks = [
        check_login(gateway.cluster(one.name), one, identity, seconds, login_advice(settings, one))
        for one in settings.clusters
    ]
    return list(await asyncio.gather(*checks))


async def check_connections(gateway: Gateway, settings: Settings, username: str, seconds: float) -> list[CheckResult]:
    """Check every cluster as the user, and every issuer and store; `seconds` is the timeout of each check."""
    identity = Identity(username=username)
    async with httpx.AsyncClient(timeout=seconds, follow_redirects=True) as client, asyncio.TaskGroup() as group:
        clusters = [
            group.create_task(check_cluster(gateway.cluster(cluster.name), cluster, identity, seconds, advice))
            for cluster, advice in ((one, login_advice(settings, one)) for one in settings.clusters)
        ]
        services = [group.create_task(one) for one in service_checks(gateway, settings, client, seconds)]
        urls = [group.create_task(run_check(what, ask(client), HTTP)) for what, ask in url_checks(settings)]
        stores = group.create_task(check_stores(settings, username, client))
    found = [finding for task in clusters for finding in task.result()]
    return [*found, *(task.result() for task in (*services, *urls)), *stores.result()]


async def check_stores(settings: Settings, username: str, client: httpx.AsyncClient) -> list[CheckResult]:
    """Try every object store as the user's clients will use it."""
    stores = Stores(settings.server.cors_origins)
    try:
        found: dict[int, tuple[str, StoreAccess]] = {}
        for cluster in settings.clusters:
            access = await stores.of(settings.operations(cluster))
            if access is not None:
                found.setdefault(id(access), (f"{cluster.name}: transfers through the store", access))
        tries = [run_check(what, try_store(access, username, client), _STORE) for what, access in found.values()]
        return list(await asyncio.gather(*tries))
    finally:
        stores.close()


async def check_login(
    cluster: Cluster, settings: ClusterSettings, identity: Identity, seconds: float, advice: Advice
) -> CheckResult:
    """Check the login on the login node, or on any of them if there are several."""

    async def login() -> str:
        user = await cluster.allowed_before(identity, Verb.STATUS).user(Deadline.after(seconds))
        return f"as {user.user.name}"

    ssh = settings.ssh
    where = f"any of {len(ssh.hosts)} login nodes" if len(ssh.hosts) > 1 else f"{ssh.host}:{ssh.port}"
    return await run_check(f"{settings.name}: ssh {identity.username}@{where}", login(), advice)


async def check_cluster(
    cluster: Cluster, settings: ClusterSettings, identity: Identity, seconds: float, advice: Advice = LOGIN
) -> list[CheckResult]:
    """Check the login; if it works, the scheduler and all file systems concurrently."""

    def allow(verb: Verb) -> Permission:
        return cluster.allowed_before(identity, verb)

    async def scheduler() -> str:
        await allow(Verb.STATUS).scheduler().ping(Deadline.after(seconds))
        return ""

    async def stat(path: str) -> str:
        await allow(Verb.FILES_READ).files(path=path).queries.stat(path, Deadline.after(seconds), follow=True)
        return ""

    first = await check_login(cluster, settings, identity, seconds, advice)
    if not first.ok:
        return [first]
    kind = f"{settings.name}: {settings.scheduler.type}"

    async def transfers() -> str:
        """The records of transfers can be read, and what a client will meet."""
        await allow(Verb.TRANSFER).tracked_transfers().list(1, None, Deadline.after(seconds))
        return ", ".join(_method(one) for one in cluster.describe().transfer_methods)

    methods = [transfers()] if any(system.default_work_dir for system in settings.file_systems) else []
    rest = await asyncio.gather(
        run_check(kind, scheduler(), _SCHEDULER),
        *(run_check(f"{settings.name}: transfers", one, _TRANSFERS) for one in methods),
        *(run_check(f"{settings.name}: {system.path}", stat(system.path), _FILES) for system in settings.file_systems),
    )
    return [first, *rest]


def url_checks(settings: Settings) -> Iterator[tuple[str, Callable[[httpx.AsyncClient], Awaitable[str]]]]:
    """The subject and the check of every token issuer, key set and object store, without duplicates."""
    auth = settings.auth
    issuers = [auth.authentication, *auth.issuers]
    for one in issuers:
        if (issuer := one.issuer) is not None:
            check = _issuer if one.public_certs else _discovery
            yield f"issuer {issuer}", partial(check, issuer=issuer)
    for url in dict.fromkeys(url for one in issuers for url in one.public_certs):
        yield f"keys {url}", lambda client, url=url: _keys(client, url)  # type: ignore[misc]
    for endpoint in [one.introspection for one in issuers if one.introspection is not None]:
        yield f"introspection {endpoint.url}", lambda client, endpoint=endpoint: _introspection(client, endpoint)  # type: ignore[misc]
    if auth.authentication.token_url is not None:
        address = auth.authentication.token_url
        yield f"tokens {address}", lambda client: reach(client, address)
    stores: dict[str, str] = {}
    for cluster in settings.clusters:
        transfer = settings.operations(cluster).data_transfer
        if isinstance(transfer, S3TransferSettings):
            stores.setdefault(transfer.private_url.get_secret_value(), f"store {transfer.name} (private URL)")
            stores.setdefault(transfer.public_url, f"store {transfer.name} {transfer.public_url}")
    for url, what in stores.items():
        yield what, lambda client, url=url: reach(client, url)  # type: ignore[misc]


def _method(one: TransferMethod) -> str:
    """What a client meets: `s3 through the gateway, parts of 64 MiB`."""
    size = "" if one.part_size is None else f", parts of {one.part_size >> 20} MiB"
    ports = "" if one.ports is None else f", ports {one.ports[0]} to {one.ports[1]}"
    where = "" if one.public_url is None else f" ({one.public_url})"
    return f"{one.name} through the {one.through}{where}{size}{ports}"


async def _discovery(client: httpx.AsyncClient, issuer: str) -> str:
    document = await _document(client, issuer)
    if not isinstance(document.get("jwks_uri"), str):
        raise UnusableResponse("the discovery document has no jwks_uri", "set auth.authentication.public_certs")
    return await _keys(client, str(document["jwks_uri"]))


async def _document(client: httpx.AsyncClient, issuer: str) -> dict[str, Any]:
    """The discovery document. Raises UnusableDocument if there is none, UnusableResponse if it is another issuer's."""
    try:
        document = await _json(client, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    except WrongClock:
        raise
    except UnusableResponse as error:
        raise UnusableDocument(error.message, error.advice) from error
    named = document.get("issuer")
    if named != issuer:
        raise UnusableResponse(
            f"the discovery document names the issuer {named!r:.200}",
            "set `issuer` to this value",
        )
    return document


async def _issuer(client: httpx.AsyncClient, issuer: str) -> str:
    """Check the name of an issuer whose keys are in `public_certs`, if it has a discovery document."""
    try:
        await _document(client, issuer)
    except (httpx.HTTPError, UnusableDocument):
        return "no discovery document; none is needed, its keys are in public_certs"
    return "names itself so"


async def _introspection(client: httpx.AsyncClient, endpoint: IntrospectionSettings) -> str:
    """Ask about a made-up token, as the gateway would: the endpoint must accept the client and know no such token."""
    asked = make_introspection(endpoint, client)
    try:
        active = await asked.ask("flamecrest-check", Deadline.after(endpoint.timeout))
    except Unavailable as error:
        raise UnusableResponse(error.detail or error.public, "check url, client_id and secret") from error
    if active is not None:
        raise UnusableResponse("a made-up token is said to be active", "this is no introspection endpoint")
    return "accepts the client"


async def _keys(client: httpx.AsyncClient, place: str) -> str:
    """Check that a document has keys, read as the gateway reads them."""
    url = urlsplit(place)
    if url.scheme in {"file", ""}:
        path = unquote(url.path) if url.scheme else place
        document = await asyncio.to_thread(Path(path).read_bytes)
    else:
        document = await _fetch(client, place)
    try:
        keys, ignored = read_keys(document)
    except UnusableKey as error:
        raise UnusableResponse(str(error), _KEYS) from error
    if not keys:
        raise UnusableResponse(_some(ignored) or "the document has no keys", _KEYS)
    return f"{len(keys)} key{'' if len(keys) == 1 else 's'}{f'; ignored: {_some(ignored)}' if ignored else ''}"


def _some(reasons: list[str]) -> str:
    return "; ".join(reasons)[:MOST_REASONS]


async def _json(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    try:
        document = json.loads(await _fetch(client, url))
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise UnusableResponse("the response is not a JSON object", "check the URL")
    return document


async def _fetch(client: httpx.AsyncClient, url: str) -> bytes:
    """A document of an issuer. As in the gateway, no redirect is followed."""
    response = await client.get(url, follow_redirects=False)
    if response.has_redirect_location:
        raise UnusableResponse(f"status {response.status_code}, a redirect", "give the URL to which it leads")
    if response.status_code != 200:
        raise UnusableResponse(f"status {response.status_code}", "check the URL; it must be readable without a token")
    _compare_clocks(response.headers)
    return response.content


def _compare_clocks(headers: httpx.Headers) -> None:
    """Raise WrongClock if the clock of the server differs from that of this machine by a minute or more."""
    try:
        said = parsedate_to_datetime(headers["date"]).timestamp() + int(headers.get("age", "0"))
    except (KeyError, ValueError, TypeError, OverflowError):
        return
    difference = round(said - time.time())
    if abs(difference) >= MOST_DIFFERENCE:
        ahead = "ahead of" if difference > 0 else "behind"
        raise WrongClock(
            f"its clock is {abs(difference)} s {ahead} the clock of this machine",
            "correct the clock that is wrong (NTP): tokens are refused that seem to be expired, or of the future",
        )
