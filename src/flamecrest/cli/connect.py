"""Connection checks of a configuration: clusters through their ports, issuers and stores over HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import httpx

from flamecrest.server.auth.port import Identity, Verb
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Denied, GatewayError, NotFound, Timeout, Unauthenticated, Unavailable, Upstream
from flamecrest.server.health.probes import NotProbed
from flamecrest.server.settings import CertificatesSettings, ProbingSettings, S3TransferSettings
from flamecrest.server.ssh.errors import AddressPenalised, ConnectionDropped, CredentialsFailed, LoginRefused
from flamecrest.server.ssh.host_keys import KNOWN_HOSTS_LINE
from flamecrest.server.wiring.authentication import make_introspection
from flamecrest.server.wiring.probing import service_account
from flamecrest.server.wiring.stores import Stores

from .store_check import STORE_ADVICE, StoreRefused, try_store

if TYPE_CHECKING:
    from flamecrest.server.cluster import Cluster, Gateway, Permission
    from flamecrest.server.settings import ClusterSettings, IntrospectionSettings, Settings
    from flamecrest.server.transfer.s3.access import StoreAccess
    from flamecrest.wire.systems import TransferMethod

Advice = Mapping[type[Exception], str]

_LOGIN: Advice = {
    AddressPenalised: "list the gateway's address in PerSourcePenaltyExemptList (sshd_config of the login node), "
    "and correct the keys whose logins fail (see the log)",
    ConnectionDropped: "increase MaxStartups, and list the gateway's address in PerSourcePenaltyExemptList "
    "(sshd_config of the login node); check filters of addresses",
    LoginRefused: "correct the user's key; sshd's log says why (`journalctl -t sshd`), for example that the account is "
    "locked. OpenSSH 9.8 and newer drop all connections of an address whose logins fail: "
    "list the gateway's address in PerSourcePenaltyExemptList (sshd_config of the login node)",
    Timeout: "check the firewall and the jump host; if the host is only slow, increase ssh.timeout",
    CredentialsFailed: "correct the user's key in ssh_credentials, and its passphrase, if it has one",
    Denied: "add a key of this user to ssh_credentials, or give another user with --user",
    Upstream: "check ssh.host, ssh.port and the firewall; host key: ssh.host_keys; permission denied: the user's key",
}
_CERTIFICATE_LOGIN: Advice = {
    **_LOGIN,
    LoginRefused: "sshd's log of the login node says why (`journalctl -t sshd`). TrustedUserCAKeys must name the CA's "
    "public key; the principal must be the account; ssh_credentials.source_address must be the gateway's address as "
    "the login node sees it; the account must exist and be neither locked nor expired; the clocks must agree",
}
_CHANGED_HOST_KEY = (
    "compare the key with the one that the centre publishes; if they are equal, replace the old line in the "
    "known_hosts of the account that runs the gateway, or in ssh.host_keys"
)
_HOST_KEY = (
    "compare the key with the one that the centre publishes; then add the line to the known_hosts of the account that "
    "runs the gateway, or set ssh.host_keys"
)
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
_OTHER_CLIENT = "check service_account.client_id and secret, and auth.authentication.token_url"
_OTHER_CLAIMS = "give this client tokens with the audience and the user name that auth.authentication asks for"
_HTTP: Advice = {
    httpx.TimeoutException: "check the firewall and the proxy",
    httpx.ConnectError: "check host and port of the URL, and the certificate",
    httpx.UnsupportedProtocol: "the URL must begin with https:// or http://",
}


_STORE: Advice = {**STORE_ADVICE, **_HTTP}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check: message of success or failure, and advice on a failure."""

    subject: str
    ok: bool
    seconds: float
    message: str = ""
    advice: str = ""


class UnusableResponse(Exception):
    """A service responds, but not as required."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice


class UnusableDocument(UnusableResponse):
    """There is no discovery document."""


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
        check_login(gateway.cluster(one.name), one, identity, seconds, _login_advice(settings, one))
        for one in settings.clusters
    ]
    return list(await asyncio.gather(*checks))


async def check_connections(gateway: Gateway, settings: Settings, username: str, seconds: float) -> list[CheckResult]:
    """Check every cluster as the user, and every issuer and store; `seconds` is the timeout of each check."""
    identity = Identity(username=username)
    async with httpx.AsyncClient(timeout=seconds, follow_redirects=True) as client, asyncio.TaskGroup() as group:
        clusters = [
            group.create_task(check_cluster(gateway.cluster(cluster.name), cluster, identity, seconds, advice))
            for cluster, advice in ((one, _login_advice(settings, one)) for one in settings.clusters)
        ]
        accounts = [
            group.create_task(check_service_account(gateway, settings, cluster, client, seconds))
            for cluster in settings.clusters
            if cluster.service_account is not None
        ]
        urls = [group.create_task(run_check(what, ask(client), _HTTP)) for what, ask in url_checks(settings)]
        stores = group.create_task(check_stores(settings, username, client))
    found = [finding for task in clusters for finding in task.result()]
    found += [task.result() for task in accounts]
    return [*found, *(task.result() for task in urls), *stores.result()]


async def check_stores(settings: Settings, username: str, client: httpx.AsyncClient) -> list[CheckResult]:
    """Try every object store as the user's clients will use it."""
    stores = Stores()
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


