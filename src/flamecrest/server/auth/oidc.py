"""Bearer tokens of an OpenID Connect issuer, validated here, without asking the issuer about any of them.

It joins the parts (text, claims, keys, cache) and knows no HTTP, no settings and no cluster.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from .cache import TokenCache
from .claims import Rules
from .jws import bearer, parse, refused, shown
from .key_sources import sources
from .keyring import KeyRing
from .keys import ALGORITHMS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import httpx

    from flamecrest.server.deadline import Deadline

    from .jws import Jws
    from .keys import Key
    from .port import Identity


@dataclass(frozen=True, slots=True)
class Stats:
    """What an authenticator has done and holds."""

    hits: int  # requests answered from the cache
    verifications: int  # signatures that were computed
    accepted: int  # tokens found good and put into the cache
    cached: int  # tokens in the cache now
    keys: int
    fetches: int  # documents of keys asked for


class OidcAuthenticator:
    """Trusts the tokens of one issuer. Use it as a context manager, so that keys are renewed in the background.

    Keys come from `public_certs` (http, https and file URLs, or paths, of a JWKS, a JWK, or PEM public keys and
    certificates), else from the place that the discovery document of `issuer` names. `issuer` and `audience`
    are checked when given. `username_claim` names the claim with the account, or is a dotted path to it.
    `algorithms` allows only these of what the keys can do; `jwk_algorithm` pins keys that name none. A token is
    accepted up to `leeway` seconds after it has expired or, where `min_token_ttl` is given, only while that
    many seconds are left. Keys are renewed every `refresh` seconds or sooner. `clock` tells the time of day,
    `monotonic` measures spans. A mistake in the arguments is a ValueError.
    """

    def __init__(
        self,
        *,
        http: httpx.AsyncClient,
        public_certs: Sequence[str] = (),
        issuer: str = "",
        audience: Sequence[str] = (),
        username_claim: str = "preferred_username",
        algorithms: Sequence[str] | None = None,
        jwk_algorithm: str | None = None,
        leeway: float = 10.0,
        min_token_ttl: float = 0.0,
        refresh: float = 600.0,
        cache_size: int = 10_000,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        wrong = {*(algorithms or ()), *([jwk_algorithm] if jwk_algorithm else [])} - ALGORITHMS
        if wrong:
            raise ValueError(f"not an algorithm for tokens: {', '.join(sorted(wrong))}; known: {sorted(ALGORITHMS)}")
        self._algorithms = frozenset(algorithms) if algorithms else ALGORITHMS
        self._rules = Rules(
            issuer=issuer,
            audience=frozenset([audience] if isinstance(audience, str) else audience),
            username_claim=username_claim,
            leeway=leeway,
            min_token_ttl=min_token_ttl,
        )
        places = sources(public_certs, issuer, http)
        self._exposed = [place.name for place in places if place.exposed]
        self._ring = KeyRing(places, default_algorithm=jwk_algorithm, refresh=refresh, monotonic=monotonic)
        self._cache = TokenCache(self._ring, cache_size)
        self._clock = clock
        self._hits = self._verifications = self._accepted = 0

    async def __aenter__(self) -> Self:
        await self._ring.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._ring.__aexit__(*exc)

    async def authenticate(self, authorization: str | None, deadline: Deadline) -> Identity:
        """Validate the value of an Authorization header: Unauthenticated, Denied (root), or Unavailable."""
        token = bearer(authorization)
        identity = self._cache.get(token, self._clock())
        if identity is not None:
            self._hits += 1
            return identity
        return await self._validate(token, deadline)

    async def fetch_keys(self, deadline: Deadline) -> int:
        """Ask for the keys (not more often than a token can), and tell how many there are.

        Unavailable unless every source could be read; its detail says which could not, and why.
        """
        await self._ring.renew(deadline)
        excuse = self._ring.excuse()
        if excuse is not None:
            raise excuse
        return len(self._ring.keys.all)

    def gaps(self) -> list[str]:
        """What this configuration leaves open, a sentence each: to be said at the start."""
        found = []
        if not self._rules.issuer:
            found.append("The issuer of tokens is not checked: any token signed with one of the keys is accepted.")
        if not self._rules.audience:
            found.append("The audience of tokens is not checked: tokens made for other services are accepted.")
        found += [f"The keys at {name} come over an unprotected connection." for name in self._exposed]
        return found

    def stats(self) -> Stats:
        """What it has done so far."""
        return Stats(
            hits=self._hits,
            verifications=self._verifications,
            accepted=self._accepted,
            cached=len(self._cache),
            keys=len(self._ring.keys.all),
            fetches=self._ring.fetches,
        )

    async def _validate(self, token: str, deadline: Deadline) -> Identity:
        jws = parse(token)
        if jws.algorithm not in self._algorithms:
            raise refused(f"the algorithm {shown(jws.algorithm)} is not allowed")
        key = self._signer(jws)
        if key is None and not self._ring.keys.has(jws.kid):
            self._rules.check(jws, self._clock())  # what would be refused anyway is no reason to ask the issuer
            await self._ring.renew(deadline)
            key = self._signer(jws)
            excuse = self._ring.excuse()
            if key is None and excuse is not None:
                raise excuse
        if key is None:
            raise refused(f"the signature fits no key (key {shown(jws.kid or '')}, {jws.algorithm})")
        now = self._clock()
        self._rules.check(jws, now)
        identity = self._rules.identity(jws.claims, token)
        self._accepted += 1
        self._cache.put(token, identity, until=self._rules.usable_until(jws.claims), key=key, now=now)
        return identity

    def _signer(self, jws: Jws) -> Key | None:
        for key in self._ring.keys.candidates(jws.kid, jws.algorithm):
            self._verifications += 1
            if key.verifies(jws.algorithm, jws.signed, jws.signature):
                return key
        return None

    def __repr__(self) -> str:
        return f"<OidcAuthenticator {self._ring!r} {self._cache!r} {self._verifications} verifications>"
