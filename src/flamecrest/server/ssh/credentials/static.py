"""Keys from the configuration, one for each user."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import asyncssh

from flamecrest.server.ssh.errors import CredentialsFailed, CredentialsRefused

from .certificates import Certificate, inspect
from .port import Credential, fingerprint

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity
    from flamecrest.server.deadline import Deadline

_PUBLIC: Final = re.compile(r"(ssh-|ecdsa-|sk-)[!-~]+ AAAA|---- BEGIN SSH2 PUBLIC|-----BEGIN [A-Z ]*PUBLIC")


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
        self._loaded: dict[str, tuple[Sequence[asyncssh.SSHKeyPair], Certificate | None]] = {}

    async def obtain(self, identity: Identity, deadline: Deadline, max_age: float) -> Credential:  # noqa: ARG002 - the key is always current
        """The user's key. CredentialsRefused if none is configured, CredentialsFailed if it can't be read."""
        user = identity.username
        loaded = self._loaded.get(user)
        if loaded is None:
            key = self._keys.get(user)
            if key is None:
                raise CredentialsRefused(f"No SSH key is configured for user {user}")
            async with deadline.enforce("Reading the SSH key"):
                # decryption of a key is slow by design (bcrypt), so it runs in a thread
                loaded = await asyncio.to_thread(_load, user, key)
            self._loaded[user] = loaded
        pairs, certificate = loaded
        return Credential(pairs, fingerprint([pair.public_data for pair in pairs]), time.monotonic(), certificate)

    def unreadable(self) -> Iterator[tuple[str, str]]:
        """The users whose key can't be read, and why. It decrypts keys, which takes a fraction of a second for each."""
        for user, key in self._keys.items():
            try:
                _load(user, key)
            except CredentialsFailed as error:
                yield user, error.detail or error.public


def _load(user: str, key: StaticKey) -> tuple[Sequence[asyncssh.SSHKeyPair], Certificate | None]:
    try:
        private = asyncssh.import_private_key(key.private_key, key.passphrase)
        if key.certificate is None:
            return asyncssh.load_keypairs([private]), None
        pairs = asyncssh.load_keypairs([(private, asyncssh.import_certificate(key.certificate))])
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError) as error:
        raise CredentialsFailed(
            f"The SSH key configured for user {user} can't be read", detail=_reason(key, error)
        ) from None
    return pairs, _facts(key.certificate)


def _reason(key: StaticKey, error: Exception) -> str:
    """Why a key can't be read. asyncssh's messages name formats and ciphers, never the key."""
    if _PUBLIC.match(key.private_key.lstrip()):
        return "it is a public key: give the private one"
    if key.passphrase is None and "Passphrase must be specified" in str(error):
        return "it is encrypted: set `passphrase`"
    return f"{type(error).__name__}: {error}"


def _facts(certificate: str) -> Certificate | None:
    """What the audit needs of a certificate; None of a certificate in a format that only asyncssh reads (X.509)."""
    try:
        return inspect(certificate)
    except ValueError:
        return None
