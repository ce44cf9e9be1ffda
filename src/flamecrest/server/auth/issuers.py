"""Authenticator for the tokens of several issuers: a token is validated by the rules and keys of its own issuer only.

It chooses the issuer by the claim `iss`, which nothing has verified yet; the chosen issuer's authenticator verifies it.
"""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING, Self

from .jws import invalid_token, is_jws, loggable, parse
from .oidc import AuthenticatorStats, OidcAuthenticator, read_authorization

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flamecrest.server.deadline import Deadline

    from .port import Identity, RequestProof
    from .possession import Possession


class TrustedIssuers:
    """The authenticators of all issuers, by their identifier (`iss`), which share `possession`.

    Use it as a context manager, which enters all of them. At most one of them may introspect opaque tokens: these do
    not say who has issued them, and must not be shown to another issuer. Raises ValueError if there are more.
    """

    def __init__(self, issuers: Mapping[str, OidcAuthenticator], possession: Possession) -> None:
        self._issuers = dict(issuers)
        self.all = tuple(self._issuers.values())
        self._possession = possession
        opaque = [one for one in self.all if one.introspects_opaque]
        if len(opaque) > 1:
            raise ValueError("more than one issuer introspects opaque tokens")
        self._opaque = opaque[0] if opaque else None

    async def __aenter__(self) -> Self:
        for one in self.all:
            await one.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for one in self.all:
            await one.__aexit__(*exc)

    async def authenticate(
        self, authorization: str | None, deadline: Deadline, proof: Callable[[], RequestProof] | None = None
    ) -> Identity:
        """Validate the value of an Authorization header; see Authenticator."""
        scheme, token = read_authorization(authorization)
        for one in self.all:
            if (identity := one.cached(token)) is not None:
                break
        else:
            identity = await self._choose(token).validate(token, deadline, proof)
        if identity.confirmation is not None or scheme != "bearer":
            self._possession.check(identity.confirmation, scheme, token, proof)
        return identity

    def _choose(self, token: str) -> OidcAuthenticator:
        if self._opaque is not None and not is_jws(token):
            return self._opaque
        named = parse(token).claims.get("iss")
        found = self._issuers.get(named) if isinstance(named, str) else None
        if found is None:
            raise invalid_token(f"the issuer is {loggable(named)}")
        return found

    def has_keys(self) -> bool:
        """Whether the tokens of any issuer can be validated."""
        return any(one.has_keys() for one in self.all)

    def stats(self) -> AuthenticatorStats:
        """The sums of all issuers' counters and gauges."""
        return AuthenticatorStats(*map(sum, zip(*(astuple(one.stats()) for one in self.all), strict=True)))

    def __repr__(self) -> str:
        return f"<TrustedIssuers {', '.join(map(repr, self.all))}>"
