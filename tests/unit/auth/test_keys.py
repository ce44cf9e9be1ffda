"""Documents of keys: which keys are used, for which algorithms, and why others are ignored."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from jwt import get_algorithm_by_name
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from flamecrest.sandbox.issuer import SigningKey
from flamecrest.server.auth.keys import ALGORITHMS, KeySet, UnusableKey, read_keys

RSA = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}


def document(*keys: object) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def bare(key: SigningKey) -> dict:
    """The public key without `use` and `alg`."""
    return {name: value for name, value in key.jwk().items() if name not in {"alg", "use"}}


def spki(private: Any) -> Any:
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(scope="module")
def es() -> SigningKey:
    return SigningKey.generate("ES256", "es")


def test_keys_that_name_no_algorithm_have_those_of_their_kind(rsa_key: SigningKey):
    ed = ed448.Ed448PrivateKey.generate().public_key()
    secp = ec.generate_private_key(ec.SECP256K1()).public_key()
    keys, ignored = read_keys(
        document(
            bare(rsa_key),
            *(bare(SigningKey.generate(name, name)) for name in ("ES256", "ES384", "ES512", "EdDSA")),
            {**OKPAlgorithm.to_jwk(ed, as_dict=True), "kid": "448"},
            {**ECAlgorithm.to_jwk(secp, as_dict=True), "kid": "k1"},
        )
    )
    assert ignored == []
    assert {key.kid: set(key.algorithms) for key in keys} == {
        "rsa-1": RSA,
        "ES256": {"ES256"},
        "ES384": {"ES384"},
        "ES512": {"ES512"},
        "EdDSA": {"EdDSA", "Ed25519"},
        "448": {"EdDSA", "Ed448"},
        "k1": {"ES256K"},
    }
    assert set().union(*(key.algorithms for key in keys)) == ALGORITHMS


def test_a_key_is_pinned_by_its_own_algorithm_first(rsa_key: SigningKey):
    for named, default, expected in [
        ("PS512", None, {"PS512"}),
        ("PS512", "RS256", {"PS512"}),
        (None, "RS256", {"RS256"}),
        (None, None, RSA),
    ]:
        jwk = bare(rsa_key) | ({"alg": named} if named else {})
        (key,), ignored = read_keys(document(jwk), default)
        assert (set(key.algorithms), ignored) == (expected, [])


def test_keys_that_are_not_used(rsa_key: SigningKey, es: SigningKey):
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()
    private = RSAAlgorithm.to_jwk(rsa_key.private, as_dict=True)
    cases = [
        ({**rsa_key.jwk(), "use": "enc"}, "not a signature key"),
        ({**rsa_key.jwk(), "use": ["sig"]}, "not a signature key"),
        ({**rsa_key.jwk(), "key_ops": ["encrypt"]}, "not a signature key"),
        ({**rsa_key.jwk(), "key_ops": "verify"}, "not a signature key"),
        ({**rsa_key.jwk(), "alg": "HS256"}, "algorithm 'HS256' does not fit"),
        ({**rsa_key.jwk(), "alg": "none"}, "algorithm 'none' does not fit"),
        ({**rsa_key.jwk(), "alg": "ES256"}, "algorithm 'ES256' does not fit"),
        ({**rsa_key.jwk(), "alg": "RSA-OAEP"}, "algorithm 'RSA-OAEP' does not fit"),
        ({**rsa_key.jwk(), "alg": ""}, "algorithm '' does not fit"),
        ({**es.jwk(), "alg": "ES384"}, "algorithm 'ES384' does not fit"),
        ({**RSAAlgorithm.to_jwk(small, as_dict=True), "kid": "small"}, "RSA key of 1024 bits"),
        ({**private, "use": "sig", "key_ops": ["verify"]}, "private key is published"),
        ({"kty": "oct", "k": "c2VjcmV0", "kid": "o"}, "not an asymmetric key"),
        ({"kty": "RSA", "kid": "r"}, "a member is missing (n, e)"),
        ({"kty": ["RSA"]}, "not an asymmetric key"),
        ({"kty": "RSA", "n": 5, "e": "AQAB"}, "a member is missing (n, e)"),
        ({"kty": "RSA", "n": "AQAB", "e": "AQAB"}, "malformed"),
        ({"kty": "RSA", "n": "", "e": ""}, "malformed"),
        ({"kty": "RSA", "n": "\N{SNOWMAN}", "e": "AQAB"}, "malformed"),
        ({"kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB"}, "malformed"),
        ({**es.jwk(), "y": es.jwk()["x"]}, "malformed"),
        ({"kty": "EC", "crv": "P-1", "x": "AQAB", "y": "AQAB"}, "malformed"),
        ({"kty": "OKP", "crv": "X25519", "x": es.jwk()["x"]}, "malformed"),
        ({"kty": "OKP", "crv": "Ed25519", "x": "AQAB"}, "malformed"),
        ({**es.jwk(), "kid": 5}, "`kid` is not a string"),
        ("key", "not a JSON object"),
        (None, "not a JSON object"),
    ]
    for jwk, reason in cases:
        keys, ignored = read_keys(document(jwk, es.jwk()))
        assert [key.kid for key in keys] == ["es"], jwk
        assert reason in ignored[0], ignored


def test_pem_documents(rsa_key: SigningKey):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, rsa_key.private.public_key(), 1, now, now + dt.timedelta(days=1))
        .sign(rsa_key.private, SHA256())
        .public_bytes(Encoding.PEM)
    )
    es = SigningKey.generate("ES384")
    keys, ignored = read_keys(b"# two keys\n" + spki(rsa_key.private) + b"\n" + spki(es.private) + certificate)
    assert ignored == []
    assert [(key.kid, set(key.algorithms)) for key in keys] == [(None, RSA), (None, {"ES384"}), (None, RSA)]
    private = es.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for block, reason in [
        (private, "private key"),
        (spki(dsa.generate_private_key(1024)), "unknown key type"),
        (spki(x25519.X25519PrivateKey.generate()), "unknown key type"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "not a public key"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "not a public key"),
    ]:
        keys, ignored = read_keys(block)
        assert keys == []
        assert reason in ignored[0]
    secret = private.decode().splitlines()[1]
    assert secret not in str(ignored)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" ",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": null}',
        b"<html>",
        b"\xff\xfe",
        b"{" * 100_000,
    ],
)
def test_documents_without_keys(content: bytes):
    with pytest.raises(UnusableKey):
        read_keys(content)


def test_too_many_keys_at_once(es: SigningKey):
    with pytest.raises(UnusableKey, match="more than 100"):
        read_keys(document(*[es.jwk()] * 101))


@given(
    st.binary(max_size=200)
    | st.lists(st.none() | st.text(max_size=5) | st.integers() | st.just([]), max_size=3).map(document)
)
def test_any_document_is_read_or_refused(content: bytes):
    try:
        keys, _ = read_keys(content)
    except UnusableKey:
        return
    assert keys == []


@given(
    st.dictionaries(
        st.sampled_from(["kty", "n", "e", "crv", "x", "y", "kid", "alg", "use", "key_ops"]),
        st.sampled_from(["RSA", "EC", "OKP", "P-256", "Ed25519", "AQAB", "", "=", "\0", "sig"])
        | st.integers()
        | st.none(),
    )
)
def test_any_key_is_read_or_ignored(jwk: dict):
    keys, ignored = read_keys(document(jwk))
    assert keys == []
    assert len(ignored) == 1
    assert len(ignored[0]) < 200


def test_a_set_is_searched_by_name_and_algorithm(rsa_key: SigningKey, es: SigningKey):
    named, _ = read_keys(document(rsa_key.jwk(), es.jwk()))
    nameless, _ = read_keys(spki(SigningKey.generate("ES256").private))
    keys = KeySet([*named, *nameless])
    assert [key.kid for key in keys.candidates("rsa-1", "RS256")] == ["rsa-1"]
    assert [key.kid for key in keys.candidates("rsa-1", "ES256")] == [None]
    assert {key.kid for key in keys.candidates("es", "ES256")} == {"es", None}
    assert {key.kid for key in keys.candidates(None, "ES256")} == {"es", None}
    assert [key.kid for key in keys.candidates("strange", "ES256")] == [None]
    assert keys.candidates("rsa-1", "PS256") == ()
    assert keys.candidates("rsa-1", "none") == ()
    assert [keys.has(kid) for kid in ("rsa-1", "es", None, "strange")] == [True, True, True, False]
    assert not KeySet().has(None)


def test_a_key_verifies_by_its_own_algorithms_only(rsa_key: SigningKey):
    (key,), _ = read_keys(document(rsa_key.jwk()))
    for name in sorted(RSA):
        signature = get_algorithm_by_name(name).sign(b"text", rsa_key.private)
        assert key.verifies(name, b"text", signature) is (name == "RS256")
    assert not key.verifies("none", b"text", b"")
    assert not key.verifies("HS256", b"text", b"")


def test_two_issuers_may_use_one_name(rsa_key: SigningKey):
    other = SigningKey.generate("ES256", "rsa-1")
    (first,), _ = read_keys(document(rsa_key.jwk()))
    (second,), _ = read_keys(document(other.jwk()))
    keys = KeySet([first, second])
    assert keys.candidates("rsa-1", "RS256") == (first,)
    assert keys.candidates("rsa-1", "ES256") == (second,)


def test_a_token_without_a_name_tries_few_keys():
    keys, _ = read_keys(document(*(SigningKey.generate("ES256", str(n)).jwk() for n in range(20))))
    assert len(KeySet(keys).candidates(None, "ES256")) == 8


def test_keys_of_a_thumbprint(es: SigningKey):
    jwk = {name: value for name, value in es.jwk().items() if name != "kid"}
    (key,), _ = read_keys(document({**jwk, "x5t": "dGh1bWI"}))
    assert key.kid == "dGh1bWI"


def test_the_same_key_read_twice_is_equal_and_says_little(es: SigningKey):
    first, _ = read_keys(document(es.jwk()))
    second, _ = read_keys(document(es.jwk()))
    assert first == second
    assert KeySet(first).all == KeySet(second).all
    assert es.jwk()["x"] not in repr(first)


@pytest.mark.parametrize("curve", ["Ed25519", "Ed448"])
def test_fully_specified_algorithms_of_edwards_curves(curve: str):
    """RFC 9864: `EdDSA` leaves the curve open, `Ed25519` and `Ed448` name it."""
    private = (ed25519.Ed25519PrivateKey if curve == "Ed25519" else ed448.Ed448PrivateKey).generate()
    jwk = {**OKPAlgorithm.to_jwk(private.public_key(), as_dict=True), "kid": "k"}
    other = "Ed448" if curve == "Ed25519" else "Ed25519"
    for named in ({}, {"alg": curve}, {"alg": "EdDSA"}):
        (key,), ignored = read_keys(document({**jwk, **named}))
        assert ignored == []
        assert key.verifies(curve, b"text", private.sign(b"text"))
        assert key.verifies("EdDSA", b"text", private.sign(b"text"))
        assert not key.verifies(curve, b"other", private.sign(b"text"))
        assert not key.verifies(other, b"text", private.sign(b"text"))
    for wrong in (other, "ES256", "RS256", "HS256", "none", ""):
        keys, ignored = read_keys(document({**jwk, "alg": wrong}))
        assert (keys, len(ignored)) == ([], 1)
