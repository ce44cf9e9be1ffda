"""Keys from a service: both protocols, one request for many logins, renewal, refusals, and a service that is down."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from aiohttp import web

from flamecrest.server.auth.port import Identity
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError, Timeout
from flamecrest.server.ssh.credentials import issued
from flamecrest.server.ssh.credentials.issued import IssuedCredentials
from flamecrest.server.ssh.credentials.key_services import ServiceDown, SshCa, SshService
from flamecrest.server.ssh.errors import CredentialsFailed, CredentialsRefused, CredentialsUnavailable
from flamecrest.server.ssh.pool.users import replacement_due
from tests.key_service import KeyService, key_service

from .test_authority import facts, log_in, pool_of

pytestmark = pytest.mark.anyio

ANN, BOB = Identity("ann", token="token-of-ann"), Identity("bob", token="token-of-bob")
BOTH = pytest.mark.parametrize("protocol", ["SSHService", "SSHCA"])


@pytest.fixture
async def service() -> AsyncIterator[KeyService]:
    async with key_service() as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(verify=False) as client:
        yield client


def client(service: KeyService, http: httpx.AsyncClient, protocol: str = "SSHService", seconds: float = 20.0):
    if protocol == "SSHService":
        return SshService(http, f"{service.url}/", timeout=seconds)
    return SshCa(http, f"{service.url}/ca", timeout=seconds, resource="hpc")


def soon() -> Deadline:
    return Deadline.after(20)


async def fails(credentials: IssuedCredentials, who: Identity = ANN) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await credentials.obtain(who, soon(), 60)
    return caught.value


@BOTH
async def test_users_log_in_with_what_is_issued(world, service, http, protocol):
    world.server.keys.clear()
    world.server.authorities.add(service.authority.public_data)
    async with (
        IssuedCredentials(client(service, http, protocol)) as credentials,
        pool_of(world, credentials) as pool,
    ):
        assert [await log_in(pool, ANN), await log_in(pool, BOB)] == ["ann", "bob"]
        certificate = facts(pool.all_connections()[0])
    assert (certificate.serial, certificate.key_id) == (1, "key of ann")
    sent = service.bodies[0]
    if protocol == "SSHService":
        assert sent == {"duration": "1min", "username": "ann"}
    else:
        assert (sent["OTT"], sent["Resource"], sent["PublicKey"][:12]) == ("token-of-ann", "hpc", "ssh-ed25519 ")


@BOTH
async def test_logins_at_the_same_time_ask_once(service, http, protocol):
    async with IssuedCredentials(client(service, http, protocol)) as credentials:
        service.gate.clear()
        logins = [asyncio.create_task(credentials.obtain(who, soon(), 60)) for who in (ANN, BOB) * 10]
        async with asyncio.timeout(20):
            while service.requests.total() < 2:
                await asyncio.sleep(0.01)
        service.gate.set()
        found = await asyncio.gather(*logins)
        assert len({id(one) for one in found}) == 2
        await credentials.obtain(ANN, soon(), 60)
        assert service.requests == {"token-of-ann": 1, "token-of-bob": 1}


async def test_a_login_gets_no_credential_that_is_too_old(service, http):
    async with IssuedCredentials(client(service, http)) as credentials:
        first = await credentials.obtain(ANN, soon(), 60)
        assert await credentials.obtain(ANN, soon(), 60) is first
        assert await credentials.obtain(ANN, soon(), 0) is not first


async def test_a_certificate_is_renewed_while_it_is_used(service, http):
    async with IssuedCredentials(client(service, http)) as credentials:
        first = await credentials.obtain(ANN, soon(), 60)
        held = credentials._held["ann"]
        held.lasts = 1000.0
        held.credential = first = replace(first, obtained=time.monotonic() - 200)
        assert await credentials.obtain(ANN, soon(), 600) is first  # 200 s old, of 1000 s
        assert service.requests["token-of-ann"] == 1
        held.lasts = 390.0  # more than half is over
        service.gate.clear()
        assert await credentials.obtain(ANN, soon(), 600) is first  # at once, while the service is asked
        service.gate.set()
        async with asyncio.timeout(20):
            while credentials._held["ann"].credential is first:
                await asyncio.sleep(0.01)
        assert service.requests["token-of-ann"] == 2


async def test_a_service_that_is_down_costs_nobody_a_valid_certificate(service, http):
    async with IssuedCredentials(client(service, http)) as credentials:
        first = await credentials.obtain(ANN, soon(), 60)
        await service.stop()
        held = credentials._held["ann"]
        held.credential = first = replace(first, obtained=time.monotonic() - 40)
        held.lasts = 79.0
        for _ in range(5):
            assert await credentials.obtain(ANN, soon(), 60) is first
            await asyncio.sleep(0)
        error = await fails(credentials, BOB)
        assert isinstance(error, ServiceDown)
        assert error.retry_after is not None
        await service.start()
        async with asyncio.timeout(20):
            while isinstance(await try_obtain(credentials, BOB), ServiceDown):
                await asyncio.sleep(0.1)
        assert facts(await credentials.obtain(BOB, soon(), 60)).principals == ("bob",)


async def try_obtain(credentials: IssuedCredentials, who: Identity) -> object:
    try:
        return await credentials.obtain(who, soon(), 60)
    except GatewayError as error:
        return error


async def test_silence_is_shared_and_a_refusal_is_not(service, http):
    async with IssuedCredentials(client(service, http)) as credentials:
        refused = [await fails(credentials, Identity("ann", token="wrong")) for _ in range(10)]
        assert {type(error) for error in refused} == {CredentialsRefused}
        assert service.requests["wrong"] == 1
        assert 0 < (refused[-1].retry_after or 0) <= issued.REFUSED_PAUSE
        assert "wrong" not in str(refused[0].detail)  # the service has said it
        assert facts(await credentials.obtain(ANN, soon(), 60)).principals == ("ann",)  # a better token
    service.gate.clear()
    async with IssuedCredentials(client(service, http, seconds=0.2)) as credentials:
        silent = [await fails(credentials, Identity("cyd", token="cyd"))]
        assert credentials._down is not None
        credentials._down = (time.monotonic() + 60, credentials._down[1])  # not over before the next lines
        silent += [await fails(credentials, Identity(name, token=name)) for name in ("bob", "dan")]
        assert {type(error) for error in silent} == {ServiceDown}
        assert service.requests["bob"] == service.requests["dan"] == 0


async def test_a_second_token_of_a_user_is_tried_when_the_first_is_refused(service, http):
    async with IssuedCredentials(client(service, http)) as credentials:
        service.gate.clear()
        bad = asyncio.create_task(try_obtain(credentials, Identity("ann", token="wrong")))
        async with asyncio.timeout(20):
            while not service.requests["wrong"]:
                await asyncio.sleep(0.01)
        good = asyncio.create_task(credentials.obtain(ANN, soon(), 60))
        await asyncio.sleep(0)
        service.gate.set()
        assert isinstance(await bad, CredentialsRefused)
        assert facts(await good).key_id == "key of ann"


async def test_a_user_whom_the_service_refuses_loses_what_is_kept(service, http):
    async with IssuedCredentials(client(service, http)) as credentials:
        await credentials.obtain(ANN, soon(), 60)
        del service.users["token-of-ann"]
        assert isinstance(await try_obtain_old(credentials), CredentialsRefused)
        assert isinstance(await fails(credentials), CredentialsRefused)


async def try_obtain_old(credentials: IssuedCredentials) -> object:
    try:
        return await credentials.obtain(ANN, soon(), 0)
    except GatewayError as error:
        return error


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (403, "no", CredentialsRefused),
        (429, "slow down", CredentialsUnavailable),
        (500, "oh", CredentialsUnavailable),
        (400, "what", CredentialsFailed),
        (302, "there", CredentialsFailed),
        (200, "", CredentialsFailed),
        (200, "[]", CredentialsFailed),
        (200, '{"sshKey": null}', CredentialsFailed),
        (200, '{"sshKey": {"privateKey": 1, "publicKey": "x"}}', CredentialsFailed),
        (200, '{"sshKey": {"privateKey": "x", "publicKey": "x"}}', CredentialsFailed),
        (200, "x" * 100_000, CredentialsFailed),
        (200, "ssh-ed25519-cert-v01@openssh.com AAAA", CredentialsFailed),
    ],
)
@BOTH
async def test_answers_that_are_no_key(service, http, protocol, status, text, kind):
    async with IssuedCredentials(client(service, http, protocol)) as credentials:
        service.answer = web.Response(status=status, text=text)
        error = await fails(credentials)
        assert type(error) is kind
        assert "token-of-ann" not in f"{error.public} {error.detail}"
        service.answer = None
        if kind is not CredentialsRefused:  # which is remembered for its token
            assert (await credentials.obtain(ANN, soon(), 60)).keys


@BOTH
async def test_a_certificate_that_has_ended_is_not_tried_on_a_cluster(service, http, protocol):
    service.lasts = -10
    async with IssuedCredentials(client(service, http, protocol)) as credentials:
        assert "do the clocks differ" in (await fails(credentials)).public


async def test_a_caller_who_gives_up_does_not_end_the_request_of_others(service, http):
    async with IssuedCredentials(client(service, http)) as credentials:
        service.gate.clear()
        with pytest.raises(Timeout):
            await credentials.obtain(ANN, Deadline.after(0.05), 60)
        other = asyncio.create_task(credentials.obtain(ANN, soon(), 60))
        await asyncio.sleep(0)
        service.gate.set()
        assert facts(await other).serial == 1


async def test_without_a_token_nothing_is_sent(service, http):
    async with IssuedCredentials(client(service, http)) as credentials:
        assert isinstance(await fails(credentials, Identity("ann")), CredentialsRefused)
    assert not service.requests


async def test_a_disabled_account_loses_its_connection_at_its_age(world, service, http):
    """The age counts from the issue of the key, which may be older than the connection."""
    world.server.keys.clear()
    world.server.authorities.add(service.authority.public_data)
    async with (
        IssuedCredentials(client(service, http)) as credentials,
        pool_of(world, credentials, age=1200.0) as pool,
    ):
        issued_at = (await credentials.obtain(ANN, soon(), 60)).obtained
        assert await log_in(pool, ANN) == "ann"
        (first,) = pool.all_connections()
        assert first.ends == issued_at + 1200.0 < first.opened + 1200.0
        service.users.clear()
        first.ends -= 1200
        credentials._held.clear()
        with pytest.raises(CredentialsRefused):
            await log_in(pool, ANN)


async def test_a_connection_is_replaced_before_its_end(world, service, http):
    """So an outage of the service that is over by then costs no request."""
    world.server.keys.clear()
    world.server.authorities.add(service.authority.public_data)
    async with (
        IssuedCredentials(client(service, http)) as credentials,
        pool_of(world, credentials, age=1200.0, idle=60.0) as pool,
    ):
        assert await log_in(pool, ANN) == "ann"
        (first,), user = pool.all_connections(), pool._users["ann"]
        assert not replacement_due(user, time.monotonic(), pool.limits)
        credentials._held.clear()
        await service.stop()
        first.opened -= 1000  # a sixth of its time is left
        async with asyncio.timeout(30):
            while not user.failures:
                await asyncio.sleep(0.01)
        assert await log_in(pool, ANN) == "ann"  # by the first one
        await service.start()
        async with asyncio.timeout(30):
            while first in pool.all_connections():
                await asyncio.sleep(0.01)
        assert await log_in(pool, ANN) == "ann"
        assert pool.counters.opened == 2


async def test_a_connection_of_a_user_who_is_gone_is_not_replaced(world):
    async with pool_of(world, world.credentials(), age=1200.0, idle=60.0, tick=3600.0) as pool:
        assert await log_in(pool, ANN) == "ann"
        (first,), user = pool.all_connections(), pool._users["ann"]
        async with asyncio.timeout(30):
            while first.busy:
                await asyncio.sleep(0.01)
        now = time.monotonic()
        first.opened -= 1000
        assert replacement_due(user, now, pool.limits)
        assert not replacement_due(user, now, replace(pool.limits, per_user=1))
        first._idle_since -= 31
        assert not replacement_due(user, now, pool.limits)


async def test_secrets_are_not_logged(service, http, caplog):
    caplog.set_level(logging.DEBUG, logger="flamecrest")
    async with IssuedCredentials(client(service, http)) as credentials:
        credential = await credentials.obtain(ANN, soon(), 60)
        await fails(credentials, Identity("bob", token="secret-of-somebody"))
        assert "secret-of-somebody" not in caplog.text + repr(credentials.__dict__) + repr(credential)
        assert "PRIVATE" not in repr(credentials._held)
