"""Strict parser of signed tokens: compact JWS (RFC 7515), canonical base64url, JSON without duplicate names.

Pure: no keys, no clock. Its result is not verified. Its errors contain no text of the token.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from typing import Any, NoReturn

from flamecrest.server.errors import Unauthenticated

MAX_TOKEN = 16 * 1024  # characters; tokens in practice have 1,000 to 4,000
_MAX_NAME = 256  # characters of a header parameter
_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII)
_OPAQUE = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
_UNSAFE = re.compile(r"[^A-Za-z0-9_.:/@+-]")
TYPES = frozenset({"jwt", "at+jwt", ""})
"""The types of access tokens in the header, in lower case: RFC 7519, RFC 9068, or none."""

MISSING = "Not authenticated"
INVALID = "Access token is invalid."
EXPIRED = "Access token is expired."


@dataclass(frozen=True, slots=True)
class Jws:
    """A well-formed token, not verified yet."""

    algorithm: str
    kid: str | None
    typ: str  # in lower case, "" where there is none
    header: dict[str, Any] = field(repr=False)
    claims: dict[str, Any] = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def loggable(value: object) -> str:
    """An untrusted value as it may be logged: at most 64 harmless characters, in quotes."""
    if not isinstance(value, str):
        return f"a {type(value).__name__}"
    return f"'{_UNSAFE.sub('?', value[:64])}'"


def invalid_token(reason: str) -> Unauthenticated:
    """The error for a token that is not accepted; the reason goes to the log only."""
    return Unauthenticated(INVALID, detail=reason, code="invalid_token")


def is_jws(token: str) -> bool:
    """Whether a token has the form of a compact JWS; any other token is opaque to everybody except its issuer."""
    return _COMPACT.fullmatch(token) is not None


def is_opaque(token: str) -> bool:
    """Whether a token may be an opaque one: the characters of RFC 6750 and not the form of a JWT."""
    return _OPAQUE.fullmatch(token) is not None and not is_jws(token)


def parse(token: str, types: frozenset[str] = TYPES) -> Jws:
    """Parse a token; raises Unauthenticated unless it is a well-formed signed JWT of one of these types."""
    match = _COMPACT.fullmatch(token)
    if match is None:
        raise invalid_token("not a compact JWS")
    header_part, claims_part, signature_part = match.groups()
    header = _object(header_part, "header")
    _check_header(header, types)
    claims = _object(claims_part, "payload")
    signature = _decode(signature_part)
    if signature is None:
        raise invalid_token("the signature is not base64url")
    return Jws(
        algorithm=header["alg"],
        kid=header.get("kid") or header.get("x5t"),  # both are used only to look up a key that is trusted already
        typ=header.get("typ", "").lower().removeprefix("application/"),
        header=header,
        claims=claims,
        signed=token[: match.end(2)].encode(),
        signature=signature,
    )


def _check_header(header: dict[str, Any], types: frozenset[str]) -> None:
    """Refuse unknown extensions and types. `jku`, `x5u`, `x5c` and `jwk` are ignored: keys come from the issuer."""
    for name in ("crit", "b64"):
        if name in header:
            raise invalid_token(f"the header has `{name}`, which is not supported")
    if not isinstance(header.get("alg"), str):
        raise invalid_token("the header names no algorithm")
    for name in ("kid", "x5t", "typ"):
        value = header.get(name, "")
        if not isinstance(value, str) or len(value) > _MAX_NAME:
            raise invalid_token(f"the header's {name} is not a short text")
    typ = header.get("typ", "").lower().removeprefix("application/")
    if typ not in types:
        raise invalid_token(f"the header's typ {loggable(typ)} is not one that is accepted")


def _object(part: str, name: str) -> dict[str, Any]:
    raw = _decode(part)
    value = None if raw is None else strict_json(raw)
    if not isinstance(value, dict):
        raise invalid_token(f"the {name} is not a JSON object in base64url")
    return value


def _decode(part: str) -> bytes | None:
    """Decode canonical base64url without padding; None for anything else."""
    try:
        raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        return None
    return raw if base64.urlsafe_b64encode(raw).rstrip(b"=") == part.encode() else None


def strict_json(raw: bytes) -> object:
    """Parse UTF-8 JSON; None if it is invalid, or if an object names a member twice.

    The errors of `json` are dropped because they contain the text.
    """
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_not_json)
    except (ValueError, RecursionError):
        return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("duplicate name")
    return value


def _not_json(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")
