"""Malformed and recombined tokens are refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from jwt import get_algorithm_by_name

from flamecrest.sandbox.issuer import SigningKey
from flamecrest.server.auth.claims import ClaimRules
from flamecrest.server.auth.oidc import OidcAuthenticator, read_authorization
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError, Unauthenticated
from flamecrest.server.telemetry.redact import redact
from tests.faulty_issuer import FaultyIssuer
from tests.unit.auth.world import ask, b64, everything_said, forge, leaked, refusal

if TYPE_CHECKING:
    import httpx

    from tests.unit.auth.world import Clock

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Basic YW5uOnNlY3JldA==", "token", " Bearer x"]
)
async def test_no_token_at_all(gate: OidcAuthenticator, authorization: str | None):
    with pytest.raises(Unauthenticated, match=r"^Not authenticated$"):
        await gate.authenticate(authorization, Deadline.after(30))


@pytest.mark.parametrize("authorization", ["", "Bearer", "Basic YW5uOnNlY3JldA==", "DPoP ", f"Bearer {'x' * 20_000}"])
def test_the_log_says_why_a_header_was_refused(authorization: str):
    with pytest.raises(Unauthenticated) as refused:
        read_authorization(authorization)
    assert refused.value.detail
    assert redact(refused.value.detail) == refused.value.detail, "no word of it looks like a token"


async def test_headers_that_are_not_one_token(issuer: FaultyIssuer, gate: OidcAuthenticator):
    token = issuer.mint("ann")
    for header in (
        f"Bearer {token} {token}",
        f"Bearer {token},{token}",
        f"Bearer {token}, Bearer {token}",
        f"Bearer Bearer {token}",
        f"Bearer\t{token}",
        f"Bearer {token}\t",
        f"Bearer {token}\n",
        f"Bearer {token}\r\nX: y",
        f'Bearer "{token}"',
        f"Bearer {token}=",
        f"Bearer {token}\0",
        f"Bearer {token.replace('.', '..')}",
        f"Bearer .{token}",
        f"Bearer {token}.",
        f"Bearer {token}.{token}",
        f"Bearer {token.rpartition('.')[0]}",
        f"Bearer {token.rpartition('.')[0]}.",
        "Bearer " + token.replace("e", "\xe9"),
        "Bearer " + "\N{FULLWIDTH LATIN SMALL LETTER E}" + token[1:],
        "Bearer a.b.c.d.e",
    ):
        with pytest.raises(Unauthenticated):
            await gate.authenticate(header, Deadline.after(30))


async def test_tokens_of_a_megabyte(issuer: FaultyIssuer, gate: OidcAuthenticator, caplog):
    before = gate.stats().verifications
    for token in (
        issuer.mint("ann", padding="x" * 1_000_000),
        issuer.mint("ann", padding="x" * 13_000),
        "x" * 1_000_000,
        "." * 1_000_000,
        "e30." * 250_000,
    ):
        await refusal(gate, token, caplog)
    assert gate.stats().verifications == before
    await ask(gate, issuer.mint("ann", padding="x" * 10_000))


async def test_json_bombs_and_ambiguous_json(
    issuer: FaultyIssuer, gate: OidcAuthenticator, rsa_key: SigningKey, caplog
):
    """Signed with the issuer's key, so that only the parser can refuse them."""

    algorithm = get_algorithm_by_name("RS256")
    header = b64({"alg": "RS256", "kid": "rsa-1"})
    good = json.dumps(issuer.claims("ann"))
    for payload in (
        b"[" * 11_000,
        b'{"a":' * 2_000,
        b"[]",
        b"null",
        b'"ann"',
        b"{}",
        b"",
        b"\xff\xfe",
        good.encode("utf-16"),
        b"\xef\xbb\xbf" + good.encode(),
        good[:-1].encode() + b',"preferred_username":"bob"}',
        good[:-1].encode() + b',"n":NaN}',
        good[:-1].encode() + b',"n":' + b"9" * 5_000 + b"}",
        good.encode() + b"{}",
    ):
        text = f"{header}.{b64(payload)}"
        signature = algorithm.sign(text.encode(), rsa_key.private)
        await refusal(gate, f"{text}.{b64(signature)}", caplog)
    for bad_header in (b"[]", b"{", b"{" * 5_000, b'{"alg":"RS256","alg":"none"}', b'{"alg":"RS256","kid":"rsa-1",}'):
        text = f"{b64(bad_header)}.{b64(good.encode())}"
        signature = algorithm.sign(text.encode(), rsa_key.private)
        await refusal(gate, f"{text}.{b64(signature)}", caplog)


