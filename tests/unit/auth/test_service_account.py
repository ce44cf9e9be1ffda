"""ClientCredentials with a real token endpoint and with faulty ones."""

from __future__ import annotations

import asyncio
import json
import logging

import httpx
import pytest

from flamecrest.sandbox.issuer import SigningKey
from flamecrest.server.auth.claims import ClaimRules
from flamecrest.server.auth.oidc import OidcAuthenticator
from flamecrest.server.auth.service_account import ClientCredentials
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Unavailable
from tests.faulty_issuer import Fault, FaultyIssuer
from tests.unit.auth.world import Clock, answering, ask, everything_said, http_answer

pytestmark = pytest.mark.anyio

SECRET = "s3cret/with+odd &=%:\N{EURO SIGN} characters"


@pytest.fixture
async def own(rsa_key: SigningKey):
    async with FaultyIssuer({"probe:1": (SECRET, "probe")}, keys=[rsa_key]) as issuer:
        yield issuer


@pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic"])
async def test_a_token_is_had_by_both_methods_and_accepted(
    own: FaultyIssuer, http: httpx.AsyncClient, method, clock: Clock
):
    async with (
        ClientCredentials(own.token_url, "probe:1", SECRET, http=http, auth_method=method, scope="status") as account,
        OidcAuthenticator(ClaimRules(issuer=own.url), http=http, clock=clock, monotonic=clock) as gate,
    ):
        identity = await ask(gate, await account.token(Deadline.after(60)))
        assert (identity.username, identity.client, identity.claims["scope"]) == ("probe", "probe:1", "status")
        assert SECRET not in repr(account)


async def test_a_token_is_kept_until_shortly_before_its_end(own: FaultyIssuer, http: httpx.AsyncClient, clock: Clock):
    async with ClientCredentials(own.token_url, "probe:1", SECRET, http=http, monotonic=clock) as account:
        first = await account.token(Deadline.after(60))
        clock.advance(269.9)
        assert await account.token(Deadline.after(60)) == first
        clock.advance(0.1)
        own.ttl = 8
        second = await account.token(Deadline.after(60))
        assert second != first
        clock.advance(5.9)
        assert await account.token(Deadline.after(60)) == second
        clock.advance(0.1)
        assert await account.token(Deadline.after(60)) != second
        assert own.fetched["token"] == 3


async def test_many_share_one_exchange(own: FaultyIssuer, http: httpx.AsyncClient):
    own.fault = Fault.SLOW
    async with ClientCredentials(own.token_url, "probe:1", SECRET, http=http) as account:
        tokens = await asyncio.gather(*(account.token(Deadline.after(60)) for _ in range(20)))
        assert len(set(tokens)) == 1
        assert own.fetched["token"] == 1


async def test_a_wrong_secret_is_told_without_it_and_not_tried_at_once(
    own: FaultyIssuer, http: httpx.AsyncClient, clock: Clock, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    async with ClientCredentials(own.token_url, "probe:1", "wrong-secret", http=http, monotonic=clock) as account:
        for _ in range(3):
            with pytest.raises(Unavailable) as caught:
                await account.token(Deadline.after(60))
            assert caught.value.detail == "status 401, error 'invalid_client'"
            said = everything_said(caught.value) + caplog.text + repr(account)
            assert "wrong-secret" not in said
        assert own.fetched["token"] == 1
        own.clients["probe:1"] = ("wrong-secret", "probe")
        clock.advance(5)
        assert await account.token(Deadline.after(60))


async def test_an_endpoint_that_is_away_and_comes_back(own: FaultyIssuer, http: httpx.AsyncClient, clock: Clock):
    async with ClientCredentials(own.token_url, "probe:1", SECRET, http=http, monotonic=clock) as account:
        await own.stop()
        with pytest.raises(Unavailable) as caught:
            await account.token(Deadline.after(60))
        assert caught.value.detail == "ConnectError"
        assert SECRET not in everything_said(caught.value)
        assert caught.value.retry_after == 5
        await own.start()
        clock.advance(5)
        assert await account.token(Deadline.after(60))


async def test_an_endpoint_that_hangs(own: FaultyIssuer, http: httpx.AsyncClient):
    own.fault = Fault.HANG
    async with ClientCredentials(own.token_url, "probe:1", SECRET, http=http) as account:
        with pytest.raises(Unavailable, match="no token"):
            await account.token(Deadline.after(0.01))
        waiting = asyncio.create_task(account.token(Deadline.after(60)))
        await own.wait_fetched("token", 1)
    with pytest.raises(Unavailable):
        await waiting


def granted(**changes: object) -> bytes:
    answer = {"access_token": "abc.def", "token_type": "bearer", "expires_in": 100} | changes
    return http_answer(json.dumps({name: value for name, value in answer.items() if value is not ...}))


@pytest.mark.parametrize(
    ("life", "kept"), [(100, 75), ("100", 75), (4000, 3970), (..., 45), ("soon", 45), (None, 45), (-5, 45), (1e400, 45)]
)
async def test_the_life_that_is_told(http: httpx.AsyncClient, clock: Clock, life: object, kept: int):
    async with (
        answering(granted(expires_in=life)) as (url, received),
        ClientCredentials(url, "probe", "word", http=http, monotonic=clock) as account,
    ):
        assert await account.token(Deadline.after(60)) == "abc.def"
        clock.advance(kept - 0.1)
        await account.token(Deadline.after(60))
        assert len(received) == 1
        clock.advance(0.1)
        await account.token(Deadline.after(60))
        assert len(received) == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (http_answer("<html>"), "not a JSON object"),
        (http_answer("[]"), "not a JSON object"),
        (http_answer("\ufeff{}"), "not a JSON object"),
        (http_answer("[" * 50_000), "not a JSON object"),
        (http_answer("{}"), "no valid `access_token`"),
        (http_answer("x" * 100_000), "too large"),
        (http_answer("{}", "302 Found", "Location: http://127.0.0.1:1/"), "status 302"),
        (http_answer('{"error": "evil\\nline"}', "400 Bad Request"), "'evil?line'"),
        (http_answer('{"error": 7}', "500 Oops"), "status 500"),
        (granted(access_token=""), "no valid `access_token`"),
        (granted(access_token=7), "no valid `access_token`"),
        (granted(access_token="a\r\nX-Evil: 1"), "no valid `access_token`"),
        (granted(access_token="a" * 20_000), "no valid `access_token`"),
        (granted(token_type="mac"), "'mac'"),
        (granted(token_type=...), "NoneType"),
        (b"", "RemoteProtocolError"),
    ],
)
async def test_answers_that_are_no_token(
    http: httpx.AsyncClient, clock: Clock, answer: bytes, reason: str, caplog: pytest.LogCaptureFixture
):
    async with (
        answering(answer) as (url, received),
        ClientCredentials(url, "probe", "word-of-passage", http=http, monotonic=clock) as account,
    ):
        with pytest.raises(Unavailable) as caught:
            await account.token(Deadline.after(60))
        assert reason in (caught.value.detail or "")
        assert b"word-of-passage" in received[0]
        assert "word-of-passage" not in everything_said(caught.value) + caplog.text
