"""What one user or one client may ask for: rates, numbers, and whom they apply to. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from flamecrest.server.auth.port import Identity, Verb


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket: it holds `burst` tokens, and `per_second` tokens are added to it each second."""

    per_second: float
    burst: int


@dataclass(frozen=True, slots=True)
class VerbLimits:
    """Limits of the requests with one verb; None: no limit."""

    requests: Rate | None = None
    in_flight: int | None = None


class CallerCondition(Protocol):
    """A condition on a token."""

    def __call__(self, identity: Identity) -> bool:
        """Whether it holds for the caller. One that cannot be evaluated does not."""
        ...


@dataclass(frozen=True, slots=True)
class Allowance:
    """The limits of each user, or each client, whose claims match. None: no limit.

    name: part of the keys of its buckets, and of the texts of refusals; unique.
    claims: accepted values by the name of the claim (a dotted path for a nested one); all claims must match.
    condition: must hold, too; None: there is none.
    bytes: of requests and responses, counted when the request has ended.
    """

    name: str
    claims: Mapping[str, frozenset[str]] = field(default_factory=dict)
    requests: Rate | None = None
    in_flight: int | None = None
    transfers: Rate | None = None
    bytes: Rate | None = None
    verbs: Mapping[Verb, VerbLimits] = field(default_factory=dict)
    condition: CallerCondition | None = None

    def matches(self, identity: Identity) -> bool:
        """Whether it applies to a caller."""
        if not all(_values(identity.claims, name) & accepted for name, accepted in self.claims.items()):
            return False
        return self.condition is None or self.condition(identity)


def _values(claims: Mapping[str, Any], name: str) -> set[str]:
    """The values of a claim: of a list all of them, of a text all of its words, as in `scope`, and the whole text."""
    value: object = claims
    if name in claims:
        value = claims[name]
    else:
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, str):
        return {value, *value.split()}
    if isinstance(value, list | tuple):
        return {str(one) for one in value if isinstance(one, str | int)}
    return set() if value is None or isinstance(value, Mapping) else {str(value)}
