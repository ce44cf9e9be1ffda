"""Connection checks of a configuration: clusters through their ports, issuers and stores over HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import httpx

from flamecrest.server.auth.port import Identity, Verb
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import (
    Denied,
    GatewayError,
    NotFound,
    Timeout,
    Unavailable,
    Upstream,
)
from flamecrest.server.settings import ProbingSettings, S3TransferSettings
from flamecrest.server.ssh.errors import AddressPenalised, ConnectionDropped, LoginRefused

if TYPE_CHECKING:
    from flamecrest.server.cluster import Cluster, Gateway, Permission
    from flamecrest.server.settings import ClusterSettings, Settings

Advice = Mapping[type[Exception], str]

_LOGIN: Advice = {
    AddressPenalised: "list the gateway's address in PerSourcePenaltyExemptList (sshd_config of the login node), "
    "and correct the keys whose logins fail (see the log)",
    ConnectionDropped: "increase MaxStartups, and list the gateway's address in PerSourcePenaltyExemptList "
    "(sshd_config of the login node); check filters of addresses",
    LoginRefused: "correct the user's key. OpenSSH 9.8 and newer drop all connections of an address whose logins fail: "
    "list the gateway's address in PerSourcePenaltyExemptList (sshd_config of the login node)",
    Timeout: "check the firewall and the jump host; if the host is only slow, increase ssh.timeout",
    Denied: "add a key of this user to ssh_credentials, or give another user with --user",
    Upstream: "check ssh.host, ssh.port and the firewall; host key: ssh.host_keys; permission denied: the user's key",
}
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
_HTTP: Advice = {
    httpx.TimeoutException: "check the firewall and the proxy",
    httpx.ConnectError: "check host and port of the URL, and the certificate",
    httpx.UnsupportedProtocol: "the URL must begin with https:// or http://",
}


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


def without_probes(settings: Settings) -> Settings:
    """The settings without health probes: their results would hide those of the checks."""
    clusters = tuple(cluster.model_copy(update={"probing": ProbingSettings()}) for cluster in settings.clusters)
    return settings.model_copy(update={"clusters": clusters})


async def check_connections(gateway: Gateway, settings: Settings, username: str, seconds: float) -> list[CheckResult]:
    """Check every cluster as the user, and every issuer and store; `seconds` is the timeout of each check."""
    identity = Identity(username=username)
    async with httpx.AsyncClient(timeout=seconds, follow_redirects=True) as client, asyncio.TaskGroup() as group:
        clusters = [
            group.create_task(check_cluster(gateway.cluster(cluster.name), cluster, identity, seconds))
            for cluster in settings.clusters
        ]
        urls = [group.create_task(run_check(what, ask(client), _HTTP)) for what, ask in url_checks(settings)]
    return [finding for task in clusters for finding in task.result()] + [task.result() for task in urls]


async def check_cluster(
    cluster: Cluster, settings: ClusterSettings, identity: Identity, seconds: float
) -> list[CheckResult]:
    """Check the login; if it works, the scheduler and all file systems concurrently."""

    async def allow(verb: Verb) -> Permission:
        return await cluster.allow(identity, verb, Deadline.after(seconds))

    async def login() -> str:
        user = await (await allow(Verb.STATUS)).user(Deadline.after(seconds))
        return f"as {user.user.name}"

    async def scheduler() -> str:
        await (await allow(Verb.STATUS)).scheduler().ping(Deadline.after(seconds))
        return ""

    async def stat(path: str) -> str:
        await (await allow(Verb.FILES_READ)).files(path=path).queries.stat(path, Deadline.after(seconds), follow=True)
        return ""

    ssh = settings.ssh
    first = await run_check(f"{settings.name}: ssh {identity.username}@{ssh.host}:{ssh.port}", login(), _LOGIN)
    if not first.ok:
        return [first]
    kind = f"{settings.name}: {settings.scheduler.type}"
    rest = await asyncio.gather(
        run_check(kind, scheduler(), _SCHEDULER),
        *(run_check(f"{settings.name}: {system.path}", stat(system.path), _FILES) for system in settings.file_systems),
    )
    return [first, *rest]


def url_checks(settings: Settings) -> Iterator[tuple[str, Callable[[httpx.AsyncClient], Awaitable[str]]]]:
    """The subject and the check of every token issuer, key set and object store, without duplicates."""
    tokens = settings.auth.authentication
    if tokens.issuer is not None:
        issuer = tokens.issuer
        yield f"issuer {issuer}", lambda client: _discovery(client, issuer)
    for url in dict.fromkeys(tokens.public_certs):
        yield f"keys {url}", lambda client, url=url: _keys(client, url)  # type: ignore[misc]
    if tokens.token_url is not None:
        address = tokens.token_url
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
    except UnusableResponse as error:
        return CheckResult(subject, False, time.monotonic() - begin, error.message, error.advice)
    except (GatewayError, httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        do = next((text for kind, text in advice.items() if isinstance(error, kind)), "")
        return CheckResult(subject, False, time.monotonic() - begin, _message(error), do)
    return CheckResult(subject, True, time.monotonic() - begin, message)


def _message(error: Exception) -> str:
    if isinstance(error, GatewayError):
        return f"{error.public} ({error.detail})" if error.detail else error.public
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
    document = await _json(client, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    named = document.get("issuer")
    if named != issuer:
        raise UnusableResponse(
            f"the discovery document names the issuer {named!r:.200}", "set auth.authentication.issuer to this value"
        )
    if not isinstance(document.get("jwks_uri"), str):
        raise UnusableResponse("the discovery document has no jwks_uri", "set auth.authentication.public_certs")
    return await _keys(client, str(document["jwks_uri"]))


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
