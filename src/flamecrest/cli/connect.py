"""What of a configuration answers: clusters through their ports, issuers and stores by HTTP; it prints nothing."""

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

if TYPE_CHECKING:
    from flamecrest.server.cluster import Cluster, Gateway, Permission
    from flamecrest.server.settings import ClusterSettings, Settings

Advice = Mapping[type[Exception], str]

_LOGIN: Advice = {
    Timeout: "can this machine reach it (firewall, jump host)? If it is only slow: raise ssh.timeout",
    Denied: "configure a key for this user under ssh_credentials, or name another with --user",
    Upstream: "unreachable: ssh.host, ssh.port, the firewall; host key: ssh.host_keys; permission: the user's key",
}
_FILES: Advice = {
    NotFound: "correct file_systems[].path, or mount it",
    Denied: "the user may not look at it: correct file_systems[].path, or try another with --user",
    Timeout: "the file system hangs",
}
_SCHEDULER: Advice = {
    Upstream: "if its commands are not on the default PATH: set scheduler.bin_dir",
    Unavailable: "the scheduler itself is down",
    Timeout: "the scheduler is slow: raise scheduler.timeout",
}
_HTTP: Advice = {
    httpx.TimeoutException: "can this machine reach it (firewall, proxy)?",
    httpx.ConnectError: "check the host and the port of the URL, and the certificate",
    httpx.UnsupportedProtocol: "the URL must begin with https:// or http://",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one attempt."""

    what: str
    answered: bool
    seconds: float
    said: str = ""
    advice: str = ""


class Unfit(Exception):
    """An answer that is of no use: what is wrong with it, and what to do."""

    def __init__(self, said: str, advice: str) -> None:
        super().__init__(said)
        self.said = said
        self.advice = advice


def unwatched(settings: Settings) -> Settings:
    """The same without probes: what they find would be told in place of what an attempt finds itself."""
    clusters = tuple(cluster.model_copy(update={"probing": ProbingSettings()}) for cluster in settings.clusters)
    return settings.model_copy(update={"clusters": clusters})


async def survey(gateway: Gateway, settings: Settings, username: str, seconds: float) -> list[Finding]:
    """Try every cluster as the user, and every issuer and store; each attempt has so many seconds."""
    identity = Identity(username=username)
    async with httpx.AsyncClient(timeout=seconds, follow_redirects=True) as client, asyncio.TaskGroup() as group:
        clusters = [
            group.create_task(try_cluster(gateway.cluster(cluster.name), cluster, identity, seconds))
            for cluster in settings.clusters
        ]
        urls = [group.create_task(attempt(what, ask(client), _HTTP)) for what, ask in addresses(settings)]
    return [finding for task in clusters for finding in task.result()] + [task.result() for task in urls]


async def try_cluster(cluster: Cluster, settings: ClusterSettings, identity: Identity, seconds: float) -> list[Finding]:
    """Log in; then the scheduler and every file system, at the same time. What needs SSH is not tried without."""

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
    first = await attempt(f"{settings.name}: ssh {identity.username}@{ssh.host}:{ssh.port}", login(), _LOGIN)
    if not first.answered:
        return [first]
    kind = f"{settings.name}: {settings.scheduler.type}"
    rest = await asyncio.gather(
        attempt(kind, scheduler(), _SCHEDULER),
        *(attempt(f"{settings.name}: {system.path}", stat(system.path), _FILES) for system in settings.file_systems),
    )
    return [first, *rest]


def addresses(settings: Settings) -> Iterator[tuple[str, Callable[[httpx.AsyncClient], Awaitable[str]]]]:
    """Every issuer and store, each once, and how it is asked."""
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


async def attempt(what: str, action: Awaitable[str], advice: Advice) -> Finding:
    """Wait for one action and say what came of it."""
    begin = time.monotonic()
    try:
        said = await action
    except Unfit as error:
        return Finding(what, False, time.monotonic() - begin, error.said, error.advice)
    except (GatewayError, httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        do = next((text for kind, text in advice.items() if isinstance(error, kind)), "")
        return Finding(what, False, time.monotonic() - begin, _words(error), do)
    return Finding(what, True, time.monotonic() - begin, said)


def _words(error: Exception) -> str:
    if isinstance(error, GatewayError):
        return f"{error.public} ({error.detail})" if error.detail else error.public
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error) or type(error).__name__


async def _reach(client: httpx.AsyncClient, url: str) -> str:
    """Any answer will do: what is asked for here wants a POST, or a signature."""
    answer = await client.get(url)
    if answer.status_code >= 500:
        raise Unfit(f"answers {answer.status_code}", "look at its own log")
    return f"answers {answer.status_code}"


async def _discovery(client: httpx.AsyncClient, issuer: str) -> str:
    document = await _json(client, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    named = document.get("issuer")
    if named != issuer:
        raise Unfit(f"calls itself {named!r:.200}", "set auth.authentication.issuer to exactly that")
    if not isinstance(document.get("jwks_uri"), str):
        raise Unfit("its discovery document names no keys (jwks_uri)", "set auth.authentication.public_certs")
    return await _keys(client, str(document["jwks_uri"]))


async def _keys(client: httpx.AsyncClient, url: str) -> str:
    if urlsplit(url).scheme == "file":
        document = _parsed(await asyncio.to_thread(Path(unquote(urlsplit(url).path)).read_bytes))
    else:
        document = await _json(client, url)
    keys = document.get("keys")
    if not isinstance(keys, list) or not keys:
        raise Unfit("holds no keys", "name the URL of a key set (JWKS)")
    return f"{len(keys)} key{'' if len(keys) == 1 else 's'}"


async def _json(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    answer = await client.get(url)
    if answer.status_code != 200:
        raise Unfit(f"answers {answer.status_code}", "check the URL; it must be readable without a token")
    return _parsed(answer.content)


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise Unfit("is no JSON object", "check the URL")
    return document
