"""Checks of a verified token's claims, and the identity that they name. Pure: no keys, no clock, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from flamecrest.server.errors import Denied, InsufficientScope, Unauthenticated

from .accounts import AccountRules
from .jws import EXPIRED, TYPES, invalid_token, loggable
from .port import Confirmation, Identity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .jws import Jws

_LATEST = 2.0**53  # seconds; beyond it a number of JSON is not exact
_ISSUED_AHEAD = 300.0  # seconds that the issuer's clock may be ahead of ours, for `iat` only
_UNLIMITED = 86400.0  # seconds that an opaque token without `exp` is taken to be valid; it is asked for again before
_MAX_TEXT = 255  # characters of `sub` and of the client's name
_CONFIRMATIONS = {"jkt", "x5t#S256"}


@dataclass(frozen=True, slots=True)
class ClusterAccounts:
    """How the user names of an issuer become accounts on one cluster; without a claim, the issuer's is used."""

    accounts: AccountRules
    username_claim: str | None = None


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """Requirements on a token's claims: checked are `iss` and `aud` if not empty. Times are in seconds.

    `username_claim`: the claim with the account, or a dotted path to it. `leeway`: how long a token is accepted after
    it has expired. `min_token_ttl`: how long it must still be valid; replaces `leeway` if it is not 0.
    `types`: types of the token (`typ` of the header, in lower case; "" for none). `scopes`: all must be among the
    token's. `bound`: refuse tokens that are not bound to a key. `clusters`: the rules of clusters with own accounts, by
    the cluster's name in lower case. `id_token_claims`: accept claims that only ID tokens should have, for issuers
    whose access tokens have them.
    """

    issuer: str = ""
    audience: frozenset[str] = frozenset()
    username_claim: str = "preferred_username"
    leeway: float = 10.0
    min_token_ttl: float = 0.0
    accounts: AccountRules = field(default_factory=AccountRules)
    id_token_claims: bool = False
    types: frozenset[str] = TYPES
    scopes: frozenset[str] = frozenset()
    bound: bool = False
    clusters: Mapping[str, ClusterAccounts] = field(default_factory=dict)

    def check(self, token: Jws, now: float) -> None:
        """Raise Unauthenticated unless the claims are those of an access token for this gateway, valid at `now`."""
        if token.typ not in self.types:
            raise invalid_token(f"the header's typ {loggable(token.typ)} is not one that is accepted")
        self.check_claims(token.claims, now, marked=token.typ == "at+jwt")

    def check_claims(self, claims: Mapping[str, Any], now: float, *, marked: bool) -> None:
        """The same for claims alone; `marked` if something else than the claims says that it is an access token."""
        self._check_times(claims, now)
        if self.issuer and claims.get("iss") != self.issuer:
            raise invalid_token(f"the issuer is {loggable(claims.get('iss'))}")
        if self.audience and not self.audience.intersection(_audience(claims)):
            raise invalid_token("the audience does not match")
        _check_kind(claims, marked=marked, id_token_claims=self.id_token_claims)
        if self.bound and "cnf" not in claims:
            raise invalid_token("the token is not bound to a key (cnf)")

    def of_introspection(self, answer: Mapping[str, Any], now: float) -> dict[str, Any]:
        """The claims of an opaque token from the issuer's answer about it, checked as those of any other token.

        The issuer has been asked itself, so that `iss` may be missing, and it watches the time, so that `exp` may be.
        Raises Unauthenticated for the claims, and for a token that is not said to be an access token (`token_type`).
        """
        claims = {"iss": self.issuer, "exp": now + _UNLIMITED, **answer}
        kind = claims.get("token_type")
        if not isinstance(kind, str) or kind.lower() not in {"bearer", "dpop"}:
            raise invalid_token(f"token_type is {loggable(kind)}")  # refresh tokens are active, too
        self.check_claims(claims, now, marked=True)
        return claims

    def usable_until(self, claims: Mapping[str, Any]) -> float:
        """When the token is no longer accepted: `exp` plus leeway or, if `min_token_ttl` is set, `exp` minus that."""
        expires: float = claims["exp"]
        return expires - self.min_token_ttl if self.min_token_ttl > 0 else expires + self.leeway

    def identity(self, claims: dict[str, Any], token: str) -> Identity:
        """The identity that verified and checked claims name.

        Raises Unauthenticated or Denied for an invalid name, and Denied if a required scope is missing.
        """
        if missing := self.scopes - scopes_of(claims):
            raise InsufficientScope(
                "The access token lacks a scope that is required",
                scopes=tuple(sorted(self.scopes)),
                detail=f"without the scope {loggable(min(missing))}",
            )
        username = self.accounts.account(_find(claims, self.username_claim))
        return Identity(
            username=username,
            subject=_text(claims, "sub"),
            issuer=_text(claims, "iss"),
            client=_text(claims, "azp") or _text(claims, "client_id"),
            expires=float(claims["exp"]),
            claims=MappingProxyType(claims),
            token=token,
            accounts=self._on_clusters(claims, username),
            confirmation=_confirmation(claims["cnf"]) if "cnf" in claims else None,
        )

    def _on_clusters(self, claims: Mapping[str, Any], username: str) -> Mapping[str, str | None]:
        """The accounts of Identity. A name that a cluster's rules refuse has no account on that cluster."""
        found: dict[str, str | None] = {}
        for cluster, rules in self.clusters.items():
            try:
                found[cluster] = rules.accounts.account(_find(claims, rules.username_claim or self.username_claim))
            except (Unauthenticated, Denied):
                found[cluster] = None
        return MappingProxyType({"": username, **found}) if found else found

    def _check_times(self, claims: Mapping[str, Any], now: float) -> None:
        for name in ("exp", "nbf", "iat"):
            value = claims.get(name, 0 if name != "exp" else None)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LATEST:
                raise invalid_token(f"{name} is missing or is not a timestamp")
        if now >= self.usable_until(claims):
            detail = f"expired: {claims['exp'] - now:.0f} s to `exp`"
            raise Unauthenticated(EXPIRED, detail=detail, code="invalid_token")
        if claims.get("nbf", 0) > now + self.leeway:
            raise invalid_token("not yet valid (nbf)")
        if claims.get("iat", 0) > now + self.leeway + _ISSUED_AHEAD:
            raise invalid_token("issued in the future (iat)")


