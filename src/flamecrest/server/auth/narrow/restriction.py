"""What a narrow token can do: a pure decision about a request. The authorizer decides about its owner."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from flamecrest.server.auth.port import Decision, Verb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flamecrest.server.auth.port import AccessRequest

RULE = "narrow-token"
_JOBS = frozenset({Verb.JOBS_READ, Verb.JOBS_SUBMIT})
_FILES = frozenset({Verb.FILES_READ, Verb.FILES_WRITE, Verb.TRANSFER})


@dataclass(frozen=True, slots=True)
class Restriction:
    """The limits of a token; an empty tuple of clusters, paths or jobs is no limit.

    `clusters` are in lower case. `paths` are prefixes: absolute, normalized. With `jobs`, only requests about these
    jobs are allowed, and none that lists or submits jobs. With `paths`, files are allowed below them only, and no job
    may be submitted or controlled, as scripts and commands in jobs could reach all other files.
    """

    verbs: frozenset[Verb]
    clusters: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()

    def decide(self, request: AccessRequest) -> Decision:
        """Whether the token allows the request."""
        for verb, paths in request.needs():
            if verb not in self.verbs:
                return _denied(f"the token lacks the verb {verb}")
            if self.paths and verb in _FILES and not (paths and all(self._covers(path) for path in paths)):
                return _denied("a path is not below those of the token")
        if self.clusters and request.cluster.lower() not in self.clusters:
            return _denied("the token is for other clusters")
        if self.paths and request.verb is Verb.JOBS_SUBMIT:
            return _denied("a token for paths cannot submit or control jobs")
        if self.paths and request.through_links:
            return _denied("a token for paths cannot follow links inside of folders: they may lead out")
        if self.jobs and request.verb in _JOBS and not (request.jobs and set(request.jobs) <= set(self.jobs)):
            return _denied("the token is for other jobs")
        return Decision(allowed=True, rule=RULE)

    def _covers(self, path: str) -> bool:
        normal = posixpath.normpath(path)
        if not path.startswith("/") or ".." in path.split("/"):
            return False
        return any(normal == prefix or normal.startswith(f"{prefix.rstrip('/')}/") for prefix in self.paths)

    def shown(self) -> dict[str, Any]:
        """The limits as JSON."""
        return {
            "verbs": sorted(self.verbs),
            "clusters": list(self.clusters),
            "paths": list(self.paths),
            "jobs": list(self.jobs),
        }

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Self:
        """The limits from `shown`."""
        return cls(
            frozenset(Verb(verb) for verb in value["verbs"]),
            tuple(value["clusters"]),
            tuple(value["paths"]),
            tuple(value["jobs"]),
        )


def _denied(reason: str) -> Decision:
    return Decision(allowed=False, rule=RULE, reason=reason)
