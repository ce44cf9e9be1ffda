"""Authorizers made of others: all of them must allow, or one; and one that only reports what it would deny."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from flamecrest.server.auth.port import Decision
from flamecrest.server.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flamecrest.server.auth.port import AccessRequest, Authorizer, Identity
    from flamecrest.server.deadline import Deadline

log = logging.getLogger(__name__)


class AllOf:
    """Allows what all of its authorizers allow. They are asked in order, up to the first that denies."""

    def __init__(self, authorizers: Sequence[Authorizer]) -> None:
        self._authorizers = tuple(authorizers)

    async def decide(self, request: AccessRequest, deadline: Deadline) -> Decision:
        """See Authorizer."""
        decisions = []
        for authorizer in self._authorizers:
            decisions.append(await authorizer.decide(request, deadline))
            if not decisions[-1].allowed:
                return decisions[-1]
        return Decision(allowed=True, rule=" + ".join(one.rule for one in decisions))

    def depends_on_paths(self, request: AccessRequest) -> bool:
        """See Authorizer."""
        return any(one.depends_on_paths(request) for one in self._authorizers)

    async def usable(self, identity: Identity, clusters: Sequence[str], deadline: Deadline) -> frozenset[str]:
        """See Authorizer."""
        left = frozenset(clusters)
        for authorizer in self._authorizers:
            if left:
                left &= await authorizer.usable(identity, sorted(left), deadline)
        return left


class AnyOf(AllOf):
    """Allows what one of its authorizers allows. A rule that denies wins over the authorizers after its own."""

    async def decide(self, request: AccessRequest, deadline: Deadline) -> Decision:
        """See Authorizer."""
        reasons = []
        for authorizer in self._authorizers:
            decision = await authorizer.decide(request, deadline)
            if decision.allowed or decision.final:
                return decision
            reasons.append(f"{decision.rule}: {decision.reason}")
        return Decision(allowed=False, rule="none", reason="; ".join(reasons))

    async def usable(self, identity: Identity, clusters: Sequence[str], deadline: Deadline) -> frozenset[str]:
        """See Authorizer."""
        found: frozenset[str] = frozenset()
        for authorizer in self._authorizers:
            if left := [one for one in clusters if one not in found]:
                found |= await authorizer.usable(identity, left, deadline)
        return found


class ReportOnly:
    """Allows everything, and logs what the authorizer would deny."""

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    async def decide(self, request: AccessRequest, deadline: Deadline) -> Decision:
        """See Authorizer. An authorizer that does not answer is logged too."""
        try:
            decision = await self._authorizer.decide(request, deadline)
        except Unavailable as error:
            decision = Decision(allowed=False, rule="unavailable", reason=error.detail or error.public)
        if decision.allowed:
            return decision
        fields = {
            "user": request.identity.username,
            "verb": str(request.verb),
            "cluster": request.cluster,
            "rule": decision.rule,
            "reason": decision.reason,
        }
        log.warning("would be denied", extra={"fields": fields})
        return Decision(allowed=True, rule=decision.rule, reason=f"only reported: {decision.reason}")

    def depends_on_paths(self, request: AccessRequest) -> bool:
        """See Authorizer. Links are resolved, so that the report is complete."""
        return self._authorizer.depends_on_paths(request)

    async def usable(self, identity: Identity, clusters: Sequence[str], deadline: Deadline) -> frozenset[str]:  # noqa: ARG002 -- all of them
        """See Authorizer."""
        return frozenset(clusters)
