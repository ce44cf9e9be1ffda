"""One claim rule: whom it is about, what it allows or denies, and when. No clock and no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import translate
from typing import TYPE_CHECKING, Any

from flamecrest.server.auth.port import Verb

from .claim_values import ClaimNames, all_values, claim_values, scopes
from .path_prefixes import all_within, any_concerned, check_prefix, expand

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from flamecrest.server.auth.port import Identity

    from .conditions import Condition
    from .time_windows import TimeWindow


class Effect(StrEnum):
    """What a rule does with the requests that it matches."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Caller:
    """A token, with the values of its claims that rules compare."""

    identity: Identity
    roles: frozenset[str]
    groups: frozenset[str]
    scopes: frozenset[str]

    @classmethod
    def of(cls, identity: Identity, names: ClaimNames) -> Caller:
        """Read the claims."""
        claims = identity.claims
        return cls(
            identity, all_values(claims, names.roles), all_values(claims, names.groups), scopes(claims, names.scopes)
        )


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What differs from request to request of a caller."""

    paths: tuple[str, ...]
    jobs: tuple[str, ...]
    tree: bool  # what lies below the paths is concerned too
    now: datetime
    variables: Mapping[str, Any]  # of conditions, without those of a request


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule. What is empty or None does not restrict it; of a list, one entry is enough.

    verbs: with `*` at the end of a kind of verb, as in `jobs:*`; `*` is all.
    clusters: names or patterns of a shell, without regard to case.
    claims: values of any other claims; all of them must be there.
    paths: prefixes; see path_prefixes. A request without paths is matched by a rule that allows, and not by one
        that denies.

    Raises ValueError for what cannot be used.
    """

    name: str
    effect: Effect = Effect.ALLOW
    verbs: Sequence[str] = ("*",)
    clusters: Sequence[str] = ("*",)
    users: Sequence[str] = ()
    roles: Sequence[str] = ()
    groups: Sequence[str] = ()
    scopes: Sequence[str] = ()
    clients: Sequence[str] = ()
    issuers: Sequence[str] = ()
    claims: Mapping[str, Sequence[str]] = field(default_factory=dict)
    paths: Sequence[str] = ()
    windows: Sequence[TimeWindow] = ()
    not_before: datetime | None = None
    not_after: datetime | None = None
    condition: Condition | None = None
    _verbs: frozenset[Verb] = field(init=False, default=frozenset(), repr=False)
    _clusters: re.Pattern[str] = field(init=False, default=re.compile(""), repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_verbs", frozenset(verb for pattern in self.verbs for verb in verbs_of(pattern)))
        patterns = "|".join(translate(pattern.lower()) for pattern in self.clusters)
        object.__setattr__(self, "_clusters", re.compile(patterns))
        for prefix in self.paths:
            check_prefix(prefix)

    @property
    def per_request(self) -> bool:
        """Whether it depends on more than token, verb and cluster."""
        timed = self.windows or self.not_before is not None or self.not_after is not None
        return bool(timed) or self.concerns_paths or (self.condition is not None and self.condition.per_request)

    @property
    def concerns_paths(self) -> bool:
        """Whether it may depend on the paths of a request."""
        return bool(self.paths) or (self.condition is not None and self.condition.per_request)

    def covers(self, cluster: str, verb: Verb) -> bool:
        """Whether the rule is about this verb and cluster."""
        return verb in self._verbs and self._clusters.match(cluster.lower()) is not None

    def is_about(self, caller: Caller) -> bool:
        """Whether the rule is about this caller, as far as its lists say."""
        identity = caller.identity
        one_of = (
            (self.users, {identity.username}),
            (self.roles, caller.roles),
            (self.groups, caller.groups),
            (self.scopes, caller.scopes),
            (self.clients, {identity.client}),
            (self.issuers, {identity.issuer}),
            *((wanted, claim_values(identity.claims, name)) for name, wanted in self.claims.items()),
        )
        return all(not wanted or not found.isdisjoint(wanted) for wanted, found in one_of)

    def holds(self, variables: Mapping[str, Any]) -> bool:
        """Whether the condition holds. One that cannot be evaluated never allows, and always denies."""
        if self.condition is None:
            return True
        found = self.condition.holds(variables)
        return self.effect is Effect.DENY if found is None else found

    def denies(self, caller: Caller, about: Circumstances) -> bool:
        """Whether a rule that denies matches this request of its caller: one path or job is enough."""
        if not self._in_time(about.now):
            return False
        if self.paths:
            prefixes = expand(self.paths, caller.identity.username, caller.groups)
            if not any_concerned(about.paths, prefixes, tree=about.tree):
                return False
        return any(self._holds_for(path, job, about) for path in about.paths or ("",) for job in about.jobs or ("",))

    def allows(self, caller: Caller, about: Circumstances, path: str | None, job: str | None) -> bool:
        """Whether a rule that allows matches this path and job of a request of its caller."""
        if not self._in_time(about.now):
            return False
        if self.paths and path is not None:
            prefixes = expand(self.paths, caller.identity.username, caller.groups)
            if not all_within((path,), prefixes):
                return False
        return self._holds_for(path or "", job or "", about)

    def _in_time(self, now: datetime) -> bool:
        if (self.not_before is not None and now < self.not_before) or (
            self.not_after is not None and now >= self.not_after
        ):
            return False
        return not self.windows or any(window.contains(now) for window in self.windows)

    def _holds_for(self, path: str, job: str, about: Circumstances) -> bool:
        if self.condition is None or not self.condition.per_request:
            return True  # a condition on the token alone was looked at before
        return self.holds({**about.variables, "path": path, "job": job, "now": about.now})


def verbs_of(pattern: str) -> frozenset[Verb]:
    """The verbs that a pattern stands for. Raises ValueError if there are none."""
    if pattern == "*":
        return frozenset(Verb)
    found = frozenset(
        verb for verb in Verb if verb == pattern or (pattern.endswith(":*") and verb.startswith(pattern[:-1]))
    )
    if not found:
        raise ValueError(f"{pattern!r} is an unknown verb: use {', '.join(Verb)}, or a pattern such as `files:*`")
    return found
