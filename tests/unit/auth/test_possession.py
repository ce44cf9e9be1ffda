"""Tokens that are bound to a key of their sender: DPoP proofs and TLS client certificates."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from flamecrest.sandbox.issuer import SigningKey
from flamecrest.server.auth.port import Confirmation, RequestProof
from flamecrest.server.auth.possession import Possession
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Unauthenticated
from tests.unit.auth.world import Clock, b64, forge, refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flamecrest.server.auth.oidc import OidcAuthenticator
    from flamecrest.server.auth.port import Identity
    from tests.faulty_issuer import FaultyIssuer

pytestmark = pytest.mark.anyio

URL = "https://api.example.org/v2/status/systems"
CERTIFICATE = b"a certificate in DER"


def public(key: SigningKey) -> dict[str, Any]:
    return {name: value for name, value in key.jwk().items() if name not in {"kid", "use", "alg"}}


def x5t(certificate: bytes) -> str:
    return b64(hashlib.sha256(certificate).digest())


class Sender:
    """A client with a key, which makes proofs for its requests."""

    def __init__(self, algorithm: str, clock: Clock) -> None:
        self.key = SigningKey.generate(algorithm)
        self.clock = clock
        self.made = 0

    @property
    def cnf(self) -> dict[str, str]:
        jwk = public(self.key)
        jwk.pop("key_ops", None)
        members = {"RSA": "e kty n", "EC": "crv kty x y", "OKP": "crv kty x"}[jwk["kty"]].split()
        text = json.dumps({name: jwk[name] for name in members}, sort_keys=True, separators=(",", ":"))
        return {"jkt": b64(hashlib.sha256(text.encode()).digest())}

    def proof(self, token: str, headers: Mapping[str, Any] | None = None, **claims: Any) -> str:
        self.made += 1
        made = {
            "jti": f"proof-{self.made}",
            "htm": "GET",
            "htu": URL,
            "iat": self.clock(),
            "ath": b64(hashlib.sha256(token.encode()).digest()),
        }
        header = {"typ": "dpop+jwt", "alg": self.key.algorithm, "jwk": public(self.key), **(headers or {})}
        kept = {name: value for name, value in (made | claims).items() if value is not None}
        return self.key.sign({name: value for name, value in header.items() if value is not None}, kept)


async def send(
    gate: OidcAuthenticator,
    token: str,
    *proofs: str,
    scheme: str = "DPoP",
    method: str = "GET",
    url: str = URL,
    certificate: bytes | None = None,
) -> Identity:
    def shown() -> RequestProof:
        return RequestProof(method, (url,), proofs, certificate)

    return await gate.authenticate(f"{scheme} {token}", Deadline.after(60), shown)


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "RS256", "PS256", "EdDSA"])
async def test_bound_token_with_a_proof(issuer: FaultyIssuer, gate: OidcAuthenticator, clock: Clock, algorithm: str):
    sender = Sender(algorithm, clock)
    token = issuer.mint("ann", cnf=sender.cnf)
    for scheme in ("DPoP", "dpop", "DPOP"):
        found = await send(gate, token, sender.proof(token), scheme=scheme)
        assert found.username == "ann"
    for url in ("HTTPS://API.example.org/v2/status/systems", "https://api.example.org:443/v2/status/systems?a=b#c"):
        await send(gate, token, sender.proof(token, htu=url))


async def refused(
    gate: OidcAuthenticator, token: str, *proofs: str, code: str = "invalid_dpop_proof", **sent: Any
) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await send(gate, token, *proofs, **sent)
    assert caught.value.code == code
    detail = caught.value.detail or ""
    assert detail.isprintable()
    assert len(detail) < 250
    return detail


async def test_bound_token_without_its_proof(issuer: FaultyIssuer, gate: OidcAuthenticator, clock: Clock, caplog):
    sender, thief = Sender("ES256", clock), Sender("ES256", clock)
    token = issuer.mint("ann", cnf=sender.cnf)
    for _ in range(2):  # new, then cached
        await refusal(gate, token, caplog)  # as a bearer token, where no proof can be shown
        assert "scheme Bearer" in await refused(gate, token, sender.proof(token), scheme="Bearer")
        await refused(gate, token)
        await refused(gate, token, sender.proof(token), sender.proof(token))
        await refused(gate, token, thief.proof(token))
        await refused(gate, token, "x", code="invalid_dpop_proof")
        await refused(gate, token, "y" * 10_000)
        await refused(gate, token, token)  # the token itself
        await send(gate, token, sender.proof(token))


@pytest.mark.parametrize(
    "change",
    [
        {"htm": "POST"},
        {"htm": "get"},
        {"htm": None},
        {"htu": "https://evil.example.org/v2/status/systems"},
        {"htu": "http://api.example.org/v2/status/systems"},
        {"htu": "https://api.example.org/v2/status/liveness"},
        {"htu": "https://api.example.org:8443/v2/status/systems"},
        {"htu": "https://ann@api.example.org/v2/status/systems"},
        {"htu": "https://api.example.org:x/v2/status/systems"},
        {"htu": 7},
        {"htu": None},
        {"ath": None},
        {"ath": "x"},
        {"iat": None},
        {"iat": "now"},
        {"iat": True},
        {"iat": float("nan")},
        {"iat": 10**400},
        {"jti": None},
        {"jti": ""},
        {"jti": "x" * 257},
        {"jti": ["a"]},
    ],
    ids=str,
)
async def test_proof_of_something_else(issuer: FaultyIssuer, gate: OidcAuthenticator, clock: Clock, change):
    sender = Sender("ES256", clock)
    token = issuer.mint("ann", cnf=sender.cnf)
    await refused(gate, token, sender.proof(token, **change))


async def test_proof_with_a_wrong_header(issuer: FaultyIssuer, gate: OidcAuthenticator, clock: Clock):
    sender, other = Sender("ES256", clock), Sender("ES256", clock)
    token = issuer.mint("ann", cnf=sender.cnf)
    private = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(sender.key.private))
    bad: list[dict[str, Any]] = [
        {"typ": "JWT"},
        {"typ": None},
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "ES384"},
        {"jwk": None},
        {"jwk": public(other.key)},
        {"jwk": private},
        {"jwk": {"kty": "oct", "k": "AAAA"}},
        {"jwk": {"kty": ["EC"]}},
        {"jwk": [public(sender.key)]},
        {"crit": ["jwk"]},
    ]
    for headers in bad:
        await refused(gate, token, sender.proof(token, headers))
    good = sender.proof(token)
    await refused(gate, token, good[:-8] + "AAAAAAAA")
    header, claims = ({"typ": "dpop+jwt", "alg": "ES256", "jwk": public(sender.key)}, {"htm": "GET", "htu": URL})
    await refused(gate, token, forge(header, claims, b"x" * 64))
    await send(gate, token, good)


async def test_proof_is_good_once_and_for_a_while(issuer: FaultyIssuer, gate: OidcAuthenticator, clock: Clock):
    sender = Sender("ES256", clock)
    token = issuer.mint("ann", cnf=sender.cnf, expires=10_000)
    proof = sender.proof(token)
    await send(gate, token, proof)
    assert "used before" in await refused(gate, token, proof)
    clock.advance(59)
    assert "used before" in await refused(gate, token, proof)
    clock.advance(2)
    assert "old" in await refused(gate, token, proof)
    await refused(gate, token, sender.proof(token, iat=clock() + 11))
    await send(gate, token, sender.proof(token, iat=clock() + 9))
    await send(gate, token, sender.proof(token, iat=clock() - 59))


async def test_proofs_are_not_remembered_without_end(clock: Clock):
    memory = Possession(max_age=60, clock=clock)
    sender = Sender("EdDSA", clock)
    bound = Confirmation(key=sender.cnf["jkt"])
    for _ in range(50):
        proof = sender.proof("token")
        memory.check(bound, "dpop", "token", lambda proof=proof: RequestProof("GET", (URL,), (proof,)))  # type: ignore[misc]
    assert len(memory) == 50
    clock.advance(61)
    proof = sender.proof("token")
    memory.check(bound, "dpop", "token", lambda: RequestProof("GET", (URL,), (proof,)))
    assert len(memory) == 1


async def test_token_that_is_not_bound(issuer: FaultyIssuer, gate: OidcAuthenticator, clock: Clock):
    sender = Sender("ES256", clock)
    token = issuer.mint("ann")
    await refused(gate, token, sender.proof(token), code="invalid_token")
    assert (await send(gate, token, scheme="Bearer")).username == "ann"
    assert (await send(gate, token, sender.proof(token), scheme="Bearer")).username == "ann"


async def test_certificate(issuer: FaultyIssuer, gate: OidcAuthenticator, caplog):
    token = issuer.mint("ann", cnf={"x5t#S256": x5t(CERTIFICATE)})
    for _ in range(2):
        await refusal(gate, token, caplog)
        await refused(gate, token, scheme="Bearer", code="invalid_token")
        await refused(gate, token, scheme="Bearer", certificate=b"another", code="invalid_token")
        await refused(gate, token, scheme="DPoP", certificate=CERTIFICATE, code="invalid_token")
        assert (await send(gate, token, scheme="Bearer", certificate=CERTIFICATE)).username == "ann"


async def test_both_bindings_must_be_proven(issuer: FaultyIssuer, gate: OidcAuthenticator, clock: Clock):
    sender = Sender("ES256", clock)
    token = issuer.mint("ann", cnf={**sender.cnf, "x5t#S256": x5t(CERTIFICATE)})
    await refused(gate, token, sender.proof(token), code="invalid_token")
    await refused(gate, token, certificate=CERTIFICATE)
    assert (await send(gate, token, sender.proof(token), certificate=CERTIFICATE)).username == "ann"


@pytest.mark.parametrize(
    "cnf", [None, {}, [], "x", 7, {"jwk": {}}, {"kid": "a"}, {"jkt": 7}, {"jkt": ""}, {"jkt": "a", "jwe": "b"}], ids=str
)
async def test_a_binding_that_is_not_known_is_refused(issuer: FaultyIssuer, gate: OidcAuthenticator, caplog, cnf: Any):
    await refusal(gate, issuer.mint("ann", cnf=cnf), caplog)
