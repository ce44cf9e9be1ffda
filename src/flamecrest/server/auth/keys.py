"""Public keys of an issuer: parsed from JWKS, JWK or PEM documents, each bound to the algorithms it may verify.

Pure: no I/O. Of a token's header it sees only the key id and the algorithm to look up.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate

from .jws import loggable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey

_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES = {  # cryptography's names
    "secp256r1": frozenset({"ES256"}),
    "secp384r1": frozenset({"ES384"}),
    "secp521r1": frozenset({"ES512"}),
    "secp256k1": frozenset({"ES256K"}),
}
_EDWARDS = {  # EdDSA leaves the curve open; RFC 9864 names it
    Ed25519PublicKey: frozenset({"EdDSA", "Ed25519"}),
    Ed448PublicKey: frozenset({"EdDSA", "Ed448"}),
}
ALGORITHMS = _RSA.union(*_CURVES.values(), *_EDWARDS.values())
"""All supported algorithms: asymmetric signatures only, never HMAC, never `none`."""
_EDWARDS_NAMES = frozenset().union(*_EDWARDS.values())

_RSA_BITS = range(2048, 16384 + 1)
_MAX_KEYS = 100  # in one document
_MAX_CANDIDATES = 8  # keys that are tried for one token
_PEM = re.compile(rb"-----BEGIN ([A-Z ]+)-----.+?-----END \1-----", re.DOTALL)
_MEMBERS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}
_READERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "RSA": jwt.algorithms.RSAAlgorithm.from_jwk,
    "EC": jwt.algorithms.ECAlgorithm.from_jwk,
    "OKP": jwt.algorithms.OKPAlgorithm.from_jwk,
}


class UnusableKey(ValueError):
    """A key or a document of keys that cannot be used; the text says why and contains nothing of the key."""


@dataclass(frozen=True, slots=True)
class Key:
    """A public key, its id (`kid`) and the algorithms that it may verify."""

    kid: str | None
    algorithms: frozenset[str]
    spki: bytes = field(repr=False)  # SubjectPublicKeyInfo in DER: keys are equal if these bytes are
    public: PublicKey = field(repr=False, compare=False)

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """Whether the signature over `signed` is valid for this key and algorithm."""
        if algorithm not in self.algorithms:
            return False
        name = "EdDSA" if algorithm in _EDWARDS_NAMES else algorithm
        return jwt.get_algorithm_by_name(name).verify(signed, self.public, signature)


class KeySet:
    """Keys by their id. Immutable."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self.all = frozenset(keys)
        ordered = sorted(self.all, key=lambda key: (key.kid or "", key.spki))
        self._nameless = tuple(key for key in ordered if key.kid is None)
        self._every = tuple(ordered)
        self._named: dict[str, tuple[Key, ...]] = {}
        for key in ordered:
            if key.kid is not None:
                self._named[key.kid] = (*self._named.get(key.kid, ()), key)

    def has(self, kid: str | None) -> bool:
        """Whether there is a key with this id; for None, whether there is any key."""
        return bool(self.all) if kid is None else kid in self._named

    def candidates(self, kid: str | None, algorithm: str) -> tuple[Key, ...]:
        """The keys for that algorithm that have this id or none; for None, all keys for that algorithm."""
        keys = self._every if kid is None else (*self._named.get(kid, ()), *self._nameless)
        return tuple(key for key in keys if algorithm in key.algorithms)[:_MAX_CANDIDATES]


def read_keys(document: bytes, default_algorithm: str | None = None) -> tuple[list[Key], list[str]]:
    """Parse a JWKS, JWK or PEM document into its usable keys and the reasons why others are ignored.

    `default_algorithm` applies to keys without `alg`. Raises UnusableKey if the document is none of these.
    """
    parts = _json_keys(document) if document.lstrip()[:1] == b"{" else _pem_keys(document)
    if len(parts) > _MAX_KEYS:
        raise UnusableKey(f"more than {_MAX_KEYS} keys in one document")
    keys, ignored = [], []
    for part in parts:
        try:
            keys.append(_key(part, default_algorithm))
        except UnusableKey as error:
            ignored.append(str(error))
    return keys, ignored


def _json_keys(document: bytes) -> list[Any]:
    try:
        value = json.loads(document.decode("utf-8"))
    except (ValueError, RecursionError):
        raise UnusableKey("the document is not valid JSON") from None
    keys = [value] if "kty" in value else value.get("keys")
    if not isinstance(keys, list):
        raise UnusableKey("the JSON document has no list `keys`")
    return keys


def _pem_keys(document: bytes) -> list[Any]:
    blocks = [match.group() for match in _PEM.finditer(document)]
    if not blocks:
        raise UnusableKey("the document is neither JSON nor PEM")
    return blocks


def _key(part: object, default_algorithm: str | None) -> Key:
    if isinstance(part, bytes):
        return _pinned(_from_pem(part), None, default_algorithm)
    if not isinstance(part, dict):
        raise UnusableKey("key is not a JSON object")
    kid = part.get("kid") or part.get("x5t")
    if kid is not None and not isinstance(kid, str):
        raise UnusableKey("`kid` is not a string")
    try:
        return _pinned(_from_jwk(part), kid, part.get("alg", default_algorithm))
    except UnusableKey as error:
        raise UnusableKey(f"key {loggable(kid)}: {error}" if kid else f"key without kid: {error}") from None


def _from_pem(block: bytes) -> object:
    if b"PRIVATE KEY" in block:
        raise UnusableKey("PEM block is a private key: use the public key")
    try:
        if block.startswith(b"-----BEGIN CERTIFICATE-----"):
            return load_pem_x509_certificate(block).public_key()
        return load_pem_public_key(block)
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableKey("PEM block is not a public key") from None


def _from_jwk(jwk: dict[str, Any]) -> object:
    kty, operations = jwk.get("kty"), jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise UnusableKey("not a signature key (`use`, `key_ops`)")
    if not isinstance(kty, str) or kty not in _MEMBERS:
        raise UnusableKey("not an asymmetric key (`kty`)")
    if "d" in jwk:
        raise UnusableKey("the private key is published (`d`)")
    if not all(isinstance(jwk.get(member), str) for member in _MEMBERS[kty]):
        raise UnusableKey(f"a member is missing ({', '.join(_MEMBERS[kty])})")
    try:
        return _READERS[kty](jwk)
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, KeyError, OverflowError):
        raise UnusableKey("malformed") from None


def _pinned(public: object, kid: str | None, algorithm: object) -> Key:
    """Bind a key to the given algorithm, or to all algorithms of its type if none is given."""
    if isinstance(public, RSAPublicKey):
        if public.key_size not in _RSA_BITS:
            raise UnusableKey(
                f"RSA key of {public.key_size} bits: {_RSA_BITS.start} to {_RSA_BITS.stop - 1} are allowed"
            )
        possible = _RSA
    elif isinstance(public, EllipticCurvePublicKey):
        possible = _CURVES.get(public.curve.name, frozenset())
    elif isinstance(public, Ed25519PublicKey | Ed448PublicKey):
        possible = _EDWARDS[Ed25519PublicKey if isinstance(public, Ed25519PublicKey) else Ed448PublicKey]
        if algorithm in possible:  # both names mean the same for a key
            algorithm = None
    else:
        raise UnusableKey("unknown key type")
    allowed = possible if algorithm is None else possible & {algorithm}
    if not allowed:
        raise UnusableKey(f"algorithm {loggable(algorithm)} does not fit the key")
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Key(kid, allowed, spki, public)
