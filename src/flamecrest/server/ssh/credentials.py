"""The keys with which the gateway logs in as a user: the Credentials port, and keys from the configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import asyncssh

from flamecrest.server.errors import Denied
from flamecrest.server.ssh.errors import CredentialsFailed

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity
    from flamecrest.server.deadline import Deadline


class Credentials(Protocol):
    """A source of keys and certificates for users."""

    async def keys(self, identity: Identity, deadline: Deadline) -> Sequence[asyncssh.SSHKeyPair]:
        """The key pairs to offer to the server. Denied if the user has none, Upstream if they cannot be obtained."""
        ...


@dataclass(frozen=True, slots=True)
class StaticKey:
    """A private key as text in any format that asyncssh reads, with its certificate and passphrase, if any."""

    private_key: str = field(repr=False)
    certificate: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)


class StaticCredentials:
    """One configured key for each user. A key is read at its first use, so a wrong one affects only its user."""

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
                # decryption of a key is slow by design (bcrypt), so it runs in a thread
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
        # asyncssh's messages name formats and ciphers, never the key
        raise CredentialsFailed(
            f"The SSH key configured for user {user} can't be read", detail=f"{type(error).__name__}: {error}"
        ) from None
