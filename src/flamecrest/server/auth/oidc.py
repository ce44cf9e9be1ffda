"""Authenticator for the access tokens of one OpenID Connect issuer; signed tokens are validated locally.

It combines parser, claim rules, keys and, if configured, introspection. Accepted tokens are cached until they expire;
the cache is bounded, and refusals are not cached. It knows no HTTP server, no settings and no cluster.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

from flamecrest.server.errors import Unauthenticated

from .claims import ClaimRules
from .jws import MAX_TOKEN, MISSING, invalid_token, is_jws, is_opaque, loggable, parse
from .key_sources import configured_sources
from .keyring import KeyRing
from .keys import ALGORITHMS
from .possession import Possession

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import httpx

    from flamecrest.server.deadline import Deadline

    from .introspection.endpoint import Introspection
    from .jws import Jws
    from .keys import Key
    from .port import Identity, RequestProof


_MAX_CHARACTERS = 16 * 1024 * 1024  # of all tokens together
_SWEEP_EVERY = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class AuthenticatorStats:
    """Counters and gauges of an authenticator."""

    hits: int  # tokens found in the cache
    verifications: int  # signatures verified
    accepted: int  # tokens accepted and put into the cache
    cached: int  # tokens in the cache now
    keys: int  # keys trusted now
    fetches: int  # reads of key sources
    introspections: int = 0  # requests to introspection endpoints


class OidcAuthenticator:
    """Accepts the tokens of one issuer. Use it as a context manager, so that keys are refreshed in the background.

    rules: what the claims must be, and the accounts that they name.
    public_certs: http, https and file URLs, or paths, of JWKS, JWK or PEM documents; if empty, keys are discovered
        from the issuer of the rules.
    algorithms: restricts the algorithms of the keys. EdDSA includes Ed25519 and Ed448.
    jwk_algorithm: algorithm of keys that name none.
    refresh: maximum seconds between two reads of the keys.
    max_key_age: seconds for which keys are trusted that could not be read again.
    introspection: the issuer's introspection endpoint, left with the authenticator.
    possession: checks the proofs of bound tokens; several issuers may share one.
    clock, monotonic: time in seconds since the epoch, and for intervals.

    Raises ValueError for invalid arguments.
    """

    def __init__(
        self,
        rules: ClaimRules,
        *,
        http: httpx.AsyncClient,
        public_certs: Sequence[str] = (),
        algorithms: Sequence[str] | None = None,
        jwk_algorithm: str | None = None,
        refresh: float = 600.0,
        max_key_age: float = 86400.0,
        introspection: Introspection | None = None,
        possession: Possession | None = None,
        cache_size: int = 10_000,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        wrong = {*(algorithms or ()), *([jwk_algorithm] if jwk_algorithm else [])} - ALGORITHMS
        if wrong:
            raise ValueError(f"unsupported algorithm: {', '.join(sorted(wrong))}; supported: {sorted(ALGORITHMS)}")
        self._algorithms = frozenset(algorithms) if algorithms else ALGORITHMS
        if "EdDSA" in self._algorithms:
            self._algorithms |= {"Ed25519", "Ed448"}
        self._rules = rules
        self.introspection = introspection
        self.introspects_opaque = introspection is not None and introspection.tokens != "jwt"
        self._possession = possession or Possession(max_age=60.0, clock=clock)
        sources = configured_sources(public_certs, rules.issuer, http)
        self.name = rules.issuer or sources[0].name
        self._ring = KeyRing(
            sources,
            default_algorithm=jwk_algorithm,
            refresh=refresh,
            max_age=max_key_age,
            monotonic=monotonic,
        )
        self._cache = TokenCache(self._ring, cache_size)
        self._clock = clock
        self._hits = self._verifications = self._accepted = 0

    async def __aenter__(self) -> Self:
        await self._ring.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._ring.__aexit__(*exc)
        if self.introspection is not None:
            await self.introspection.__aexit__(*exc)

    async def authenticate(
        self, authorization: str | None, deadline: Deadline, proof: Callable[[], RequestProof] | None = None
    ) -> Identity:
        """Validate the value of an Authorization header; see Authenticator."""
        scheme, token = read_authorization(authorization)
        identity = self._cache.get(token, self._clock())
        if identity is not None:
            self._hits += 1
        else:
            identity = await self.validate(token, deadline, proof)
        if identity.confirmation is not None or scheme != "bearer":
            self._possession.check(identity.confirmation, scheme, token, proof)
        return identity

    def cached(self, token: str) -> Identity | None:
        """The identity of a token that is cached, before its binding to a key is checked."""
        identity = self._cache.get(token, self._clock())
        if identity is not None:
            self._hits += 1
        return identity

    def has_keys(self) -> bool:
        """Whether tokens can be validated: a key was read, or tokens are introspected."""
        return self.introspection is not None or self._ring.has_keys()

    async def check(self, deadline: Deadline) -> None:
        """Read the issuer's keys now. Raises Unavailable if they cannot be read; those of before stay trusted."""
        await self._ring.check(deadline)

    def stats(self) -> AuthenticatorStats:
        """The counters and gauges as of now."""
        return AuthenticatorStats(
            hits=self._hits,
            verifications=self._verifications,
            accepted=self._accepted,
            cached=len(self._cache),
            keys=len(self._ring.keys.all),
            fetches=self._ring.fetches,
            introspections=0 if self.introspection is None else self.introspection.requests,
        )

    async def validate(
        self, token: str, deadline: Deadline, proof: Callable[[], RequestProof] | None = None
    ) -> Identity:
        """Validate a token that is not cached, without its binding to a key; see Authenticator."""
        if self.introspects_opaque and not is_jws(token):
            return await self._introspect(token, deadline, "" if proof is None else proof().network)
        jws = parse(token)
        key = await self._key(jws, deadline)
        now = self._clock()
        self._rules.check(jws, now)
        identity = self._rules.identity(jws.claims, token)
        until = self._rules.usable_until(jws.claims)
        if self.introspection is not None and self.introspection.tokens != "opaque":
            if await self.introspection.ask(token, deadline, signed=True) is None:
                raise invalid_token("the issuer says that the token is not active")
            until = min(until, now + self.introspection.life)
        self._accepted += 1
        self._cache.put(token, identity, until=until, key=key, now=now)
        return identity

    async def _key(self, jws: Jws, deadline: Deadline) -> Key:
        """The key that verifies the signature. Raises Unauthenticated if there is none, Unavailable."""
        if jws.algorithm not in self._algorithms:
            raise invalid_token(f"the algorithm {loggable(jws.algorithm)} is not allowed")
        key = self._signer(jws)
        if key is None and not self._ring.keys.has(jws.kid):
            self._rules.check(jws, self._clock())  # a token that would be refused anyway must not cause a fetch
            read = await self._ring.renew(deadline)
            key = self._signer(jws)
            unavailable = self._ring.unavailable(read=read)
            if key is None and unavailable is not None:
                raise unavailable
        if key is None:
            raise invalid_token(f"no key verifies the signature (kid {loggable(jws.kid or '')}, {jws.algorithm})")
        return key

    async def _introspect(self, token: str, deadline: Deadline, network: str) -> Identity:
        """Ask the issuer what an opaque token says."""
        assert self.introspection is not None  # noqa: S101 -- checked by the caller
        if not is_opaque(token):
            raise invalid_token("neither a compact JWS nor an opaque token")
        asked = self._clock()
        answer = await self.introspection.ask(token, deadline, network=network)
        if answer is None:
            raise invalid_token("the issuer says that the token is not active")
        now = self._clock()
        claims = self._rules.of_introspection(answer, now)
        identity = self._rules.identity(claims, token)
        until = min(self._rules.usable_until(claims), asked + self.introspection.life)  # it may have waited for long
        self._accepted += 1
        self._cache.put(token, identity, until=until, key=None, now=now)
        return identity

    def _signer(self, jws: Jws) -> Key | None:
        for key in self._ring.keys.candidates(jws.kid, jws.algorithm):
            self._verifications += 1
            if key.verifies(jws.algorithm, jws.signed, jws.signature):
                return key
        return None

    def __repr__(self) -> str:
        return f"<OidcAuthenticator {self._ring!r} {self._cache!r} {self._verifications} verifications>"


