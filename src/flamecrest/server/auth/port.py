"""Ports of authentication and authorization, and the Identity that they exchange."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flamecrest.server.deadline import Deadline


class Verb(StrEnum):
    """Kind of operation on a cluster, as the authorizer knows it."""

    STATUS = "status"
    JOBS_READ = "jobs:read"
    JOBS_SUBMIT = "jobs:submit"
    FILES_READ = "files:read"
    FILES_WRITE = "files:write"
    TRANSFER = "transfer"


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller, as named by the token."""

    username: str  # account on the clusters, checked by accounts.check_account
    subject: str = ""
    issuer: str = ""
    client: str = ""  # OAuth2 client that the token was issued to
    expires: float = 0.0  # seconds since the epoch
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False, hash=False)
    token: str = field(default="", repr=False, compare=False)  # for services that need the caller's own token


class Authenticator(Protocol):
    """Authenticates the caller by the Authorization header."""

    async def authenticate(self, authorization: str | None, deadline: Deadline) -> Identity:
        """Validate the value of an Authorization header (None if the request has none).

        Raises Unauthenticated (its text contains nothing of the token), Denied for the account root, and
        Unavailable if the required keys cannot be fetched now. Can be repeated.
        """
        ...


class Authorizer(Protocol):
    """Decides which operations an identity may perform on a cluster."""

    async def allow(self, identity: Identity, cluster: str, verb: Verb, deadline: Deadline) -> None:
        """Return if the operation is allowed; raises Denied if not, Unavailable if that cannot be determined now."""
        ...
