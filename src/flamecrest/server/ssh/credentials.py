"""How the gateway logs in as a user: the Credentials port, and static keys."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import asyncssh

from flamecrest.server.errors import Denied, Upstream

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity
    from flamecrest.server.deadline import Deadline


class Credentials(Protocol):
    """Where keys and certificates of users come from."""

    async def keys(self, identity: Identity, deadline: Deadline) -> Sequence[asyncssh.SSHKeyPair]:
        """Key pairs to offer for this user; Denied when there are none, Upstream when they can't be had."""
        ...


@dataclass(frozen=True, slots=True)
class StaticKey:
    """A private key as text in any format asyncssh reads, with its certificate and passphrase where it has them."""

    private_key: str = field(repr=False)
    certificate: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)


class StaticCredentials:
    """One configured key a user. A key is read when it is first used: a wrong one hurts its user only."""

    def __init__(self, keys: Mapping[str, StaticKey]) -> None:
        self._keys = dict(keys)
        self._loaded: dict[str, Sequence[asyncssh.SSHKeyPair]] = {}

    async def keys(self, identity: Identity, deadline: Deadline) -> Sequence[asyncssh.SSHKeyPair]:
        user = identity.username
        loaded = self._loaded.get(user)
        if loaded is None:
            key = self._keys.get(user)
            if key is None:
                raise Denied(f"No SSH key is configured for user {user}")
            async with deadline.enforce("Reading the SSH key"):
                # decrypting a key is made slow on purpose (bcrypt): not on the event loop
                loaded = await asyncio.to_thread(_load, user, key)
            self._loaded[user] = loaded
        return loaded


def _load(user: str, key: StaticKey) -> Sequence[asyncssh.SSHKeyPair]:
    try:
        private = asyncssh.import_private_key(key.private_key, key.passphrase)
        if key.certificate is None:
            return asyncssh.load_keypairs([private])
        return asyncssh.load_keypairs([(private, asyncssh.import_certificate(key.certificate))])
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError) as error:
        # asyncssh's own words name formats and ciphers, never the key
        raise Upstream(
            f"The SSH key configured for user {user} can't be read", detail=f"{type(error).__name__}: {error}"
        ) from None
