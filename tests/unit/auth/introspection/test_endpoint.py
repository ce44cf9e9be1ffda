"""Introspection: opaque tokens, revoked tokens, and an issuer that fails or is flooded."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from flamecrest.server.auth.claims import ClaimRules
from flamecrest.server.auth.introspection.endpoint import Introspection
from flamecrest.server.auth.oidc import OidcAuthenticator
from flamecrest.server.errors import Busy, Unauthenticated, Unavailable
from tests.faulty_issuer import Fault, FaultyIssuer
from tests.unit.auth.world import AUDIENCE, Clock, answering, ask, http_answer, refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from flamecrest.server.auth.introspection.endpoint import Tokens

pytestmark = pytest.mark.anyio

NEVER = 3600.0


@asynccontextmanager
async def asking(
    issuer: FaultyIssuer, http: httpx.AsyncClient, clock: Clock, tokens: Tokens = "all", **options: Any
) -> AsyncIterator[OidcAuthenticator]:
    url = options.pop("url", f"{issuer.url}/introspect")
    endpoint = Introspection(url, "robot", "robot-secret", http=http, tokens=tokens, monotonic=clock, **options)
    async with OidcAuthenticator(
        ClaimRules(issuer=issuer.url, audience=frozenset({AUDIENCE})),
        http=http,
        introspection=endpoint,
        clock=clock,
        monotonic=clock,
    ) as gate:
        yield gate


@pytest.fixture
async def issuer(anyio_backend: str, rsa_key) -> AsyncIterator[FaultyIssuer]:
    async with FaultyIssuer(
        {"robot": ("robot-secret", "ann")}, keys=[rsa_key], audience=AUDIENCE, ttl=NEVER
    ) as running:
        yield running


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_opaque_token(issuer: FaultyIssuer, http: httpx.AsyncClient, clock: Clock, method):
    async with asking(issuer, http, clock, auth_method=method) as gate:
        token = issuer.mint_opaque("ann", client_id="portal", azp="portal")
        for _ in range(3):
            found = await ask(gate, token)
            assert (found.username, found.client, found.token) == ("ann", "portal", token)
        assert issuer.fetched["introspect"] == 1
        clock.advance(61)
        await ask(gate, token)
        assert issuer.fetched["introspect"] == 2
        issuer.revoke(token)
        assert (await ask(gate, token)).username == "ann"  # until the answer is too old
        clock.advance(61)
        for _ in range(3):
            with pytest.raises(Unauthenticated):
                await ask(gate, token)
        assert issuer.fetched["introspect"] == 3  # a refused token is remembered


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another"},
        {"iss": "http://evil.example.org"},
        {"preferred_username": "../x"},
        {"preferred_username": "a;b"},
        {"token_type": None},
        {"token_type": "refresh_token"},
        {"token_use": "refresh_token"},
        {"typ": "Refresh"},
        {"nbf": 2**40},
        {"cnf": {"jwk": {}}},
    ],
)
async def test_opaque_tokens_that_are_not_for_us(issuer: FaultyIssuer, http, clock: Clock, claims, caplog):
    async with asking(issuer, http, clock) as gate:
        await refusal(gate, issuer.mint_opaque("ann", **claims), caplog)


async def test_revoked_jwt(issuer: FaultyIssuer, http: httpx.AsyncClient, clock: Clock):
    async with asking(issuer, http, clock, "jwt", life=30) as gate:
        token = issuer.mint("ann")
        assert (await ask(gate, token)).username == "ann"
        issuer.revoke(token)
        clock.advance(31)
        with pytest.raises(Unauthenticated):
            await ask(gate, token)
        with pytest.raises(Unauthenticated):  # opaque ones are not asked for
            await ask(gate, issuer.mint_opaque("ann"))
        with pytest.raises(Unauthenticated):  # nor is one that is invalid by itself
            await ask(gate, issuer.mint("ann", aud="another"))
        assert issuer.fetched["introspect"] == 2


async def test_jwt_alone_is_not_asked_for(issuer: FaultyIssuer, http: httpx.AsyncClient, clock: Clock):
    async with asking(issuer, http, clock, "opaque") as gate:
        await ask(gate, issuer.mint("ann"))
        assert issuer.fetched["introspect"] == 0


async def test_a_failing_endpoint_is_unavailable_and_left_in_peace(
    issuer: FaultyIssuer, http: httpx.AsyncClient, clock: Clock, caplog
):
    async with asking(issuer, http, clock) as gate:
        good = issuer.mint_opaque("ann")
        issuer.fault = Fault.ERROR
        for _ in range(20):
            with pytest.raises(Unavailable) as caught:
                await ask(gate, good)
        assert issuer.fetched["introspect"] == 3
        assert caught.value.retry_after is not None
        assert good not in caplog.text
        issuer.fault = Fault.NONE
        clock.advance(31)
        assert (await ask(gate, good)).username == "ann"
        assert "robot-secret" not in repr(gate.introspection)


@pytest.mark.parametrize(
    "answer",
    [
        http_answer("{}"),
        http_answer('{"active": "true"}'),
        http_answer("[]"),
        http_answer("<html>"),
        http_answer('{"active": true}', "401 Unauthorized"),
        http_answer("", "302 Found", "Location: http://127.0.0.1:1/"),
        http_answer('{"active": true, "x": "' + "x" * 70_000 + '"}'),
        b"nothing",
    ],
)
async def test_nonsense_from_the_endpoint_lets_nobody_in(issuer: FaultyIssuer, http, clock: Clock, answer: bytes):
    async with answering(answer) as (url, _), asking(issuer, http, clock, url=url) as gate:
        with pytest.raises(Unavailable):
            await ask(gate, "some-token")


async def test_many_made_up_tokens_wait_and_the_rest_is_refused(
    issuer: FaultyIssuer, http: httpx.AsyncClient, clock: Clock
):
    async with asking(issuer, http, clock, timeout=30) as gate:
        issuer.fault = Fault.HANG
        asked = [asyncio.create_task(ask(gate, f"made-up-{number}")) for number in range(256)]
        await issuer.wait_fetched("introspect", 16)
        for number in range(1000):
            with pytest.raises(Busy):
                await ask(gate, f"another-{number}")
        assert issuer.fetched["introspect"] == 16
        issuer.fault = Fault.NONE
        ended = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(one, Unauthenticated | Unavailable) for one in ended)


async def test_requests_with_one_token_share_a_question(issuer: FaultyIssuer, http: httpx.AsyncClient, clock: Clock):
    async with asking(issuer, http, clock) as gate:
        token = issuer.mint_opaque("ann")
        found = await asyncio.gather(*(ask(gate, token) for _ in range(20)))
        assert {one.username for one in found} == {"ann"}
        assert issuer.fetched["introspect"] == 1


@pytest.mark.parametrize("token", ["a b", "a,b", "ä", "a\n", "a" * 20_000, "=", "a.b.c", "<script>"])
async def test_what_cannot_be_a_token_is_not_asked_for(issuer: FaultyIssuer, http, clock: Clock, token: str, caplog):
    async with asking(issuer, http, clock) as gate:
        await refusal(gate, token, caplog)
        assert issuer.fetched["introspect"] == 0
