"""What a verified token must say to be an access token for us, and whom it names. Pure: no keys, no clock, no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from flamecrest.server.errors import Denied, Unauthenticated

from .jws import EXPIRED, refused, shown
from .port import Identity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .jws import Jws

_USERNAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_LATEST = 2.0**53  # seconds; beyond it a number of JSON is not exact
_ISSUED_AHEAD = 300.0  # seconds that the issuer's clock may be before ours, for `iat` only
_MAX_TEXT = 255  # characters of `sub` and of the client's name


def check_username(name: object) -> str:
    """The name, when it may be the account of a user; the only gate to paths, commands and bucket names.

    Up to 64 of the letters of ASCII, digits, `_`, `.` and `-`, beginning with a letter or `_`, never with `..`
    in it: what POSIX calls portable, in either case. Anything else is Unauthenticated, root in any case Denied.
    """
    if not isinstance(name, str) or _USERNAME.fullmatch(name) is None or ".." in name:
        raise refused(f"the user name {shown(name)} is not one that an account can have")
    if name.lower() == "root":
        raise Denied("This account may not use the gateway", detail="the token names root")
    return name


@dataclass(frozen=True, slots=True)
class Rules:
    """What is asked of a token's claims. Times are in seconds; an empty issuer or audience is not checked."""

    issuer: str = ""
    audience: frozenset[str] = frozenset()
    username_claim: str = "preferred_username"
    leeway: float = 10.0
    min_token_ttl: float = 0.0

    def check(self, token: Jws, now: float) -> None:
        """Raise Unauthenticated unless the claims are those of an access token that is good now, for us."""
        claims = token.claims
        self._check_times(claims, now)
        if self.issuer and claims.get("iss") != self.issuer:
            raise refused(f"the issuer is {shown(claims.get('iss'))}")
        if self.audience and not self.audience.intersection(_audience(claims)):
            raise refused("the audience is another")
        _check_kind(token)

    def usable_until(self, claims: Mapping[str, Any]) -> float:
        """When the token stops being accepted: at `exp` with leeway, or so long before it as must be left."""
        expires: float = claims["exp"]
        return expires - self.min_token_ttl if self.min_token_ttl > 0 else expires + self.leeway

    def identity(self, claims: dict[str, Any], token: str) -> Identity:
        """Whom verified and checked claims name; Unauthenticated or Denied when it is nobody that we serve."""
        return Identity(
            username=check_username(_find(claims, self.username_claim)),
            subject=_text(claims, "sub"),
            issuer=_text(claims, "iss"),
            client=_text(claims, "azp") or _text(claims, "client_id"),
            expires=float(claims["exp"]),
            claims=MappingProxyType(claims),
            token=token,
        )

    def _check_times(self, claims: Mapping[str, Any], now: float) -> None:
        for name in ("exp", "nbf", "iat"):
            value = claims.get(name, 0 if name != "exp" else None)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LATEST:
                raise refused(f"{name} is missing or not a time")
        if now >= self.usable_until(claims):
            raise Unauthenticated(EXPIRED, detail=f"expired, {claims['exp'] - now:.0f} s of life were left")
        if claims.get("nbf", 0) > now + self.leeway:
            raise refused("not yet valid (nbf)")
        if claims.get("iat", 0) > now + self.leeway + _ISSUED_AHEAD:
            raise refused("issued in the future (iat)")


def _check_kind(token: Jws) -> None:
    """Refuse ID, refresh and logout tokens, and tokens bound to a key that nobody here has asked to see."""
    claims = token.claims
    typ, use = claims.get("typ", "Bearer"), claims.get("token_use", "access")
    if not isinstance(typ, str) or typ.lower() not in {"bearer", "jwt", "at+jwt"}:
        raise refused(f"the claim typ is {shown(typ)}")  # Keycloak: Bearer, ID, Refresh, Offline, Logout
    if use != "access":
        raise refused(f"the claim token_use is {shown(use)}")  # Cognito: access, id
    for name in ("at_hash", "c_hash", "events", "cnf"):
        if name in claims:
            raise refused(f"the claim {name} is not that of a bearer access token")
    marked = token.typ == "at+jwt" or any(name in claims for name in ("typ", "token_use", "scope", "scp"))
    if "nonce" in claims and not marked:  # older Keycloaks put a nonce into access tokens too, which are marked
        raise refused("the claim nonce is that of an ID token")


def _audience(claims: Mapping[str, Any]) -> list[str]:
    value = claims.get("aud")
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)]


def _find(claims: Mapping[str, Any], name: str) -> object:
    """A claim by its name, or by a dotted path into objects where no claim has that very name."""
    if name in claims:
        return claims[name]
    value: object = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _text(claims: Mapping[str, Any], name: str) -> str:
    """A claim that is printed in logs: "" where there is none, refused where it can't be a name."""
    value = claims.get(name, "")
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.isprintable():
        raise refused(f"the claim {name} is not a short text")
    return value
