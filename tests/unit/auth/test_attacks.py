"""Tokens signed with keys that the issuer has not published for this use are refused; nothing leaks."""

from __future__ import annotations

import hmac
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from flamecrest.sandbox.issuer import SigningKey
from flamecrest.server.auth.claims import ClaimRules
from flamecrest.server.auth.oidc import OidcAuthenticator
from flamecrest.server.errors import Unauthenticated
from tests.faulty_issuer import FaultyIssuer
from tests.unit.auth.world import AUDIENCE, ask, b64, forge, refusal

if TYPE_CHECKING:
    import httpx

    from tests.unit.auth.world import Clock

pytestmark = pytest.mark.anyio


def pem(key: SigningKey) -> Any:
    return key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", ""])
@pytest.mark.parametrize("signature", [b"", b"x", b"\0" * 256])
async def test_no_algorithm(issuer: FaultyIssuer, gate: OidcAuthenticator, caplog, alg: str, signature: bytes):
    for kid in ({"kid": "rsa-1"}, {}):
        token = forge({"alg": alg, **kid}, issuer.claims("ann"), signature)
        await refusal(gate, token, caplog)


async def test_the_public_key_as_a_shared_secret(
    issuer: FaultyIssuer, gate: OidcAuthenticator, rsa_key: SigningKey, caplog
):
    secrets = [pem(rsa_key), pem(rsa_key).strip(), json.dumps(rsa_key.jwk()).encode(), rsa_key.jwk()["n"].encode()]
    secrets += [
        rsa_key.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        b"",
    ]
    for secret in secrets:
        for bits in (256, 384, 512):
            header = {"alg": f"HS{bits}", "kid": "rsa-1", "typ": "JWT"}
            token = forge(header, issuer.claims("ann"), partial(hmac.digest, secret, digest=f"sha{bits}"))
            await refusal(gate, token, caplog)


async def test_a_shared_secret_that_the_issuer_publishes(http: httpx.AsyncClient, clock: Clock, rsa_key, tmp_path):
    keys = tmp_path / "keys.json"
    secret = b"s" * 32
    keys.write_text(json.dumps({"keys": [{"kty": "oct", "kid": "s", "k": b64(secret)}, rsa_key.jwk()]}))
    claims = FaultyIssuer(keys=[rsa_key]).claims("ann")
    async with OidcAuthenticator(
        ClaimRules(), http=http, public_certs=[str(keys)], clock=clock, monotonic=clock
    ) as gate:
        token = forge({"alg": "HS256", "kid": "s"}, claims, partial(hmac.digest, secret, digest="sha256"))
        with pytest.raises(Unauthenticated):
            await ask(gate, token)
        assert gate.stats().keys <= 1


async def test_another_key_under_a_known_name(issuer: FaultyIssuer, gate: OidcAuthenticator, caplog):
    for algorithm in ("RS256", "PS256", "ES256", "EdDSA"):
        impostor = SigningKey.generate(algorithm, "rsa-1")
        await refusal(gate, issuer.mint("ann", key=impostor), caplog)
        await refusal(gate, issuer.mint("ann", key=impostor, headers={"alg": "RS256"}), caplog)


async def test_a_key_is_good_for_its_own_algorithm_only(
    issuer: FaultyIssuer, gate: OidcAuthenticator, rsa_key: SigningKey, caplog
):
    for algorithm in ("RS384", "RS512", "PS256", "PS512"):
        other = SigningKey("rsa-1", algorithm, rsa_key.private)
        await refusal(gate, issuer.mint("ann", key=other), caplog)
        await refusal(gate, issuer.mint("ann", key=other, headers={"alg": "RS256"}), caplog)
    await refusal(gate, issuer.mint("ann", headers={"alg": "ES256"}), caplog)


async def test_keys_that_the_token_brings_along(issuer: FaultyIssuer, gate: OidcAuthenticator, caplog):
    mine = SigningKey.generate("ES256", "mine")
    async with FaultyIssuer(keys=[mine]) as evil:
        for kid in ("mine", "rsa-1", None):
            for header in (
                {"jku": evil.jwks_url},
                {"x5u": f"{evil.url}/cert.pem"},
                {"jwk": mine.jwk()},
                {"x5c": [b64(pem(mine))]},
                {"jku": evil.jwks_url, "jwk": mine.jwk(), "iss": evil.url},
            ):
                await refusal(gate, issuer.mint("ann", key=mine, headers={**header, "kid": kid}), caplog)
        assert evil.fetched.total() == 0