class _Entry(NamedTuple):
    until: float
    generation: int  # of the key ring when the key was last found in it
    identity: Identity
    key: Key | None  # None: the issuer was asked about the token


class TokenCache:
    """Least-recently-used cache of accepted tokens. An entry is valid until it expires or its key is removed."""

    def __init__(self, ring: KeyRing, size: int) -> None:
        self._ring = ring
        self._size = size
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._characters = 0
        self._swept = 0.0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, token: str, now: float) -> Identity | None:
        """The identity of a cached token; None if the token is not cached, has expired or has lost its key.

        `now` is in seconds since the epoch.
        """
        entry = self._entries.get(token)
        if entry is None:
            return None
        if now >= entry.until:
            self._drop(token)
            return None
        if entry.generation != self._ring.generation:
            if entry.key is not None and entry.key not in self._ring.keys.all:
                self._drop(token)
                return None
            self._entries[token] = entry._replace(generation=self._ring.generation)
        self._entries.move_to_end(token)
        return entry.identity

    def put(self, token: str, identity: Identity, *, until: float, key: Key | None, now: float) -> None:
        """Add an accepted token; the least recently used tokens are dropped when the cache is full."""
        if abs(now - self._swept) >= _SWEEP_EVERY:
            self._sweep(now)
        if token in self._entries:
            self._drop(token)
        self._entries[token] = _Entry(until, self._ring.generation, identity, key)
        self._characters += len(token)
        while len(self._entries) > self._size or self._characters > _MAX_CHARACTERS:
            oldest, _ = self._entries.popitem(last=False)
            self._characters -= len(oldest)

    def _sweep(self, now: float) -> None:
        """Drop expired tokens and those of removed keys: a cache that never fills up would keep them for ever."""
        self._swept = now
        trusted = self._ring.keys.all
        ended = [t for t, e in self._entries.items() if now >= e.until or (e.key is not None and e.key not in trusted)]
        for token in ended:
            self._drop(token)

    def _drop(self, token: str) -> None:
        del self._entries[token]
        self._characters -= len(token)

    def __repr__(self) -> str:
        return f"<TokenCache {len(self._entries)} of {self._size} tokens, {self._characters} characters>"


def read_authorization(authorization: str | None) -> tuple[str, str]:
    """Scheme, `bearer` or `dpop`, and token of an Authorization header; raises Unauthenticated if there is none."""
    if not authorization:
        raise Unauthenticated(MISSING, detail="no Authorization header")
    scheme, _, token = authorization.partition(" ")
    scheme, token = scheme.lower(), token.strip(" ")
    if scheme not in {"bearer", "dpop"} or not token:
        raise Unauthenticated(MISSING, detail="the Authorization header has neither `Bearer` nor `DPoP` with a token")
    if len(token) > MAX_TOKEN:
        raise invalid_token("the token is too long")
    return scheme, token
