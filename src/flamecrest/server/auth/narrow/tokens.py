"""Narrow tokens: making, listing, revoking and authenticating them. A token's MAC covers its record and its name."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from flamecrest.server.auth.accounts import check_account
from flamecrest.server.auth.jws import EXPIRED, invalid_token
from flamecrest.server.auth.oidc import read_authorization
from flamecrest.server.auth.port import Confirmation, Identity
from flamecrest.server.errors import Busy, Denied, NotFound, Unauthenticated, Unavailable

from .restriction import Restriction
from .store import NAME

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Authenticator, RequestProof
    from flamecrest.server.auth.possession import Possession
    from flamecrest.server.deadline import Deadline

    from .store import Stored, TokenFolder

log = logging.getLogger(__name__)

PREFIX: Final = "fct_"
_MAX_TOKEN = 256  # characters


@dataclass(frozen=True, slots=True)
class NarrowToken:
    """A token as its owner sees it. Times are in seconds since the epoch; `uses` is None for any number."""

    id: str
    description: str
    restriction: Restriction
    created: float
    expires: float
    uses: int | None
    used: int
    revoked: bool


class NarrowTokens:
    """The tokens of all users. `longest` is in seconds; `most` is the number of tokens of one owner at a time."""

    def __init__(
        self,
        folder: TokenFolder,
        key: bytes,
        *,
        longest: float,
        most: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._key = key
        self._longest = longest
        self._most = most
        self._clock = clock

    async def issue(
        self, identity: Identity, restriction: Restriction, *, life: float, uses: int | None, description: str
    ) -> tuple[NarrowToken, str]:
        """Make a token of the caller; its record and the token itself, which is not kept.

        If the caller's own token is bound to a key, so is the new one: otherwise a copy of it would need no key.
        `life` in seconds is shortened to the longest. Raises Denied for a caller with a narrow token, Busy if the
        caller has too many tokens, and Unavailable if the folder cannot be written.
        """
        _refuse_narrow(identity)
        now, owner, name = self._clock(), owner_of(identity), secrets.token_urlsafe(16)
        record = {
            "id": name,
            "username": identity.username,
            "accounts": dict(identity.accounts),
            "subject": identity.subject,
            "issuer": identity.issuer,
            "client": identity.client,
            "claims": dict(identity.claims),
            "confirmation": None if identity.confirmation is None else asdict(identity.confirmation),
            "description": description,
            "restriction": restriction.shown(),
            "created": now,
            "expires": now + min(life, self._longest),
            "uses": uses,
        }
        written = json.dumps(record).encode()
        await self._blocking(self._add, owner, name, written)
        return _token(record, used=0, revoked=False), f"{PREFIX}{owner}.{name}.{self._mac(owner, name, written)}"

    async def owned(self, identity: Identity) -> list[NarrowToken]:
        """The caller's tokens that have not expired, the newest first."""
        _refuse_narrow(identity)
        now = self._clock()
        stored: list[Stored] = await self._blocking(self._folder.owned, owner_of(identity))
        found = [_token(json.loads(one.record), used=one.used, revoked=one.revoked) for one in stored]
        return sorted((one for one in found if one.expires > now), key=lambda one: -one.created)

    async def revoke(self, identity: Identity, name: str) -> None:
        """End a token of the caller at once. Raises NotFound."""
        _refuse_narrow(identity)
        known = NAME.fullmatch(name) and await self._blocking(self._folder.revoke, owner_of(identity), name)
        if not known:
            raise NotFound("Token not found")

    async def identity(
        self, token: str, prove: Callable[[Confirmation | None], None] | None = None, *, count: bool = True
    ) -> Identity:
        """The identity that a token stands for; `count`s a use. Raises Unauthenticated, Unavailable, Busy.

        `prove` raises Unauthenticated unless the request proves the key that the token is bound to; without `prove`,
        tokens that are bound to a key are refused.
        """
        parts = token.removeprefix(PREFIX).split(".")
        if len(token) > _MAX_TOKEN or len(parts) != 3 or not all(NAME.fullmatch(part) for part in parts):
            raise invalid_token("a malformed token of the gateway")
        owner, name, mac = parts
        stored: Stored | None = await self._blocking(self._folder.read, owner, name)
        if stored is None or not hmac.compare_digest(mac, self._mac(owner, name, stored.record)):
            raise invalid_token("a token of the gateway that is not known or not signed by its key")
        record: dict[str, Any] = json.loads(stored.record)
        if stored.revoked:
            raise _ended("Access token is revoked.", name)
        if self._clock() >= record["expires"]:
            raise _ended(EXPIRED, name)
        identity, uses = _identity(record), record["uses"]
        if prove is not None:
            prove(identity.confirmation)
        elif identity.confirmation is not None:
            raise invalid_token(f"the token {name} of the gateway is bound to a key, which is not proven here")
        if uses is not None and not (
            await self._blocking(self._folder.use, owner, name, uses, stored.used) if count else stored.used < uses
        ):
            raise _ended(f"All {uses} uses of the access token are spent.", name)
        return identity

    def _add(self, owner: str, name: str, record: bytes) -> None:
        kept = 0
        for one in self._folder.owned(owner):
            if json.loads(one.record)["expires"] <= self._clock():
                self._folder.remove(owner, one.id)
            elif not one.revoked:
                kept += 1
        if kept >= self._most:
            raise Busy(f"You have {kept} tokens: revoke one, or wait until one expires", retry_after=60)
        self._folder.create(owner, name, record)

    def _mac(self, owner: str, name: str, record: bytes) -> str:
        text = f"flamecrest narrow token\n{owner}\n{name}\n".encode() + record
        return _base64url(hmac.digest(self._key, text, "sha256"))

    async def _blocking(self, work: Callable[..., Any], *args: Any) -> Any:
        try:
            return await asyncio.to_thread(work, *args)
        except OSError as error:
            detail = f"the folder of tokens: {error.strerror or type(error).__name__}"
            raise Unavailable("Tokens of the gateway are not available at the moment", detail=detail) from None


