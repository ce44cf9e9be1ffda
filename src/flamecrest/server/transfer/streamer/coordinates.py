"""Coordinates: where a streamer's job may listen, the secret that it asks for, and how its certificate is recognized.

firecrest-streamer reads `ports`, `ips` and `secret`, and ignores what else there is.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Coordinates:
    """`ports` are the first and the last one; `certificate` is the SHA-256 of the job's certificate (DER), in hex.

    A job without a certificate is one of firecrest-streamer: it has neither TLS nor the protocol of parts.
    """

    addresses: Sequence[str]
    ports: tuple[int, int]
    secret: str = field(repr=False)
    certificate: str | None = None

    def encoded(self) -> str:
        """The text that clients are given."""
        value: dict[str, Any] = {"ports": list(self.ports), "ips": list(self.addresses), "secret": self.secret}
        if self.certificate is not None:
            value["certificate"] = self.certificate
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()

    @classmethod
    def decoded(cls, text: str) -> Coordinates:
        """The coordinates in a text. Raises ValueError."""
        try:
            value = json.loads(base64.urlsafe_b64decode(text.strip()))
            first, last = value["ports"]
            addresses, secret, certificate = value["ips"], value["secret"], value.get("certificate")
        except (binascii.Error, ValueError, KeyError, TypeError, AttributeError):
            raise ValueError("invalid coordinates") from None
        texts = [*addresses, secret, *([] if certificate is None else [certificate])]
        if not all(isinstance(text, str) for text in texts) or not all(
            isinstance(port, int) and 0 < port < 65536 for port in (first, last)
        ):
            raise ValueError("invalid coordinates")
        return cls(tuple(addresses), (first, last), secret, certificate)
