"""Key rotation and issuers that are down, slow or unreachable, tested through an authenticator."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from flamecrest.sandbox.issuer import SigningKey
from flamecrest.server.auth.claims import ClaimRules
from flamecrest.server.auth.oidc import OidcAuthenticator
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Unauthenticated, Unavailable
from tests.faulty_issuer import Fault, FaultyIssuer
from tests.unit.auth.world import Clock, ask

pytestmark = pytest.mark.anyio


async def test_rotation_without_an_outage(http: httpx.AsyncClient, clock: Clock, rsa_key: SigningKey):
    async with (
        FaultyIssuer(keys=[rsa_key]) as issuer,
        OidcAuthenticator(ClaimRules(issuer=issuer.url), http=http, clock=clock, monotonic=clock) as gate,
    ):
        old = issuer.mint("ann")
        await ask(gate, old)
        issuer.rotate("ES256")
        assert (await ask(gate, issuer.mint("bob"))).username == "bob"
        assert (await ask(gate, old)).username == "ann"
        assert (await ask(gate, issuer.mint("ann", key=rsa_key))).username == "ann"
        assert gate.stats().keys == 2


async def test_a_withdrawn_key_ends_its_cached_tokens(http: httpx.AsyncClient, clock: Clock, rsa_key: SigningKey):
    async with (
        FaultyIssuer(keys=[rsa_key]) as issuer,
        OidcAuthenticator(ClaimRules(issuer=issuer.url), http=http, clock=clock, monotonic=clock) as gate,
    ):
        stolen, other = issuer.mint("ann"), issuer.mint("ann")
        await ask(gate, stolen)
        await ask(gate, other)
        issuer.rotate("ES256", keep=False)
        await ask(gate, issuer.mint("bob"))  # causes a fetch of the new keys
        with pytest.raises(Unauthenticated):
            await ask(gate, stolen)
        assert gate.stats().cached == 2  # `other` is not swept yet; it is refused, too
        with pytest.raises(Unauthenticated):
            await ask(gate, other)
        assert gate.stats().cached == 1


async def test_the_first_question_whether_there_are_keys_reads_them(http: httpx.AsyncClient, rsa_key: SigningKey):
    async with (
        FaultyIssuer(keys=[rsa_key]) as issuer,
        OidcAuthenticator(ClaimRules(issuer=issuer.url), http=http) as gate,
        asyncio.timeout(20),
    ):
        answers = [gate.has_keys()]
        while not answers[-1]:
            await asyncio.sleep(0.01)
            answers.append(gate.has_keys())
        assert answers[0] is False
        assert gate.stats().fetches == 1


async def test_an_issuer_that_is_down_at_the_start(http: httpx.AsyncClient, clock: Clock, rsa_key: SigningKey):
    issuer = FaultyIssuer(keys=[rsa_key])
    await issuer.start()
    token = issuer.mint("ann")
    await issuer.stop()
    async with OidcAuthenticator(ClaimRules(issuer=issuer.url), http=http, clock=clock, monotonic=clock) as gate:
        with pytest.raises(Unavailable) as caught:
            await ask(gate, token)
        assert caught.value.retry_after == 1
        await issuer.start()
        with pytest.raises(Unavailable):
            await ask(gate, token)  # no second fetch at once
        assert issuer.fetched["discovery"] == 0
        clock.advance(1)
        assert (await ask(gate, token)).username == "ann"
    await issuer.stop()


async def test_a_dead_issuer_is_asked_ever_more_seldom(http: httpx.AsyncClient, clock: Clock, rsa_key: SigningKey):
    async with (
        FaultyIssuer(keys=[rsa_key]) as issuer,
        OidcAuthenticator(
            ClaimRules(), http=http, public_certs=[issuer.jwks_url], clock=clock, monotonic=clock
        ) as gate,
    ):
        issuer.fault = Fault.ERROR
        token = issuer.mint("ann", exp=clock() + 100_000)
        for _ in range(600):
            with pytest.raises(Unavailable):
                await ask(gate, token)
            clock.advance(1)
        assert issuer.fetched["jwks"] == 5 + 19  # after 1, 2, 4, 8, 16 s, then every 30 s
        issuer.fault = Fault.NONE
        clock.advance(30)
        assert (await ask(gate, token)).username == "ann"


async def test_a_hundred_first_requests_share_one_fetch(http: httpx.AsyncClient, clock: Clock, rsa_key: SigningKey):
    async with (
        FaultyIssuer(keys=[rsa_key]) as issuer,
        OidcAuthenticator(ClaimRules(issuer=issuer.url), http=http, clock=clock, monotonic=clock) as gate,
    ):
        issuer.fault = Fault.SLOW
        tokens = [issuer.mint(f"user{n}") for n in range(100)]
        identities = await asyncio.gather(*(ask(gate, token) for token in tokens))
        assert [identity.username for identity in identities] == [f"user{n}" for n in range(100)]
        assert (issuer.fetched["discovery"], issuer.fetched["jwks"]) == (1, 1)


async def test_waiting_for_keys_ends_at_the_deadline_and_leaves_the_fetch_to_others(
    http: httpx.AsyncClient, clock: Clock, rsa_key: SigningKey
):
    async with (
        FaultyIssuer(keys=[rsa_key]) as issuer,
        OidcAuthenticator(
            ClaimRules(), http=http, public_certs=[issuer.jwks_url], clock=clock, monotonic=clock
        ) as gate,
    ):
        issuer.fault = Fault.HANG
        patient = asyncio.create_task(ask(gate, issuer.mint("bob")))
        cancelled = asyncio.create_task(ask(gate, issuer.mint("cat")))
        await issuer.wait_fetched("jwks", 1)
        with pytest.raises(Unavailable):
            await ask(gate, issuer.mint("ann"), seconds=0.01)
        cancelled.cancel()
        await asyncio.wait({cancelled})
        assert cancelled.cancelled()
        assert not patient.done()
        issuer.fault = Fault.NONE  # the request that hung ends with 500
        with pytest.raises(Unavailable):
            await patient
        clock.advance(1)
        assert (await ask(gate, issuer.mint("ann"))).username == "ann"


async def test_leaving_ends_a_fetch_under_way(http: httpx.AsyncClient, clock: Clock, rsa_key: SigningKey):
    async with FaultyIssuer(keys=[rsa_key]) as issuer:
        issuer.fault = Fault.HANG
        async with OidcAuthenticator(
            ClaimRules(), http=http, public_certs=[issuer.jwks_url], clock=clock, monotonic=clock
        ) as gate:
            waiting = asyncio.create_task(ask(gate, issuer.mint("ann"), seconds=3600))
            await issuer.wait_fetched("jwks", 1)
        with pytest.raises(Unavailable):
            await waiting
        with pytest.raises(Unavailable):
            await ask(gate, issuer.mint("ann"))
        assert issuer.fetched["jwks"] == 1


async def test_keys_are_renewed_in_the_background(http: httpx.AsyncClient, clock: Clock, rsa_key: SigningKey):
    async with (
        FaultyIssuer(keys=[rsa_key]) as issuer,
        OidcAuthenticator(
            ClaimRules(), http=http, public_certs=[issuer.jwks_url], refresh=0.004, clock=clock, monotonic=clock
        ) as gate,
    ):
        await ask(gate, old := issuer.mint("ann"))
        issuer.rotate("ES256", keep=False)
        await issuer.wait_fetched("jwks", issuer.fetched["jwks"] + 2)  # at least one fetch is after the rotation
        with pytest.raises(Unauthenticated):
            await ask(gate, old)


async def test_a_failing_renewal_keeps_the_keys_and_the_loop(
    http: httpx.AsyncClient, clock: Clock, rsa_key: SigningKey
):
    async with (
        FaultyIssuer(keys=[rsa_key]) as issuer,
        OidcAuthenticator(
            ClaimRules(),
            http=http,
            public_certs=[issuer.jwks_url],
            refresh=0.004,
            max_key_age=1e9,
            clock=clock,
            monotonic=clock,
        ) as gate,
    ):

        async def two_more_renewals() -> None:
            count = issuer.fetched["jwks"] + 2
            while issuer.fetched["jwks"] < count:
                clock.advance(1)
                await asyncio.sleep(0.001)

        token = issuer.mint("ann", expires=1_000_000)
        await ask(gate, token)
        for fault in (Fault.ERROR, Fault.GARBAGE):
            issuer.fault = fault
            await two_more_renewals()
            assert (await ask(gate, token)).username == "ann"
        issuer.fault = Fault.NONE
        rotated = issuer.rotate("ES256", keep=False)
        await two_more_renewals()
        with pytest.raises(Unauthenticated):
            await ask(gate, token)
        assert (await ask(gate, issuer.mint("bob", key=rotated, expires=1_000_000))).username == "bob"


async def test_an_unknown_key_while_the_issuer_is_down_is_no_verdict(
    http: httpx.AsyncClient, clock: Clock, rsa_key: SigningKey
):
    async with (
        FaultyIssuer(keys=[rsa_key]) as issuer,
        OidcAuthenticator(ClaimRules(issuer=issuer.url), http=http, clock=clock, monotonic=clock) as gate,
    ):
        known = issuer.mint("ann")
        await ask(gate, known)
        issuer.rotate("ES256")
        issuer.fault = Fault.ERROR
        with pytest.raises(Unavailable):
            await ask(gate, issuer.mint("bob"))
        await ask(gate, known)
        issuer.fault = Fault.NONE
        clock.advance(2)  # the pause after a failure, not that between reads for unknown keys
        await ask(gate, issuer.mint("bob", expires=100))


async def test_one_dead_source_beside_a_living_one(http: httpx.AsyncClient, clock: Clock, rsa_key: SigningKey):
    other = FaultyIssuer(keys=[SigningKey.generate("ES256", "other")])
    await other.start()
    await other.stop()
    async with (
        FaultyIssuer(keys=[rsa_key]) as issuer,
        OidcAuthenticator(
            ClaimRules(), http=http, public_certs=[other.jwks_url, issuer.jwks_url], clock=clock, monotonic=clock
        ) as gate,
    ):
        assert (await ask(gate, issuer.mint("ann"))).username == "ann"
        with pytest.raises(Unavailable):
            await ask(gate, other.mint("bob"))
        await other.start()
        clock.advance(2)
        assert (await ask(gate, other.mint("bob"))).username == "bob"
        await other.stop()


async def test_error_names_the_source_that_failed(http: httpx.AsyncClient, clock: Clock, rsa_key: SigningKey):
    async with (
        FaultyIssuer(keys=[rsa_key]) as issuer,
        OidcAuthenticator(ClaimRules(issuer=issuer.url), http=http, clock=clock, monotonic=clock) as gate,
    ):
        issuer.fault = Fault.GARBAGE
        with pytest.raises(Unavailable) as caught:
            await ask(gate, issuer.mint("ann"))
        assert caught.value.detail == f"{issuer.url}: the discovery document is not JSON"
        issuer.fault = Fault.NONE
        clock.advance(1)
        assert (await ask(gate, issuer.mint("ann"))).username == "ann"
        assert f"{issuer.url}: 1>" in repr(gate)


async def test_an_issuer_that_publishes_no_keys_has_revoked_them(
    http: httpx.AsyncClient, clock: Clock, rsa_key: SigningKey
):
    async with (
        FaultyIssuer(keys=[rsa_key]) as issuer,
        OidcAuthenticator(
            ClaimRules(), http=http, public_certs=[issuer.jwks_url], refresh=0.004, clock=clock, monotonic=clock
        ) as gate,
    ):
        token = issuer.mint("ann")
        await ask(gate, token)
        published, issuer.keys = issuer.keys, []
        await issuer.wait_fetched("jwks", issuer.fetched["jwks"] + 2)
        for refused in (token, issuer.mint("ann", key=rsa_key)):
            with pytest.raises(Unauthenticated):
                await ask(gate, refused)
        assert gate.stats().keys == 0
        issuer.keys = published
        await issuer.wait_fetched("jwks", issuer.fetched["jwks"] + 2)
        assert (await ask(gate, token)).username == "ann"


async def test_a_token_of_an_unknown_key_is_refused_though_the_keys_are_read_again_just_then(
    http: httpx.AsyncClient, clock: Clock, rsa_key: SigningKey
):
    async with (
        FaultyIssuer(keys=[rsa_key]) as issuer,
        OidcAuthenticator(
            ClaimRules(), http=http, public_certs=[issuer.jwks_url], clock=clock, monotonic=clock
        ) as gate,
    ):

        async def read_again() -> None:
            while True:  # in each turn of the loop: before any other task learns that the last read has ended
                gate._ring._flight.start()
                await asyncio.sleep(0)

        await ask(gate, issuer.mint("ann"))
        reading = asyncio.create_task(read_again())
        with pytest.raises(Unauthenticated):
            await ask(gate, issuer.mint("bob", key=SigningKey.generate("ES256", "unknown")))
        reading.cancel()


@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.GARBAGE])
async def test_keys_that_cannot_be_read_again_have_a_greatest_age(
    http: httpx.AsyncClient, clock: Clock, rsa_key: SigningKey, fault: Fault
):
    async with (
        FaultyIssuer(keys=[rsa_key]) as issuer,
        OidcAuthenticator(
            ClaimRules(),
            http=http,
            public_certs=[issuer.jwks_url],
            refresh=0.004,
            max_key_age=3600,
            clock=clock,
            monotonic=clock,
        ) as gate,
    ):

        async def renewals(count: int) -> None:
            count += issuer.fetched["jwks"]
            while issuer.fetched["jwks"] < count:
                clock.advance(1)
                await asyncio.sleep(0.001)

        token = issuer.mint("ann", expires=1_000_000)
        await ask(gate, token)
        issuer.fault = fault
        await renewals(2)
        clock.advance(3000)
        await renewals(2)
        for known in (token, issuer.mint("ann", expires=1_000_000)):
            assert (await ask(gate, known)).username == "ann"
        clock.advance(3600)
        await renewals(2)
        for known in (token, issuer.mint("ann", expires=1_000_000)):
            with pytest.raises(Unavailable, match="keys of the token issuer"):
                await ask(gate, known)
        issuer.fault = Fault.NONE
        await renewals(2)
        assert (await ask(gate, token)).username == "ann"


async def test_a_check_reads_the_keys_and_says_what_is_wrong(
    http: httpx.AsyncClient, clock: Clock, rsa_key: SigningKey
):
    async with (
        FaultyIssuer(keys=[rsa_key]) as issuer,
        OidcAuthenticator(ClaimRules(issuer=issuer.url), http=http, clock=clock, monotonic=clock) as gate,
    ):
        await gate.check(Deadline.after(40))
        token = issuer.mint("ann")
        issuer.fault = Fault.GARBAGE
        with pytest.raises(Unavailable, match=r"The keys cannot be read: the discovery document is not JSON"):
            await gate.check(Deadline.after(40))
        fetches = gate.stats().fetches
        with pytest.raises(Unavailable, match="not JSON"):
            await gate.check(Deadline.after(40))  # in the pause after a failure nothing is read
        assert gate.stats().fetches == fetches
        assert (await ask(gate, token)).username == "ann"  # by the keys of before
        issuer.fault = Fault.NONE
        clock.advance(40)
        await gate.check(Deadline.after(40))