def _check_kind(claims: Mapping[str, Any], *, marked: bool, id_token_claims: bool) -> None:
    """Refuse ID, refresh and logout tokens."""
    typ, use = claims.get("typ", "Bearer"), claims.get("token_use", "access")
    if not isinstance(typ, str) or typ.lower() not in {"bearer", "dpop", "jwt", "at+jwt"}:
        raise invalid_token(f"the claim typ is {loggable(typ)}")  # Keycloak: Bearer, DPoP, ID, Refresh, Offline, Logout
    if use not in ("access", "access_token"):
        raise invalid_token(f"the claim token_use is {loggable(use)}")  # Cognito: access, id; Hydra: access_token
    for name in ("events", *(() if id_token_claims else ("at_hash", "c_hash"))):
        if name in claims:
            raise invalid_token(f"access tokens have no claim {name}")
    marked = marked or any(name in claims for name in ("typ", "token_use", "scope", "scp"))
    if (
        "nonce" in claims and not marked and not id_token_claims
    ):  # older Keycloaks put a nonce into access tokens, too, but these are marked
        raise invalid_token("the claim nonce marks an ID token")


def _confirmation(cnf: object) -> Confirmation:
    """The key that a token is bound to; raises Unauthenticated for a binding that cannot be checked here."""
    if not isinstance(cnf, dict) or not cnf or not cnf.keys() <= _CONFIRMATIONS:
        raise invalid_token("the token is bound to a key in a way that is not supported (cnf)")
    if not all(isinstance(value, str) and 0 < len(value) <= _MAX_TEXT for value in cnf.values()):
        raise invalid_token("the claim cnf is malformed")
    return Confirmation(key=cnf.get("jkt"), certificate=cnf.get("x5t#S256"))


def scopes_of(claims: Mapping[str, Any]) -> frozenset[str]:
    """The scopes of a token: `scope` (RFC 9068) or `scp` (Entra ID, Okta), a text with spaces or a list."""
    found: set[str] = set()
    for name in ("scope", "scp"):
        value = claims.get(name)
        values = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
        found.update(one for one in values if isinstance(one, str))
    return frozenset(found)


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
