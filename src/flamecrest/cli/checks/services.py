"""Checks of what the gateway itself works with: service accounts, OpenFGA, the store of limits."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from flamecrest.server.auth.port import Verb
from flamecrest.server.auth.service_account import NoToken
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Denied, Unauthenticated, Unavailable
from flamecrest.server.health.probes import NotProbed
from flamecrest.server.wiring.authorization import make_authorizer
from flamecrest.server.wiring.probing import service_account

from .running import HTTP, Advice, CheckResult, UnusableResponse, login_advice, message_of, reach, run_check

if TYPE_CHECKING:
    import httpx

    from flamecrest.server.auth.authorization.openfga import OpenFgaAuthorizer
    from flamecrest.server.cluster import Gateway
    from flamecrest.server.settings import ClusterSettings, Settings

_NO_TOKEN = "check service_account.client_id and secret, and auth.authentication.token_url"  # noqa: S105 -- advice
_OTHER_CLAIMS = (
    "auth.authentication must accept this client's tokens: their issuer, audience and user name; clocks must agree"
)
_OPENFGA: Advice = {Unavailable: "check auth.authorization.url, and openfga.store, model and token"}
_LIMITS: Advice = {Unavailable: "check limits.store; until it answers, each process counts alone"}


def service_checks(
    gateway: Gateway, settings: Settings, client: httpx.AsyncClient, seconds: float
) -> Iterator[Coroutine[None, None, CheckResult]]:
    """The checks of all that are configured."""
    for cluster in settings.clusters:
        if cluster.service_account is not None:
            yield check_service_account(gateway, settings, cluster, client, seconds)
    authorization, limits = settings.auth.authorization, settings.limits
    if authorization is not None and authorization.url is not None:
        address = authorization.url
        yield run_check(f"OpenFGA {address}", _openfga(settings, client, address, seconds), {**_OPENFGA, **HTTP})
    if limits is not None and limits.store is not None:
        yield run_check("store of limits", _limits(limits.store.get_secret_value()), _LIMITS)


async def _openfga(settings: Settings, client: httpx.AsyncClient, address: str, seconds: float) -> str:
    """Ask as the gateway does; where the server wants the users' tokens, only whether it responds."""
    asked: list[OpenFgaAuthorizer] = []
    async with AsyncExitStack() as stack:
        await make_authorizer(settings.auth.authorization, stack, lambda _name, _stats: None, asked)
        for one in asked:
            if one.can_be_probed:
                await one.check(settings.clusters[0].name if settings.clusters else "none", Deadline.after(seconds))
                return "answers a question"
    return await reach(client, address)


async def _limits(url: str) -> str:
    from flamecrest.server.limits.redis_buckets import RedisBuckets  # noqa: PLC0415 -- 0.2 s for those without a store

    store = RedisBuckets(url)
    try:
        await store.check()
    finally:
        await store.close()
    return ""


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
                raise UnusableResponse(message_of(error), _token_advice(error.__cause__)) from error
        made = gateway.cluster(cluster.name).allowed_before(identity, Verb.STATUS)
        return f"logs in as {(await made.user(Deadline.after(seconds))).user.name}"

    name = "" if cluster.service_account is None else cluster.service_account.client_id
    advice = {**login_advice(settings, cluster), Denied: "add a key of this account to ssh_credentials"}
    return await run_check(f"{cluster.name}: service account {name}", login(), advice)


def _token_advice(reason: BaseException | None) -> str:
    if isinstance(reason, Unauthenticated):
        return _OTHER_CLAIMS
    return _NO_TOKEN if isinstance(reason, NoToken) else "the issuer's keys are needed: see its line"
