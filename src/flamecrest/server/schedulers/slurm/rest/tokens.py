"""The tokens that slurmrestd accepts: the caller's own, or those that the gateway makes with Slurm's jwt_hs256 key."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

import jwt

from flamecrest.server.errors import Denied

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity

LIFE: Final = 600.0  # seconds
_RENEWED_BEFORE: Final = 120.0  # seconds before its end: the request itself takes time, and clocks differ
_MAX_TOKENS: Final = 10_000
_CLOCKS: Final = 30.0  # seconds that the clock of the cluster may be behind


class Tokens(Protocol):
    """The source of the tokens that are sent to slurmrestd."""

    own: bool  # the caller's own

    def token(self, identity: Identity) -> str:
        """A token of the user. Raises Denied if there is none."""
        ...


class OwnTokens:
    """The token that the caller has sent: slurmrestd trusts its issuer (`AuthAltParameters=jwks=…` of Slurm)."""

    own = True

    def token(self, identity: Identity) -> str:
        """The caller's token; see the port."""
        if not identity.token:
            raise Denied("slurmrestd needs the user's own token, which this request does not have")
        return identity.token


class SignedTokens:
    """Tokens of a short life, made with Slurm's key and kept until they nearly expire.

    `clock` returns seconds since the epoch.
    """

    own = False

    def __init__(self, key: bytes, *, clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._clock = clock
        self._made: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def token(self, identity: Identity) -> str:
        """A token for the account of the user."""
        user, now = identity.username, self._clock()
        token, expires = self._made.get(user, ("", 0.0))
        if expires - now < _RENEWED_BEFORE:
            expires = now + LIFE
            claims = {"sun": user, "iat": int(now - _CLOCKS), "exp": int(expires)}
            token = jwt.encode(claims, self._key, algorithm="HS256")
            self._made[user] = token, expires
            while len(self._made) > _MAX_TOKENS:
                self._made.popitem(last=False)
        return token

    def __repr__(self) -> str:
        return "<SignedTokens>"
