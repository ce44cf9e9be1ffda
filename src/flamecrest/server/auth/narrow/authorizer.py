"""An authorizer in front of another one: a narrow token must allow a request, and so must the rules for its owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flamecrest.server.auth.port import NO_AUTHORIZER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flamecrest.server.auth.port import AccessRequest, Authorizer, Decision, Identity
    from flamecrest.server.deadline import Deadline


class RestrictingAuthorizer:
    """Decides about requests with narrow tokens, and leaves the rest to `owner`; None: everything is allowed.

    `links`: the owner's rules about paths are applied to what links lead to. The limits of a token always are.
    """

    def __init__(self, owner: Authorizer | None, *, links: bool = True) -> None:
        self._owner = owner
        self._links = links

    async def decide(self, request: AccessRequest, deadline: Deadline) -> Decision:
        """Decide about a request; see Authorizer."""
        restriction = request.identity.restriction
        if restriction is not None:
            decision = restriction.decide(request)
            if not decision.allowed:
                return decision
        return NO_AUTHORIZER if self._owner is None else await self._owner.decide(request, deadline)

    def depends_on_paths(self, request: AccessRequest) -> bool:
        """Whether another path could be decided otherwise; see Authorizer."""
        restriction = request.identity.restriction
        if restriction is not None and restriction.paths:
            return True
        return self._links and self._owner is not None and self._owner.depends_on_paths(request)

    async def usable(self, identity: Identity, clusters: Sequence[str], deadline: Deadline) -> frozenset[str]:
        """The clusters on which the identity may do anything at all; see Authorizer."""
        restriction = identity.restriction
        if restriction is not None and restriction.clusters:
            clusters = [name for name in clusters if name.lower() in restriction.clusters]
        if self._owner is None or not clusters:
            return frozenset(clusters)
        return await self._owner.usable(identity, clusters, deadline)
