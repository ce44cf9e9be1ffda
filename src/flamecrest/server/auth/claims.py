"""Checks of a verified token's claims, and the identity that they name. Pure: no keys, no clock, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from flamecrest.server.errors import Unauthenticated

from .accounts import AccountRules
from .jws import EXPIRED, invalid_token, loggable
from .port import Identity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .jws import Jws

_LATEST = 2.0**53  # seconds; beyond it a number of JSON is not exact
_ISSUED_AHEAD = 300.0  # seconds that the issuer's clock may be ahead of ours, for `iat` only
_MAX_TEXT = 255  # characters of `sub` and of the client's name


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """Requirements on a token's claims. Times are in seconds; an empty issuer or audience is not checked.

    `id_token_claims`: accept claims that only ID tokens should have, for issuers whose access tokens have them.
    """

    issuer: str = ""
    audience: frozenset[str] = frozenset()
    username_claim: str = "preferred_username"
    leeway: float = 10.0
    min_token_ttl: float = 0.0
    accounts: AccountRules = field(default_factory=AccountRules)
    id_token_claims: bool = False

    def check(self, token: Jws, now: float) -> None:
        """Raise Unauthenticated unless the claims are those of an access token for this gateway, valid at `now`."""
        claims = token.claims
        self._check_times(claims, now)
        if self.issuer and claims.get("iss") != self.issuer:
            raise invalid_token(f"the issuer is {loggable(claims.get('iss'))}")
        if self.audience and not self.audience.intersection(_audience(claims)):
            raise invalid_token("the audience does not match")
        _check_kind(token, id_token_claims=self.id_token_claims)

    def usable_until(self, claims: Mapping[str, Any]) -> float:
        """When the token is no longer accepted: `exp` plus leeway or, if `min_token_ttl` is set, `exp` minus that."""
        expires: float = claims["exp"]
        return expires - self.min_token_ttl if self.min_token_ttl > 0 else expires + self.leeway

    def identity(self, claims: dict[str, Any], token: str) -> Identity:
        """The identity that verified and checked claims name; raises Unauthenticated or Denied for an invalid name."""
        return Identity(
            username=self.accounts.account(_find(claims, self.username_claim)),
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
                raise invalid_token(f"{name} is missing or is not a timestamp")
        if now >= self.usable_until(claims):
            raise Unauthenticated(EXPIRED, detail=f"expired: {claims['exp'] - now:.0f} s to `exp`")
        if claims.get("nbf", 0) > now + self.leeway:
            raise invalid_token("not yet valid (nbf)")
        if claims.get("iat", 0) > now + self.leeway + _ISSUED_AHEAD:
            raise invalid_token("issued in the future (iat)")


def _check_kind(token: Jws, *, id_token_claims: bool) -> None:
    """Refuse ID, refresh and logout tokens, and sender-constrained tokens: the proof of their key is not checked."""
    claims = token.claims
    typ, use = claims.get("typ", "Bearer"), claims.get("token_use", "access")
    if not isinstance(typ, str) or typ.lower() not in {"bearer", "jwt", "at+jwt"}:
        raise invalid_token(f"the claim typ is {loggable(typ)}")  # Keycloak: Bearer, ID, Refresh, Offline, Logout
    if use != "access":
        raise invalid_token(f"the claim token_use is {loggable(use)}")  # Cognito: access, id
    for name in ("events", "cnf", *(() if id_token_claims else ("at_hash", "c_hash"))):
        if name in claims:
            raise invalid_token(f"bearer access tokens have no claim {name}")
    marked = token.typ == "at+jwt" or any(name in claims for name in ("typ", "token_use", "scope", "scp"))
    if (
        "nonce" in claims and not marked and not id_token_claims
    ):  # older Keycloaks put a nonce into access tokens, too, but these are marked
        raise invalid_token("the claim nonce marks an ID token")


def _audience(claims: Mapping[str, Any]) -> list[str]:
    value = claims.get("aud")
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)]


def _find(claims: Mapping[str, Any], name: str) -> object:
    """A claim by its name; if there is none of that name, by a dotted path into nested objects."""
    if name in claims:
        return claims[name]
    value: object = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _text(claims: Mapping[str, Any], name: str) -> str:
    """A claim that is written to the log: "" if it is missing; raises Unauthenticated if it is not a short text."""
    value = claims.get(name, "")
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.isprintable():
        raise invalid_token(f"the claim {name} is not a short text")
    return value