async def test_signatures_of_any_length(
    issuer: FaultyIssuer, http: httpx.AsyncClient, clock: Clock, rsa_key: SigningKey
):
    keys = [
        rsa_key,
        SigningKey.generate("ES256", "es"),
        SigningKey.generate("ES512", "es5"),
        SigningKey.generate("EdDSA", "ed"),
    ]
    async with (
        FaultyIssuer(keys=keys) as busy,
        OidcAuthenticator(ClaimRules(issuer=busy.url), http=http, clock=clock, monotonic=clock) as gate,
    ):
        for key in keys:
            for signature in (b"\0", b"\xff" * 63, b"\0" * 64, b"\xff" * 64, b"\0" * 132, b"\xff" * 256, b"\1" * 4000):
                token = forge({"alg": key.algorithm, "kid": key.kid}, busy.claims("ann"), signature)
                with pytest.raises(Unauthenticated):
                    await ask(gate, token)


def mutated(token: str, position: int, kind: str, piece: str) -> str:
    at = position % len(token)
    if kind == "replace":
        return token[:at] + piece + token[at + len(piece) :]
    if kind == "insert":
        return token[:at] + piece + token[at:]
    if kind == "delete":
        return token[:at] + token[at + max(1, len(piece)) :]
    if kind == "double":
        return token[:at] + token[at : at + 20] + token[at:]
    parts = token.split(".")
    parts[at % 3], parts[(at + 1) % 3] = parts[(at + 1) % 3], parts[at % 3]
    return ".".join(parts)


_PIECES = st.text(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \0\n\xe9", min_size=1, max_size=4
)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    position=st.integers(0, 2000) | st.integers(-100, -1),
    kind=st.sampled_from(["replace", "insert", "delete", "double", "swap"]),
    piece=_PIECES,
)
@example(position=-1, kind="replace", piece="B")
@example(position=-1, kind="insert", piece="=")
async def test_no_mutation_of_a_good_token_is_accepted(
    issuer: FaultyIssuer,
    mixed: tuple[OidcAuthenticator, list[SigningKey]],
    algorithm: str,
    position: int,
    kind: str,
    piece: str,
):
    gate, keys = mixed
    token = issuer.mint("ann", key=next(key for key in keys if key.algorithm == algorithm))
    bad = mutated(token, position, kind, piece)
    assume(bad.strip(" ") != token)
    with pytest.raises(Unauthenticated) as caught:
        await ask(gate, bad)
    assert len(everything_said(caught.value)) < 2000
    assert leaked(bad, everything_said(caught.value)) == ""


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_every_other_last_character_of_a_signature(
    issuer: FaultyIssuer, mixed: tuple[OidcAuthenticator, list[SigningKey]], algorithm: str
):
    """The last character has unused bits: several texts would decode to the same signature."""
    gate, keys = mixed
    token = issuer.mint("ann", key=next(key for key in keys if key.algorithm == algorithm))
    await ask(gate, token)
    for character in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
        if character != token[-1]:
            with pytest.raises(Unauthenticated):
                await ask(gate, token[:-1] + character)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(header=st.none() | st.text() | st.text().map("Bearer ".__add__) | st.text("eyJ.-_A\0 ").map("Bearer ".__add__))
async def test_no_header_whatsoever_is_more_than_refused(
    mixed: tuple[OidcAuthenticator, list[SigningKey]], header: str | None
):
    with pytest.raises(GatewayError) as caught:
        await mixed[0].authenticate(header, Deadline.after(30))
    assert isinstance(caught.value, Unauthenticated)


@pytest.fixture(scope="module")
async def mixed(
    anyio_backend: str, issuer: FaultyIssuer, http: httpx.AsyncClient, rsa_key: SigningKey, tmp_path_factory
):
    """An authenticator with one key of each type, and the keys."""
    keys = [rsa_key, SigningKey.generate("ES256", "es-1"), SigningKey.generate("EdDSA", "ed-1")]
    place = tmp_path_factory.mktemp("keys") / "keys.json"
    place.write_text(json.dumps({"keys": [key.jwk() for key in keys]}))
    async with OidcAuthenticator(ClaimRules(issuer=issuer.url), http=http, public_certs=[str(place)]) as gate:
        yield gate, keys
