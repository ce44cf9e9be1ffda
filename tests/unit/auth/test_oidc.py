"""OidcAuthenticator with a real issuer: accepted tokens, configuration, cache."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from flamecrest.sandbox.issuer import SigningKey
from flamecrest.server.auth.claims import ClaimRules
from flamecrest.server.auth.keys import ALGORITHMS
from flamecrest.server.auth.oidc import OidcAuthenticator
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Unauthenticated
from tests.faulty_issuer import FaultyIssuer
from tests.unit.auth.world import Clock, ask

pytestmark = pytest.mark.anyio


async def test_token_of_a_client_names_its_user(issuer: FaultyIssuer, gate: OidcAuthenticator, http: httpx.AsyncClient):
    form = {"grant_type": "client_credentials", "client_id": "robot", "client_secret": "robot-secret"}
    granted = (await http.post(issuer.token_url, data=form)).json()
    identity = await ask(gate, granted["access_token"])
    assert (identity.username, identity.client, identity.issuer) == ("ann", "robot", issuer.url)
    assert identity.subject == "sandbox:ann"
    assert identity.claims["scope"] == "openid"
    assert identity.token == granted["access_token"]
    assert granted["access_token"] not in repr(identity)


@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "PS256", "ES256", "ES384", "ES512", "EdDSA"])
async def test_each_algorithm_of_a_key(http: httpx.AsyncClient, clock: Clock, rsa_key: SigningKey, algorithm: str):
    private = rsa_key.private if algorithm[1] == "S" and algorithm[0] != "E" else None
    key = SigningKey("k", algorithm, private) if private else SigningKey.generate(algorithm, "k")
    async with (
        FaultyIssuer(keys=[key]) as issuer,
        OidcAuthenticator(
            ClaimRules(), http=http, public_certs=[issuer.jwks_url], clock=clock, monotonic=clock
        ) as gate,
    ):
        assert (await ask(gate, issuer.mint("ann"))).username == "ann"


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "bEaReR   "])
async def test_the_scheme_in_any_case(issuer: FaultyIssuer, gate: OidcAuthenticator, scheme: str):
    assert (await gate.authenticate(scheme + issuer.mint("bob") + " ", Deadline.after(30))).username == "bob"


async def test_the_user_name_of_another_claim_and_of_a_path(
    issuer: FaultyIssuer, http: httpx.AsyncClient, clock: Clock
):
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("uid", {"uid": "cat"}, "cat"),
        ("hpc.account", {"hpc": {"account": "deep"}, "hpc.account": "plain"}, "plain"),
        ("hpc.account", {"hpc": {"account": "deep"}}, "deep"),
    ]
    for claim, claims, expected in cases:
        async with OidcAuthenticator(
            ClaimRules(issuer=issuer.url, username_claim=claim), http=http, clock=clock, monotonic=clock
        ) as gate:
            assert (await ask(gate, issuer.mint("ann", **claims))).username == expected
            with pytest.raises(Unauthenticated):
                await ask(gate, issuer.mint("ann", hpc="flat"))


async def test_a_cached_token_is_not_verified_again_and_ends_on_time(
    issuer: FaultyIssuer, gate: OidcAuthenticator, clock: Clock
):
    token = issuer.mint("ann", exp=int(clock()) + 100)
    before = gate.stats()
    first = await ask(gate, token)
    assert all([await ask(gate, token) is first for _ in range(5)])
    after = gate.stats()
    assert after.verifications == before.verifications + 1
    assert after.hits == before.hits + 5
    clock.now = first.expires + 9.9
    await ask(gate, token)
    clock.now = first.expires + 10
    with pytest.raises(Unauthenticated, match=r"^Access token is expired\.$"):
        await ask(gate, token)
    assert gate.stats().cached == before.cached


async def test_a_token_must_have_life_left(issuer: FaultyIssuer, http: httpx.AsyncClient, clock: Clock):
    async with OidcAuthenticator(
        ClaimRules(issuer=issuer.url, min_token_ttl=30), http=http, clock=clock, monotonic=clock
    ) as gate:
        good = issuer.mint("ann", exp=clock() + 31)
        await ask(gate, good)
        with pytest.raises(Unauthenticated, match="expired"):
            await ask(gate, issuer.mint("ann", exp=clock() + 30))
        clock.advance(1)
        with pytest.raises(Unauthenticated, match="expired"):
            await ask(gate, good)


async def test_refused_tokens_leave_nothing_behind(issuer: FaultyIssuer, gate: OidcAuthenticator):
    before = gate.stats()
    for n in range(200):
        with pytest.raises(Unauthenticated):
            await ask(gate, issuer.mint("ann", aud=f"other-{n}"))
    assert gate.stats().cached == before.cached
    assert gate.stats().accepted == before.accepted


async def test_the_cache_is_bounded(issuer: FaultyIssuer, http: httpx.AsyncClient, clock: Clock):
    async with OidcAuthenticator(
        ClaimRules(issuer=issuer.url), http=http, cache_size=3, clock=clock, monotonic=clock
    ) as gate:
        tokens = [issuer.mint("ann") for _ in range(5)]
        for token in tokens:
            await ask(gate, token)
            await ask(gate, tokens[0])  # used repeatedly, so it is kept
        assert gate.stats().cached == 3
        assert gate.stats().verifications == 5
        await ask(gate, tokens[1])
        assert gate.stats().verifications == 6


async def test_expired_and_withdrawn_tokens_are_swept_from_memory(
    http: httpx.AsyncClient, clock: Clock, rsa_key: SigningKey
):
    async with (
        FaultyIssuer(keys=[rsa_key]) as issuer,
        OidcAuthenticator(ClaimRules(issuer=issuer.url), http=http, clock=clock, monotonic=clock) as gate,
    ):
        for n in range(10):
            await ask(gate, issuer.mint("ann", exp=clock() + 10 * n + 5))
        clock.advance(62)
        await ask(gate, issuer.mint("ann", exp=clock() + 100))
        assert gate.stats().cached == 10 - 5 + 1  # the leeway of 10 s counts
        issuer.rotate("ES256", keep=False)
        clock.advance(60)
        await ask(gate, issuer.mint("ann", exp=clock() + 100))
        assert gate.stats().cached == 1


async def test_keys_in_files(http: httpx.AsyncClient, clock: Clock, rsa_key: SigningKey, tmp_path):
    pem, jwks, jwk = tmp_path / "a key.pem", tmp_path / "keys.json", tmp_path / "key.json"
    es, ed = SigningKey.generate("ES256", "es"), SigningKey.generate("EdDSA", "ed")
    pem.write_bytes(rsa_key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    jwks.write_text(httpx.Response(200, json={"keys": [es.jwk()]}).text)
    jwk.write_text(httpx.Response(200, json=ed.jwk()).text)
    minter = FaultyIssuer(keys=[rsa_key])
    places = [pem.as_uri(), jwks.as_uri(), str(jwk)]
    async with OidcAuthenticator(ClaimRules(), http=http, public_certs=places, clock=clock, monotonic=clock) as gate:
        for key in (rsa_key, es, ed):
            assert (await ask(gate, minter.mint("ann", key=key))).username == "ann"
        assert (await ask(gate, minter.mint("ann", key=rsa_key, headers={"kid": None}))).username == "ann"


async def test_a_key_without_a_name_in_the_token(issuer: FaultyIssuer, gate: OidcAuthenticator):
    assert (await ask(gate, issuer.mint("ann", headers={"kid": None}))).username == "ann"


async def test_only_configured_algorithms(http: httpx.AsyncClient, clock: Clock, issuer: FaultyIssuer):
    async with OidcAuthenticator(
        ClaimRules(issuer=issuer.url), http=http, algorithms=["ES256", "PS256"], clock=clock, monotonic=clock
    ) as gate:
        with pytest.raises(Unauthenticated):
            await ask(gate, issuer.mint("ann"))
    assert not any(name.startswith("HS") or name == "none" for name in ALGORITHMS)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({}, "neither"),
        ({"issuer": "sso.example.org"}, "http or https"),
        ({"issuer": "file:///etc/keys"}, "http or https"),
        ({"public_certs": ["ftp://example.org/keys"]}, "http or https"),
        ({"public_certs": ["file://far.example.org/keys"]}, "http or https"),
        ({"public_certs": ["https:///keys"]}, "http or https"),
        ({"issuer": "https://sso.example.org", "algorithms": ["HS256"]}, "HS256"),
        ({"issuer": "https://sso.example.org", "algorithms": ["none"]}, "none"),
        ({"issuer": "https://sso.example.org", "jwk_algorithm": "RSA"}, "RSA"),
    ],
)
async def test_mistakes_in_the_arguments(http: httpx.AsyncClient, arguments, word: str):
    arguments = dict(arguments)
    with pytest.raises(ValueError, match=word):
        OidcAuthenticator(ClaimRules(issuer=arguments.pop("issuer", "")), http=http, **arguments)


async def test_a_header_that_names_the_edwards_curve(http: httpx.AsyncClient, clock: Clock):
    async with FaultyIssuer(keys=[SigningKey.generate("EdDSA", "ed")]) as issuer:

        def gate(*algorithms: str) -> OidcAuthenticator:
            return OidcAuthenticator(
                ClaimRules(issuer=issuer.url), http=http, algorithms=algorithms, clock=clock, monotonic=clock
            )

        named = issuer.mint("ann", headers={"alg": "Ed25519"})
        for algorithms in ((), ("EdDSA",), ("Ed25519",)):
            async with gate(*algorithms) as accepting:
                assert (await ask(accepting, named)).username == "ann"
        async with gate() as refusing:
            with pytest.raises(Unauthenticated):
                await ask(refusing, issuer.mint("ann", headers={"alg": "Ed448"}))
        async with gate("Ed25519") as strict:
            with pytest.raises(Unauthenticated):
                await ask(strict, issuer.mint("ann"))
