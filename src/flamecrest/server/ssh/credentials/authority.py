"""Certificates that the gateway signs itself: a new key pair and a short-lived certificate for each login."""

from __future__ import annotations

import logging
import math
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncssh

from flamecrest.server.errors import GatewayError
from flamecrest.server.ssh.errors import CredentialsFailed, CredentialsUnavailable

from .certificates import Request, Signer, inspect, issue
from .port import Credential, fingerprint

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity
    from flamecrest.server.deadline import Deadline

logger = logging.getLogger(__name__)

MAX_KEY_ID = 256  # characters


@dataclass(frozen=True, slots=True)
class CertificateRules:
    """What certificates permit; times in seconds.

    `principals` and `key_id` are templates with {user} and {cluster}, `key_id` also with {subject}, {issuer}, {client}.
    """

    validity: float = 300.0
    backdate: float = 60.0  # certificates are valid from this long before their issue: clocks differ
    principals: Sequence[str] = ("{user}",)
    key_id: str = "flamecrest {user} {client}"
    source_address: Sequence[str] = ()
    force_command: str | None = None
    extensions: Sequence[str] = ()
    ends_connections: bool = False


class AuthorityCredentials:
    """Certificates for the logins to one cluster, by each of the authority's keys (two while one replaces the other).

    Each login has a new Ed25519 key, which is never written anywhere. The certificates of one login have one serial
    number, so that the audit names it whichever key the server trusts.
    """

    def __init__(
        self,
        signers: Sequence[Signer],
        rules: CertificateRules,
        cluster: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._signers = tuple(signers)
        self._rules = rules
        self._cluster = cluster
        self._clock = clock

    async def obtain(self, identity: Identity, deadline: Deadline, max_age: float) -> Credential:  # noqa: ARG002 - a new one for each login
        """See port.Credentials. A key that does not sign is left out as long as another one does."""
        key = asyncssh.generate_private_key("ssh-ed25519")
        request = self._request(identity, key.public_data)
        obtained, texts, failure = time.monotonic(), [], None
        async with deadline.enforce("Signing the SSH certificate"):
            for signer in self._signers:
                try:
                    texts.append(await issue(request, signer))
                except GatewayError as error:
                    failure = error
                    fields = {"reason": error.public, "detail": error.detail}
                    logger.warning("a key of the SSH certificate authority does not sign", extra={"fields": fields})
        if not texts:
            raise failure or CredentialsUnavailable("The SSH certificate authority has no key")
        certificates = [inspect(text) for text in texts]
        return Credential(
            [pair for text in texts for pair in pairs(key, text)],
            fingerprint([part for certificate in certificates for part in certificate.permits()]),
            obtained,
            certificates[0],
            obtained + self._rules.validity if self._rules.ends_connections else float("inf"),
        )

    def _request(self, identity: Identity, public_key: bytes) -> Request:
        rules, now = self._rules, self._clock()
        values = {
            "user": identity.username,
            "cluster": self._cluster,
            "subject": identity.subject,
            "issuer": identity.issuer,
            "client": identity.client,
        }
        return Request(
            public_key,
            serial_number(now),
            printable(fill(rules.key_id, values)),
            # of principals only {user} and {cluster}, which have been checked: an issuer chooses the others freely
            [fill(name, {"user": values["user"], "cluster": values["cluster"]}) for name in rules.principals],
            math.floor(now - rules.backdate),
            math.ceil(now + rules.validity),
            rules.force_command,
            rules.source_address,
            rules.extensions,
        )


def serial_number(now: float) -> int:
    """A serial number that grows with time: milliseconds since the epoch, and 20 random bits.

    So those of several replicas differ, and a revocation list can name a span of time (`serial: 1-2`).
    """
    return (round(now * 1000) << 20) | secrets.randbits(20)


def fill(template: str, values: dict[str, str]) -> str:
    """A template with its placeholders replaced; what is filled in is not read as a template."""
    return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], template)


def printable(text: str) -> str:
    """A key id as sshd may write it to its log: printable ASCII of limited length, without needless spaces."""
    return re.sub(r"[^\x20-\x7e]", "?", " ".join(text.split()))[:MAX_KEY_ID].rstrip()


def pairs(key: asyncssh.SSHKey, certificate: str) -> list[asyncssh.SSHKeyPair]:
    """The key pair with its certificate, alone: the bare key would cost one of the server's `MaxAuthTries`.

    Raises CredentialsFailed if they don't belong together.
    """
    try:
        loaded = asyncssh.load_keypairs([(key, asyncssh.import_certificate(certificate))])
    except (asyncssh.KeyImportError, ValueError) as error:
        raise CredentialsFailed("The SSH certificate can't be used", detail=f"{error}") from None
    found = [pair for pair in loaded if pair.has_cert]
    if not found:
        raise CredentialsFailed("The SSH certificate is of another key")
    return found
