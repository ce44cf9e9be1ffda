"""Authorizer by claim rules: what no rule allows is denied, and a rule that denies wins over all that allow.

What depends on token, verb and cluster alone is decided once for a token. It knows no other authorizer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flamecrest.server.auth.port import Decision, Verb, accounts_on

from .claim_values import ClaimNames
from .conditions import token_variables
from .path_prefixes import plain_path
from .rules import Caller, Circumstances, Effect, Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flamecrest.server.auth.port import AccessRequest, Identity
    from flamecrest.server.deadline import Deadline

NO_RULE = Decision(allowed=False, rule="none", reason="no rule allows it")


def utc_now() -> datetime:
    """The clock of rules."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The rules that may decide about requests of one token with one verb on one cluster."""

    caller: Caller
    denying: tuple[Rule, ...]
    allowing: tuple[Rule, ...]
    variables: Mapping[str, Any]
    decision: Decision | None  # if it does not depend on the request


class RulesAuthorizer:
    """Decides by rules. Names of rules must be unique: they are in the log.

    `clock` gives the time with a time zone. Raises ValueError for two rules of one name.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        *,
        names: ClaimNames | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._names = names or ClaimNames()
        self._clock = clock
        seen: set[str] = set()
        for rule in rules:
            if rule.name in seen:
                raise ValueError(f"two rules are named {rule.name}")
            seen.add(rule.name)
        self._denying = tuple(rule for rule in rules if rule.effect is Effect.DENY)
        self._allowing = tuple(rule for rule in rules if rule.effect is Effect.ALLOW)

    async def decide(self, request: AccessRequest, deadline: Deadline) -> Decision:  # noqa: ARG002 -- no I/O
        """See Authorizer."""
        return self.judge(request)

    def judge(self, request: AccessRequest) -> Decision:
        """Decide about a request. A request that needs several verbs must be allowed each of them."""
        decision = self._judge(request, request.verb, request.paths)
        if request.sources and decision.allowed:
            return self._judge(request, Verb.FILES_READ, request.sources)
        return decision

    def depends_on_paths(self, request: AccessRequest) -> bool:
        """See Authorizer."""
        return any(
            rule.concerns_paths
            for verb, paths in request.needs()
            if paths and (found := self._candidates(request.identity, request.cluster, verb)).decision is None
            for rule in (*found.denying, *found.allowing)
        )

    async def usable(self, identity: Identity, clusters: Sequence[str], deadline: Deadline) -> frozenset[str]:  # noqa: ARG002 -- no I/O
        """See Authorizer."""
        accounts = accounts_on(identity, clusters)
        return frozenset(name for name, one in accounts.items() if any(self._possible(one, name, v) for v in Verb))

    def _possible(self, identity: Identity, cluster: str, verb: Verb) -> bool:
        found = self._candidates(identity, cluster, verb)
        return bool(found.allowing) if found.decision is None else found.decision.allowed

    def _judge(self, request: AccessRequest, verb: Verb, paths: tuple[str, ...]) -> Decision:
        found = self._candidates(request.identity, request.cluster, verb)
        if found.decision is not None:
            return found.decision
        about = Circumstances(_plain(paths), request.jobs, request.tree, self._clock(), found.variables)
        for rule in found.denying:
            if rule.denies(found.caller, about):
                return _denied_by(rule)
        return _allowed(found, about)

    def _candidates(self, identity: Identity, cluster: str, verb: Verb) -> Candidates:
        key = (self, identity.username, cluster, verb)  # the account may differ from cluster to cluster
        found = identity.memo.get(key)
        if found is None:
            identity.memo[key] = found = self._find(identity, cluster, verb)
        made: Candidates = found
        return made

    def _find(self, identity: Identity, cluster: str, verb: Verb) -> Candidates:
        key = (self, identity.username)
        caller = identity.memo.get(key)
        if caller is None:
            identity.memo[key] = caller = Caller.of(identity, self._names)
        variables = _variables(identity, cluster, verb)

        def matching(rules: Sequence[Rule]) -> tuple[Rule, ...]:
            return tuple(
                rule
                for rule in rules
                if rule.covers(cluster, verb)
                and rule.is_about(caller)
                and (rule.condition is None or rule.condition.per_request or rule.holds(variables()))
            )

        denying, allowing = matching(self._denying), matching(self._allowing)
        decision = _final(denying, allowing)
        per_request = any(rule.condition is not None and rule.condition.per_request for rule in (*denying, *allowing))
        return Candidates(caller, denying, allowing, variables() if per_request else {}, decision)


def _final(denying: Sequence[Rule], allowing: Sequence[Rule]) -> Decision | None:
    """The decision for all requests; None if it depends on the request."""
    always = next((rule for rule in denying if not rule.per_request), None)
    if always is not None:
        return _denied_by(always)
    if not allowing:
        return NO_RULE
    first = allowing[0]
    return None if denying or first.per_request else _allowed_by(first)


def _allowed(found: Candidates, about: Circumstances) -> Decision:
    """Each path and each job must be allowed by a rule; by which one may differ."""
    rules: list[str] = []
    for path in about.paths or (None,):
        for job in about.jobs or (None,):
            rule = next((rule for rule in found.allowing if rule.allows(found.caller, about, path, job)), None)
            if rule is None:
                named = ", ".join(rule.name for rule in found.allowing)
                return Decision(allowed=False, rule="none", reason=f"no rule allows this path, job or time ({named})")
            if rule.name not in rules:
                rules.append(rule.name)
    return Decision(allowed=True, rule=", ".join(rules))


def _plain(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Normalized paths, so that conditions see them so; what is no path stays, and lies in no prefix."""
    return tuple(plain_path(path) or path for path in paths)


def _denied_by(rule: Rule) -> Decision:
    return Decision(allowed=False, rule=rule.name, reason="the rule denies it", final=True)


def _allowed_by(rule: Rule) -> Decision:
    return Decision(allowed=True, rule=rule.name)


def _variables(identity: Identity, cluster: str, verb: Verb) -> Callable[[], Mapping[str, Any]]:
    """The variables of conditions, made when they are needed."""
    made: dict[str, Any] = {}

    def variables() -> Mapping[str, Any]:
        if not made:
            made.update(token_variables(identity), verb=str(verb), cluster=cluster)
        return made

    return variables
