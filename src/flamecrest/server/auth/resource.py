"""What clients may know of how the gateway authenticates them (RFC 9728)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProtectedResource:
    """The gateway as a protected resource: the issuers' identifiers, and the scopes that tokens may or must have.

    `bound_only`: every token must be bound to a key of its sender. `client_certificate_header`: the header with the
    client's TLS certificate, which counts in requests from a trusted proxy only.
    """

    issuers: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    bound_only: bool = False
    client_certificate_header: str | None = None