class WithNarrowTokens:
    """An authenticator for narrow tokens and for those of issuers. `possession` checks the proofs of bound tokens."""

    def __init__(self, issuers: Authenticator, tokens: NarrowTokens, possession: Possession) -> None:
        self._issuers = issuers
        self._tokens = tokens
        self._possession = possession

    async def authenticate(
        self, authorization: str | None, deadline: Deadline, proof: Callable[[], RequestProof] | None = None
    ) -> Identity:
        """Validate the value of an Authorization header; see Authenticator."""
        if authorization is None or PREFIX not in authorization[:16]:
            return await self._issuers.authenticate(authorization, deadline, proof)
        scheme, token = read_authorization(authorization)
        if not token.startswith(PREFIX):
            return await self._issuers.authenticate(authorization, deadline, proof)

        def prove(bound: Confirmation | None) -> None:
            if bound is not None or scheme != "bearer":
                self._possession.check(bound, scheme, token, proof)

        return await self._tokens.identity(token, prove)


def owner_of(identity: Identity) -> str:
    """A name for the owner of tokens: a digest of issuer, subject and account."""
    text = json.dumps([identity.issuer, identity.subject, identity.username]).encode()
    return _base64url(hashlib.sha256(text).digest())[:32]


def _refuse_narrow(identity: Identity) -> None:
    if identity.restriction is not None:
        raise Denied("A token of the gateway cannot make, list or revoke tokens")


def _token(record: dict[str, Any], *, used: int, revoked: bool) -> NarrowToken:
    return NarrowToken(
        record["id"],
        record["description"],
        Restriction.read(record["restriction"]),
        record["created"],
        record["expires"],
        record["uses"],
        used,
        revoked,
    )


def _identity(record: dict[str, Any]) -> Identity:
    """The owner with the restriction. `jti` names both tokens, for the audit; the owner's own token is not there."""
    claims = record["claims"] | {"jti": f"{record['claims'].get('jti', '')}/{record['id']}"}
    bound = record.get("confirmation")  # tokens of older versions have none
    return Identity(
        username=check_account(record["username"]),
        subject=record["subject"],
        issuer=record["issuer"],
        client=record["client"],
        expires=record["expires"],
        claims=MappingProxyType(claims),
        accounts=MappingProxyType(record["accounts"]),
        confirmation=None if bound is None else Confirmation(**bound),
        restriction=Restriction.read(record["restriction"]),
    )


def _ended(public: str, name: str) -> Unauthenticated:
    """The error for a token whose MAC is right: the caller has it, and may know why it is refused."""
    return Unauthenticated(public, detail=f"the token {name} of the gateway", code="invalid_token")


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
