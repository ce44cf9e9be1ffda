"""The text of a signed token taken apart, strictly: compact JWS, canonical base64url, JSON without repeated names.

Pure: it knows no keys, no clock, and trusts nothing that it reads; what it raises holds none of the token's text.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from typing import Any, NoReturn

from flamecrest.server.errors import Unauthenticated

MAX_TOKEN = 16 * 1024  # characters; real tokens have 1 to 4 Ki
_MAX_NAME = 256  # of a key's name
_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII)
_UNSAFE = re.compile(r"[^A-Za-z0-9_.:/@+-]")
_TYPES = frozenset({"jwt", "at+jwt"})  # RFC 7519, RFC 9068; absent is allowed too

MISSING = "Not authenticated"
INVALID = "Access token is invalid."
EXPIRED = "Access token is expired."


@dataclass(frozen=True, slots=True)
class Jws:
    """A token that is well-formed and not yet verified."""

    algorithm: str
    kid: str | None
    typ: str  # in lower case, "" where there is none
    claims: dict[str, Any] = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def shown(value: object) -> str:
    """What may stand in a log of a value that somebody else has chosen: at most 64 harmless characters."""
    if not isinstance(value, str):
        return f"a {type(value).__name__}"
    return f"'{_UNSAFE.sub('?', value[:64])}'"


def refused(reason: str) -> Unauthenticated:
    """The error for a token that is not accepted; the reason is for the log alone."""
    return Unauthenticated(INVALID, detail=reason)


def bearer(authorization: str | None) -> str:
    """The token in an Authorization header; Unauthenticated where there is none."""
    if not authorization:
        raise Unauthenticated(MISSING, detail="no Authorization header")
    scheme, _, token = authorization.partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated(MISSING, detail="the Authorization header holds no bearer token")
    if len(token) > MAX_TOKEN:
        raise refused("the token is too long")
    return token


def parse(token: str) -> Jws:
    """Take a token apart; Unauthenticated when it is anything but a well-formed signed JWT."""
    match = _COMPACT.fullmatch(token)
    if match is None:
        raise refused("not a JWS in compact form")
    header_part, claims_part, signature_part = match.groups()
    header = _object(header_part, "header")
    _check_header(header)
    claims = _object(claims_part, "payload")
    signature = _decode(signature_part)
    if signature is None:
        raise refused("the signature is not base64url")
    return Jws(
        algorithm=header["alg"],
        kid=header.get("kid") or header.get("x5t"),  # either only looks up a key that is here already
        typ=header.get("typ", "").lower().removeprefix("application/"),
        claims=claims,
        signed=token[: match.end(2)].encode(),
        signature=signature,
    )


def _check_header(header: dict[str, Any]) -> None:
    """Refuse what is not understood. `jku`, `x5u`, `x5c` and `jwk` are never looked at: keys come from the issuer."""
    for name in ("crit", "b64"):
        if name in header:
            raise refused(f"the header has {name}")
    if not isinstance(header.get("alg"), str):
        raise refused("the header names no algorithm")
    for name in ("kid", "x5t", "typ"):
        value = header.get(name, "")
        if not isinstance(value, str) or len(value) > _MAX_NAME:
            raise refused(f"the header's {name} is not a short text")
    typ = header.get("typ", "").lower().removeprefix("application/")
    if typ and typ not in _TYPES:
        raise refused(f"the header's typ is {shown(typ)}, not that of an access token")


def _object(part: str, name: str) -> dict[str, Any]:
    raw = _decode(part)
    value = None if raw is None else _json(raw)
    if not isinstance(value, dict):
        raise refused(f"the {name} is not a JSON object in base64url")
    return value


def _decode(part: str) -> bytes | None:
    """Base64url without padding, in its one canonical spelling; None for anything else."""
    try:
        raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        return None
    return raw if base64.urlsafe_b64encode(raw).rstrip(b"=") == part.encode() else None


def _json(raw: bytes) -> object:
    """The JSON value of UTF-8 text; None where there is none (the errors of `json` carry the text with them)."""
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_not_json)
    except (ValueError, RecursionError):
        return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name stands twice")
    return value


def _not_json(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")
