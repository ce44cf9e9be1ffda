"""Ports of authentication and authorization, and the Identity that they exchange."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from flamecrest.server.errors import Denied

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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
class Confirmation:
    """The key that a token is bound to (`cnf`); only the sender who proves to have it may use the token."""

    key: str | None = None  # thumbprint of a key that signs DPoP proofs: `jkt`, RFC 9449
    certificate: str | None = None  # SHA-256 of a TLS client certificate, in base64url: `x5t#S256`, RFC 8705


@dataclass(frozen=True, slots=True)
class RequestProof:
    """Where a request comes from, and what it shows as proof that its sender has the key of a bound token."""

    method: str
    urls: tuple[str, ...]  # that the client may have sent it to, without a query
    dpop: tuple[str, ...] = ()  # all values of the header `DPoP`
    certificate: bytes | None = None  # the client's TLS certificate in DER
    network: str = ""  # what the addresses of one client have in common


class TokenLimits(Protocol):
    """What a narrow token of the gateway can do."""

    @property
    def clusters(self) -> tuple[str, ...]:
        """The only clusters that it is for, in lower case; empty: no limit."""
        ...

    @property
    def paths(self) -> tuple[str, ...]:
        """The folders below which it allows files; empty: no limit."""
        ...

    def decide(self, request: AccessRequest) -> Decision:
        """Whether the token allows the request."""
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller, as named by the token.

    `accounts` is empty if `username` is the account on all clusters. Else it has the account for each cluster with an
    own one, by the cluster's name in lower case (None: the caller has no account there), and that for all others as "".
    """

    username: str  # account on the clusters, checked by accounts.check_account
    subject: str = ""
    issuer: str = ""
    client: str = ""  # OAuth2 client that the token was issued to
    expires: float = 0.0  # seconds since the epoch
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False, hash=False)
    token: str = field(default="", repr=False, compare=False)  # for services that need the caller's own token
    accounts: Mapping[str, str | None] = field(default_factory=dict, repr=False, compare=False, hash=False)
    memo: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False, hash=False)  # by authorizers
    confirmation: Confirmation | None = field(default=None, repr=False, compare=False, hash=False)
    restriction: TokenLimits | None = None  # of a narrow token of the gateway; None: the caller has an issuer's token

    def on(self, cluster: str) -> Identity:
        """The identity with the caller's account on that cluster. Raises Denied if there is none."""
        if not self.accounts:
            return self
        account = self.accounts.get(cluster.lower(), self.accounts[""])
        if account is None:
            raise Denied("You have no account on this system", detail="the user name has no account on this cluster")
        return self if account == self.username else replace(self, username=account)


def accounts_on(identity: Identity, clusters: Sequence[str]) -> Mapping[str, Identity]:
    """The identity on each cluster where the caller has an account."""
    found = {}
    for cluster in clusters:
        with suppress(Denied):
            found[cluster] = identity.on(cluster)
    return found


class Authenticator(Protocol):
    """Authenticates the caller by the Authorization header."""

    async def authenticate(
        self, authorization: str | None, deadline: Deadline, proof: Callable[[], RequestProof] | None = None
    ) -> Identity:
        """Validate the value of an Authorization header (None if the request has none).

        `proof` is called for a token that is bound to a key, without it such a token is refused; and for one that the
        issuer must be asked about, as those of one network take turns.

        Raises Unauthenticated (its text contains nothing of the token), Denied for the account root and for a token
        that lacks a required scope, and Unavailable if the required keys cannot be fetched now, or the issuer cannot be
        asked about the token. Can be repeated, except with the same DPoP proof.
        """
        ...


class AccessRequest(NamedTuple):
    """What a decision is about: who, the kind of operation, the cluster, and the paths or jobs.

    Paths are as in the request: nothing is normalized, and a path need not be valid. Without paths and jobs the
    request is for the operation as such, such as a list of jobs. Of many requests that one call consists of, `memo` is
    the same dict: what was found out for one of them need not be asked for the others.
    """

    identity: Identity
    verb: Verb
    cluster: str  # name as configured
    paths: tuple[str, ...] = ()  # what the verb is applied to
    sources: tuple[str, ...] = ()  # paths that are read besides: they need files:read
    jobs: tuple[str, ...] = ()
    tree: bool = False  # what lies below the paths and sources is concerned too
    through_links: bool = False  # symbolic links below the paths and sources are followed, wherever they lead
    memo: dict[Any, Any] | None = None

    def needs(self) -> tuple[tuple[Verb, tuple[str, ...]], ...]:
        """Each verb that is needed, with the paths that it is needed for."""
        own = (self.verb, self.paths)
        return (own, (Verb.FILES_READ, self.sources)) if self.sources else (own,)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a request is allowed, and why. `rule` and `reason` are for the log and never for the caller."""

    allowed: bool
    rule: str  # name of the rule that has decided
    reason: str = ""
    final: bool = False  # denied by a rule that says so: no other authorizer is asked


NO_AUTHORIZER = Decision(allowed=True, rule="none", reason="no authorization is configured")


class Authorizer(Protocol):
    """Decides which operations an identity may perform on a cluster."""

    async def decide(self, request: AccessRequest, deadline: Deadline) -> Decision:
        """Decide about a request. Raises Unavailable if that cannot be determined now. Can be repeated."""
        ...

    def depends_on_paths(self, request: AccessRequest) -> bool:
        """Whether the decision about a request depends on its paths, so that links in them must be resolved."""
        ...

    async def usable(self, identity: Identity, clusters: Sequence[str], deadline: Deadline) -> frozenset[str]:
        """The clusters on which the identity may do anything at all. Raises Unavailable."""
        ...
