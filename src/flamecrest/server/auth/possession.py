"""Proof that the sender of a request has the key that its token is bound to: DPoP (RFC 9449), mutual TLS (RFC 8705).

It knows the claim `cnf` and what a request shows; no keys of issuers, no HTTP.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote, urlsplit

from flamecrest.server.errors import Busy, Unauthenticated

from .jws import INVALID, invalid_token, loggable, parse
from .keys import UnusableKey, read_keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from .jws import Jws
    from .keys import Key
    from .port import Confirmation, RequestProof

PROOF_ALGORITHMS: Final = ("ES256", "ES384", "ES512", "RS256", "PS256", "EdDSA", "Ed25519")
"""The signatures that a DPoP proof may have."""
_MAX_PROOF = 8 * 1024  # characters
_MAX_ID = 256  # characters of `jti`
_AHEAD = 10.0  # seconds that a client's clock may be ahead
_REMEMBERED = 200_000  # proofs of all clients
_REMEMBERED_OF_ONE = 20_000  # of one key: a client that sends more must wait, and no other client with it
_MEMBERS = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}
_TYPE = frozenset({"dpop+jwt"})
_PORTS = {"http": 80, "https": 443}
_ESCAPED = re.compile(r"%[0-9A-Fa-f]{2}")


def invalid_proof(reason: str) -> Unauthenticated:
    """The error for a request without a valid proof; the reason goes to the log only."""
    return Unauthenticated(INVALID, detail=f"DPoP: {reason}", code="invalid_dpop_proof")


class Possession:
    """Checks proofs, and remembers those of DPoP while they could be repeated. `max_age` and `clock` are in seconds."""

    def __init__(self, *, max_age: float, clock: Callable[[], float]) -> None:
        self._max_age = max_age
        self._clock = clock
        self._seen: dict[str, OrderedDict[str, float]] = {}  # by thumbprint, then by digest of `jti`: end of memory
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def check(
        self, bound: Confirmation | None, scheme: str, token: str, proof: Callable[[], RequestProof] | None
    ) -> None:
        """Return if the request proves all keys of the token, and was sent as such a token must be.

        `scheme` is that of the Authorization header, in lower case. Raises Unauthenticated if it does not, and Busy if
        the key has sent too many proofs to remember.
        """
        if bound is None:
            raise invalid_token(f"a token that is not bound to a key was sent with the scheme {scheme}")
        if proof is None:
            raise invalid_token("the token is bound to a key, which is not proven here")
        shown = proof()
        if bound.certificate is not None:
            _check_certificate(bound.certificate, shown.certificate)
        if bound.key is not None:
            if scheme != "dpop":
                raise invalid_proof("a token that is bound to a DPoP key was sent with the scheme Bearer")
            self._check_dpop(bound.key, token, shown)
        elif scheme == "dpop":
            raise invalid_token("a token that is not bound to a DPoP key was sent with the scheme DPoP")

    def _check_dpop(self, thumbprint: str, token: str, shown: RequestProof) -> None:
        """RFC 9449, section 4.3, in its order; the proof is remembered at the end."""
        jws, key = _read_proof(shown.dpop)
        if not _equal(_thumbprint(jws.header["jwk"]), thumbprint):
            raise invalid_proof("the key is not the one that the token is bound to")
        if not key.verifies(jws.algorithm, jws.signed, jws.signature):
            raise invalid_proof("the signature is invalid")
        claims, now = jws.claims, self._clock()
        if claims.get("htm") != shown.method:
            raise invalid_proof(f"the proof is for the method {loggable(claims.get('htm'))}")
        address = _normal(claims.get("htu"))
        if address is None or address not in map(_normal, shown.urls):
            raise invalid_proof(f"the proof is for the URL {loggable(claims.get('htu'))}, not for {shown.urls[0]}")
        if not _equal(claims.get("ath"), _digest(token.encode())):
            raise invalid_proof("the proof is not for this token (ath)")
        issued, name = claims.get("iat"), claims.get("jti")
        if isinstance(issued, bool) or not isinstance(issued, int | float) or not abs(issued) < 2.0**53:
            raise invalid_proof("iat is not a timestamp")
        if not now - self._max_age <= issued <= now + _AHEAD:
            raise invalid_proof(f"issued {now - issued:.0f} s ago: the clocks differ, or the proof is old")
        if not isinstance(name, str) or not 0 < len(name) <= _MAX_ID:
            raise invalid_proof("jti is not a short text")
        self._remember(thumbprint, _digest(name.encode("utf-8", "surrogatepass")), issued + self._max_age, now)

    def _remember(self, thumbprint: str, name: str, until: float, now: float) -> None:
        seen = self._seen.get(thumbprint)
        if seen is not None:
            self._forget(thumbprint, seen, now)
            if name in seen:
                raise invalid_proof("the proof was used before (jti)")
        if self._count >= _REMEMBERED:
            for other, proofs in list(self._seen.items()):
                self._forget(other, proofs, now)
        if self._count >= _REMEMBERED or (seen is not None and len(seen) >= _REMEMBERED_OF_ONE):
            raise Busy("Too many requests with DPoP proofs", detail="too many proofs to remember", retry_after=5)
        self._seen.setdefault(thumbprint, OrderedDict())[name] = until
        self._count += 1

    def _forget(self, thumbprint: str, seen: OrderedDict[str, float], now: float) -> None:
        """Drop the proofs of a key that are too old to be accepted again. They are nearly in the order of their age."""
        while seen and next(iter(seen.values())) < now:
            seen.popitem(last=False)
            self._count -= 1
        if not seen:
            self._seen.pop(thumbprint, None)

    def __repr__(self) -> str:
        return f"<Possession {self._count} proofs of {len(self._seen)} keys>"


def _read_proof(values: tuple[str, ...]) -> tuple[Jws, Key]:
    """The only proof of a request and the public key in it; neither is checked yet."""
    if len(values) != 1 or len(values[0]) > _MAX_PROOF:
        raise invalid_proof(f"the request has {len(values)} proofs" if len(values) != 1 else "the proof is too long")
    try:
        jws = parse(values[0], _TYPE)
    except Unauthenticated as error:
        raise invalid_proof(error.detail or "malformed") from None
    jwk: Any = jws.header.get("jwk")
    if jws.algorithm not in PROOF_ALGORITHMS or not isinstance(jwk, dict):
        raise invalid_proof("the header has no public key (jwk), or an algorithm that is not accepted")
    public = {name: value for name, value in jwk.items() if name not in {"use", "key_ops", "alg", "kid"}}
    try:
        keys, ignored = read_keys(json.dumps({"keys": [public]}).encode())
    except UnusableKey as error:
        raise invalid_proof(str(error)) from None
    if not keys:
        raise invalid_proof("; ".join(ignored)[:100])
    return jws, keys[0]


def _thumbprint(jwk: dict[str, Any]) -> str:
    """The thumbprint of a public key (RFC 7638)."""
    members = {name: jwk[name] for name in _MEMBERS[jwk["kty"]]}
    return _digest(json.dumps(members, separators=(",", ":"), sort_keys=True).encode())


def _check_certificate(expected: str, certificate: bytes | None) -> None:
    if certificate is None:
        raise invalid_token("the token is bound to a TLS client certificate, and the request came without one")
    if not _equal(_digest(certificate), expected):
        raise invalid_token("the TLS client certificate is not the one that the token is bound to")


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _equal(one: object, other: str) -> bool:
    return isinstance(one, str) and hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode())


def _normal(url: object) -> tuple[str, str, int | None, str] | None:
    """A URL without query and fragment, normalised (RFC 3986, 6.2.2 and 6.2.3); None for anything else."""
    if not isinstance(url, str) or len(url) > _MAX_PROOF:
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    scheme = parts.scheme.lower()
    if scheme not in _PORTS or parts.hostname is None or parts.username is not None:
        return None
    path = _ESCAPED.sub(lambda found: quote(unquote(found.group(), "latin-1"), safe="", encoding="latin-1"), parts.path)
    return scheme, parts.hostname, port or _PORTS[scheme], path or "/"