async def test_the_same_headers_do_no_harm_to_an_honest_token(issuer: FaultyIssuer, gate: OidcAuthenticator):
    async with FaultyIssuer(keys=[SigningKey.generate("ES256")]) as evil:
        token = issuer.mint("ann", headers={"jku": evil.jwks_url, "x5u": evil.url, "jwk": evil.keys[0].jwk()})
        assert (await ask(gate, token)).username == "ann"
        assert evil.fetched.total() == 0


@pytest.mark.parametrize(
    "kid",
    [
        "../../../../dev/null",
        "/etc/passwd",
        "file:///etc/passwd",
        "http://127.0.0.1:1/keys",
        "rsa-1' OR '1'='1",
        "rsa-1\0",
        "RSA-1",
        " rsa-1",
        "x" * 256,
        "x" * 257,
        "x" * 10_000,
        "\N{CYRILLIC SMALL LETTER ER}sa-1",
        "\ud800",
        7,
        ["rsa-1"],
        {"rsa-1": 1},
        True,
    ],
)
async def test_paths_and_worse_as_a_key_name(issuer: FaultyIssuer, gate: OidcAuthenticator, caplog, kid: Any):
    await refusal(gate, issuer.mint("ann", headers={"kid": kid}), caplog)


@pytest.mark.parametrize(
    "headers",
    [
        {"crit": ["exp"], "exp": 1},
        {"crit": []},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"b64": True},
        {"alg": None},
        {"alg": 5},
        {"alg": ["RS256"]},
        {"alg": "rs256"},
        {"alg": "RS256\0"},
        {"typ": "id+jwt"},
        {"typ": "logout+jwt"},
        {"typ": "secevent+jwt"},
        {"typ": "dpop+jwt"},
        {"typ": 1},
    ],
)
async def test_headers_of_another_kind(issuer: FaultyIssuer, gate: OidcAuthenticator, caplog, headers):
    await refusal(gate, issuer.mint("ann", headers=headers), caplog)


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "application/at+jwt", "AT+JWT", None])
async def test_headers_of_the_right_kind(issuer: FaultyIssuer, gate: OidcAuthenticator, typ):
    await ask(gate, issuer.mint("ann", headers={"typ": typ}))


async def test_a_flood_of_bad_tokens_asks_the_issuer_once_a_minute(
    http: httpx.AsyncClient, clock: Clock, rsa_key: SigningKey
):
    stranger = SigningKey.generate("EdDSA")
    async with (
        FaultyIssuer(keys=[rsa_key], audience=AUDIENCE) as issuer,
        OidcAuthenticator(
            ClaimRules(issuer=issuer.url, audience=frozenset({AUDIENCE})), http=http, clock=clock, monotonic=clock
        ) as gate,
    ):
        await ask(gate, issuer.mint("ann"))
        for minute in range(3):
            for n in range(100):
                token = issuer.mint("ann", key=stranger, headers={"kid": f"{minute}-{n}"}, expires=10_000)
                with pytest.raises(Unauthenticated):
                    await ask(gate, token)
                clock.advance(0.5)
            assert issuer.fetched["jwks"] == minute + 2
            clock.advance(10)
        hopeless = issuer.mint("ann", key=stranger, headers={"kid": "new"}, expires=10_000, aud="another")
        for token in (hopeless, issuer.mint("ann", key=stranger, expires=-100)):
            clock.advance(60)
            with pytest.raises(Unauthenticated):
                await ask(gate, token)
        assert issuer.fetched["jwks"] == 4  # tokens that would be refused anyway cause no fetch
        assert len(repr(gate)) < 400


async def test_messages_name_the_reason_without_the_text(issuer: FaultyIssuer, gate: OidcAuthenticator, caplog):
    evil = "evil\nINFO forged line \x1b[31m" + "A" * 200
    for token in (
        issuer.mint("ann", iss=evil),
        issuer.mint(evil),
        issuer.mint("ann", headers={"kid": evil[:100]}),
        issuer.mint("ann", headers={"typ": evil[:100]}),
        issuer.mint("ann", headers={"alg": evil}),
        issuer.mint("ann", typ=evil),
        issuer.mint("ann", token_use=evil),
    ):
        detail = (await refusal(gate, token, caplog)).detail or ""
        assert "evil?INFO?forged" in detail or "evil?info?forged" in detail
        assert detail.isprintable()
        assert "A" * 65 not in detail
