"""Who calls, and what they may do: the Identity and the two ports that HTTP asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flamecrest.server.deadline import Deadline


class Verb(StrEnum):
    """What a caller wants to do on a cluster."""

    STATUS = "status"
    JOBS_READ = "jobs:read"
    JOBS_SUBMIT = "jobs:submit"
    FILES_READ = "files:read"
    FILES_WRITE = "files:write"
    TRANSFER = "transfer"


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller, as the token says. A value: passed on, never looked up again."""

    username: str  # the account on the clusters; matches the strict pattern of auth/oidc.py
    subject: str = ""
    issuer: str = ""
    client: str = ""  # the OAuth2 client that the token was given to
    expires: float = 0.0  # seconds since the epoch
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False, hash=False)
    token: str = field(default="", repr=False, compare=False)  # for services that want the caller's own token


class Authenticator(Protocol):
    """Turns an Authorization header into an Identity."""

    async def authenticate(self, authorization: str | None, deadline: Deadline) -> Identity:
        """Validate the value of an Authorization header (None where there was none).

        Raises Unauthenticated (its text never holds any of the token), or Unavailable when the keys that
        are needed cannot be had now. Can be repeated.
        """
        ...


class Authorizer(Protocol):
    """Decides whether an identity may do something on a cluster."""

    async def allow(self, identity: Identity, cluster: str, verb: Verb, deadline: Deadline) -> None:
        """Return when it may; raise Denied when it may not, Unavailable when that can't be found out now."""
        ...


class AllowAuthenticated:
    """The authorizer of a centre without rules: whoever has a valid token may do what its account may."""

    async def allow(self, identity: Identity, cluster: str, verb: Verb, deadline: Deadline) -> None:
        """Allow."""