async def check_service_account(
    gateway: Gateway, settings: Settings, cluster: ClusterSettings, client: httpx.AsyncClient, seconds: float
) -> CheckResult:
    """Check that the issuer gives the service account a token, and that the account can log in."""

    async def login() -> str:
        async with service_account(settings, cluster, gateway.authenticator, client) as account:
            if account is None:
                raise UnusableResponse(
                    "there is no token_url to get its token from", "set auth.authentication.token_url"
                )
            try:
                identity = await account.identity(Deadline.after(seconds))
            except NotProbed as error:
                refused = isinstance(error.__cause__, Unauthenticated)
                raise UnusableResponse(_message(error), _OTHER_CLAIMS if refused else _OTHER_CLIENT) from error
        made = gateway.cluster(cluster.name).allowed_before(identity, Verb.STATUS)
        return f"logs in as {(await made.user(Deadline.after(seconds))).user.name}"

    name = "" if cluster.service_account is None else cluster.service_account.client_id
    advice = {**_login_advice(settings, cluster), Denied: "add a key of this account to ssh_credentials"}
    return await run_check(f"{cluster.name}: service account {name}", login(), advice)


async def check_cluster(
    cluster: Cluster, settings: ClusterSettings, identity: Identity, seconds: float, advice: Advice = _LOGIN
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


def _login_advice(settings: Settings, cluster: ClusterSettings) -> Advice:
    signed = isinstance(settings.credentials(cluster), CertificatesSettings)
    return _CERTIFICATE_LOGIN if signed else _LOGIN


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
        yield f"tokens {address}", lambda client: _reach(client, address)
    stores: dict[str, str] = {}
    for cluster in settings.clusters:
        transfer = settings.operations(cluster).data_transfer
        if isinstance(transfer, S3TransferSettings):
            stores.setdefault(transfer.private_url.get_secret_value(), f"store {transfer.name} (private URL)")
            stores.setdefault(transfer.public_url, f"store {transfer.name} {transfer.public_url}")
    for url, what in stores.items():
        yield what, lambda client, url=url: _reach(client, url)  # type: ignore[misc]


async def run_check(subject: str, action: Awaitable[str], advice: Advice) -> CheckResult:
    """Run one check."""
    begin = time.monotonic()
    try:
        message = await action
    except (UnusableResponse, StoreRefused) as error:
        return CheckResult(subject, False, time.monotonic() - begin, error.message, error.advice)
    except (GatewayError, httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return CheckResult(subject, False, time.monotonic() - begin, _message(error), _advice_on(error, advice))
    return CheckResult(subject, True, time.monotonic() - begin, message)


def _advice_on(error: Exception, advice: Advice) -> str:
    if KNOWN_HOSTS_LINE in str(error):
        return _CHANGED_HOST_KEY if "has changed" in str(error) else _HOST_KEY
    return next((text for kind, text in advice.items() if isinstance(error, kind)), "")


def _method(one: TransferMethod) -> str:
    """What a client meets: `s3 through the gateway, parts of 64 MiB`."""
    size = "" if one.part_size is None else f", parts of {one.part_size >> 20} MiB"
    ports = "" if one.ports is None else f", ports {one.ports[0]} to {one.ports[1]}"
    where = "" if one.public_url is None else f" ({one.public_url})"
    return f"{one.name} through the {one.through}{where}{size}{ports}"


def _message(error: Exception) -> str:
    if isinstance(error, GatewayError):  # a line to copy stands alone at the end
        named = error.detail and KNOWN_HOSTS_LINE not in error.public
        return f"{error.public} ({error.detail})" if named else error.public
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error) or type(error).__name__


async def _reach(client: httpx.AsyncClient, url: str) -> str:
    """Check that the server responds. Any status below 500 is a success: these URLs require POST or a signature."""
    response = await client.get(url)
    if response.status_code >= 500:
        raise UnusableResponse(f"status {response.status_code}", "see the log of that server")
    return f"status {response.status_code}"


async def _discovery(client: httpx.AsyncClient, issuer: str) -> str:
    document = await _document(client, issuer)
    if not isinstance(document.get("jwks_uri"), str):
        raise UnusableResponse("the discovery document has no jwks_uri", "set auth.authentication.public_certs")
    return await _keys(client, str(document["jwks_uri"]))


async def _document(client: httpx.AsyncClient, issuer: str) -> dict[str, Any]:
    """The discovery document. Raises UnusableDocument if there is none, UnusableResponse if it is another issuer's."""
    try:
        document = await _json(client, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
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


async def _keys(client: httpx.AsyncClient, url: str) -> str:
    if urlsplit(url).scheme == "file":
        document = _parsed(await asyncio.to_thread(Path(unquote(urlsplit(url).path)).read_bytes))
    else:
        document = await _json(client, url)
    keys = document.get("keys")
    if not isinstance(keys, list) or not keys:
        raise UnusableResponse("the document has no keys", "use the URL of a key set (JWKS)")
    return f"{len(keys)} key{'' if len(keys) == 1 else 's'}"


async def _json(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    response = await client.get(url)
    if response.status_code != 200:
        raise UnusableResponse(f"status {response.status_code}", "check the URL; it must be readable without a token")
    return _parsed(response.content)


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise UnusableResponse("the response is not a JSON object", "check the URL")
    return document
