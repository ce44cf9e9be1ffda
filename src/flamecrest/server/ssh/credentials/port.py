"""The Credentials port, and the Credential that it returns."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import asyncssh

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity
    from flamecrest.server.deadline import Deadline

    from .certificates import Certificate


@dataclass(frozen=True, slots=True)
class Credential:
    """The key pairs of one login, in the order in which they are offered.

    `fingerprint` is the same for credentials that a server treats alike: of static keys that of their public parts,
    of certificates that of what they permit, because each has a new key. Times are monotonic, in seconds.
    """

    keys: Sequence[asyncssh.SSHKeyPair] = field(repr=False)
    fingerprint: bytes = field(repr=False)
    obtained: float  # when the source of credentials allowed the user to log in
    certificate: Certificate | None = None  # the serial number and key id are for the audit
    ends: float = float("inf")  # when a connection with this credential gets no new work


class Credentials(Protocol):
    """A source of credentials for users."""

    async def obtain(self, identity: Identity, deadline: Deadline, max_age: float) -> Credential:
        """The credential for a login, obtained at most `max_age` seconds ago.

        Raises CredentialsRefused if the user has none, CredentialsUnavailable if its source does not answer,
        CredentialsFailed if it cannot be used. Can be repeated.
        """
        ...


def fingerprint(parts: Sequence[bytes]) -> bytes:
    """A digest of these parts in this order."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(4) + part)
    return digest.digest()
