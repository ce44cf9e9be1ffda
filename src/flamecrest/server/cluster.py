"""A cluster, the Permission that hands out its ports, and the Gateway, which holds all clusters.

Knows the ports; no adapter, no settings, no HTTP.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flamecrest.server.auth.port import NO_AUTHORIZER, AccessRequest, Decision, Verb
from flamecrest.server.auth.resource import ProtectedResource
from flamecrest.server.errors import Denied, Invalid, NotFound
from flamecrest.server.files.paths import check_path, check_removable, under_root, within
from flamecrest.server.health.board import Board, ProbeResult, Service, Target
from flamecrest.server.health.outcomes import blamed
from flamecrest.server.transfer.direct.links import LinkSigner
from flamecrest.server.transfer.records.names import is_transfer_id

if TYPE_CHECKING:
    from flamecrest.server.audit.calls import Audit
    from flamecrest.server.auth.narrow.tokens import NarrowTokens
    from flamecrest.server.auth.port import Authenticator, Authorizer, Identity
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files.archives.port import Bulk
    from flamecrest.server.files.port import Files
    from flamecrest.server.files.resumable.port import Uploads
    from flamecrest.server.limits.fair_use import FairUse
    from flamecrest.server.ports import Limits, Ports
    from flamecrest.server.schedulers.port import JobLookup, Scheduler
    from flamecrest.server.ssh.user import User
    from flamecrest.server.telemetry.counters import Counters
    from flamecrest.server.telemetry.tracing import RequestTracer
    from flamecrest.server.transfer.direct.port import DirectUploads
    from flamecrest.server.transfer.port import Transfers
    from flamecrest.server.transfer.tracking.port import TrackedTransfers
    from flamecrest.wire.status import HPCCluster

MAX_SHOWN_NAME = 64  # characters of an unknown cluster's name in an error


class Cluster:
    """One cluster: its name, limits and health, and `allow`, the only way to its ports."""

    def __init__(
        self,
        name: str,
        *,
        roots: Sequence[str],
        limits: Limits,
        ports: Ports,
        board: Board,
        describe: Callable[[], HPCCluster],
        authorizer: Authorizer | None,
        audit: Audit | None = None,
    ) -> None:
        """`roots` are the paths of the file systems. Without an authorizer every verb is allowed."""
        self.name = name
        self.roots = tuple(roots)
        self.limits = limits
        self.board = board
        self.describe = describe
        self._authorizer = authorizer
        self._audit = audit
        self._checked = authorizer is not None or audit is not None
        self._ports = ports
        self.scheduler_targets = tuple(Target(service) for service in ports.scheduler_services)
        self.targets = {root: (Target(Service.FILESYSTEM, root),) for root in self.roots}

    async def allow(
        self,
        identity: Identity,
        verb: Verb,
        deadline: Deadline,
        *paths: str,
        sources: tuple[str, ...] = (),
        jobs: tuple[str, ...] = (),
        tree: bool = False,
        through_links: bool = False,
        memo: dict[Any, Any] | None = None,
    ) -> Permission:
        """Ask the authorizer about the verb on these paths or jobs; see AccessRequest.

        Raises Denied, or Unavailable if the authorizer does not answer. With a path that is not one of this cluster the
        permission hands out no port: that is Invalid for everybody, and the port names the parameter.
        """
        if identity.accounts:
            identity = identity.on(self.name)
        request = AccessRequest(identity, verb, self.name, paths, sources, jobs, tree, through_links, memo)
        decision = NO_AUTHORIZER
        if self._authorizer is not None:
            decision = await self._authorizer.decide(request, deadline)
        if self._audit is not None:
            self._audit.decided(request, decision)
        unusable = None if self._authorizer is None else _invalid_path(request, self.roots)
        if not decision.allowed and unusable is None:
            raise _denied(request, decision)
        if self._authorizer is not None and unusable is None and self._authorizer.depends_on_paths(request):
            await self._decide_resolved(request, self._authorizer, deadline)
        return Permission(identity, verb, self, self._ports, request, decision, self._checked, unusable)

    async def allow_each(self, identity: Identity, verb: Verb, deadline: Deadline, path: str) -> Permission:
        """The permission for a request about many paths, of which this is one. Its `also` decides about each path.

        Raises Denied if no path could change that, and Unavailable.
        """
        if self._authorizer is None:
            return await self.allow(identity, verb, deadline)
        request = AccessRequest(identity.on(self.name), verb, self.name, memo={})
        decision = await self._authorizer.decide(request, deadline)
        by_path = not decision.allowed and self._authorizer.depends_on_paths(request._replace(paths=(path,), tree=True))
        if not by_path:
            if self._audit is not None:
                self._audit.decided(request, decision)
            if not decision.allowed:
                raise _denied(request, decision)
        return Permission(request.identity, verb, self, self._ports, request, decision, checked=True)

    async def _decide_resolved(self, request: AccessRequest, authorizer: Authorizer, deadline: Deadline) -> None:
        """Decide again about what the paths lead to. Raises Denied, Unavailable, and the errors of `resolve`."""
        named = (*request.paths, *request.sources)
        if not named:
            return
        found = await self._ports.resolve(request.identity, (*self.roots, *named), deadline)
        real_roots = dict(zip(self.roots, found, strict=False))
        real = [under_root(path, real_roots) for path in found[len(self.roots) :]]
        if real == list(named):
            return
        paths, sources = tuple(real[: len(request.paths)]), tuple(real[len(request.paths) :])
        resolved = request._replace(paths=paths, sources=sources)
        decision = await authorizer.decide(resolved, deadline)
        if self._audit is not None:
            self._audit.decided(resolved, decision)
        if not decision.allowed:
            raise _denied(resolved, decision)

    async def refuse_outside(self, identity: Identity, path: str, folder: str, deadline: Deadline) -> None:
        """Raise Denied if links in the path lead out of the folder now. For URLs that a narrow token has made."""
        found = await self._ports.resolve(identity, (*self.roots, path), deadline)
        real = under_root(found[-1], dict(zip(self.roots, found, strict=False)))
        if not within(real, folder):
            raise Denied("The URL is for a file in another folder", detail=f"{path} leads to {real}, out of {folder}")

    def allowed_before(self, identity: Identity, verb: Verb, *paths: str) -> Permission:
        """The permission without a question to the authorizer.

        For signed URLs, as it was asked when the URL was made, and for the operator's own checks.
        """
        request = AccessRequest(identity, verb, self.name, paths)
        if self._audit is not None:
            self._audit.decided(request, _DECIDED_BEFORE)
        return Permission(identity, verb, self, self._ports, request, _DECIDED_BEFORE)


_DECIDED_BEFORE = Decision(allowed=True, rule="signed-url", reason="decided when the URL was made")


def _invalid_path(request: AccessRequest, roots: Sequence[str]) -> Invalid | None:
    try:
        for path in (*request.paths, *request.sources):
            check_path(path, roots)
    except Invalid as error:
        return error
    return None


def _denied(request: AccessRequest, decision: Decision) -> Denied:
    about = " for this path" if request.paths else " for this job" if request.jobs else ""
    error = Denied(
        f"You are not permitted to do this on {request.cluster}{about} ({request.verb})",
        detail=f"rule {decision.rule}: {decision.reason}",
    )
    error.rule = decision.rule
    return error


# The verbs that hand out a port.
_FILES = frozenset({Verb.FILES_READ, Verb.FILES_WRITE})
_UPLOADS = frozenset({Verb.FILES_WRITE})
_SCHEDULER = frozenset({Verb.JOBS_READ, Verb.JOBS_SUBMIT, Verb.STATUS})
_TRANSFERS = frozenset({Verb.TRANSFER})
_QUICK = frozenset({Verb.FILES_READ, Verb.JOBS_READ, Verb.STATUS})  # operations that are short for every user

_SSH = (Target(Service.SSH),)


@dataclass(slots=True)
class Permission:
    """Proof that the authorizer has allowed a request. The only object that hands out ports.

    Made by `Cluster.allow`, and for signed URLs by `Cluster.allowed_before`. Before a port is handed out, its services
    must be up (else Unavailable), and every path, given by its name on the wire, must lie in a file system of the
    cluster that is up (else Invalid or Unavailable). A port that the verb does not stand for is a RuntimeError, and so
    is a path that the authorizer was not asked about: the route has asked for something else.
    """

    identity: Identity
    verb: Verb
    cluster: Cluster
    _ports: Ports
    request: AccessRequest
    decision: Decision
    checked: bool = False  # paths that were not in the request are a mistake of the route
    unusable: Invalid | None = None  # a path is not one of the cluster: no port is handed out
    used: tuple[Target, ...] = ()  # the services that this request goes through
    tried: tuple[Target, ...] = ()  # of these, the ones that are refused, and that this request may try
    watched: float | None = None  # since when successes count (monotonic, seconds)
    asked: JobLookup | None = None  # the scheduler, whose answers may be older than the request

    async def also(self, deadline: Deadline, *paths: str, tree: bool = False) -> Permission:
        """The permission for the same verb on other paths. Raises Denied, Unavailable."""
        if not self.checked:
            return self
        memo = self.request.memo
        return await self.cluster.allow(self.identity, self.verb, deadline, *paths, tree=tree, memo=memo)

    def succeeded(self) -> None:
        """Report that the request was served: the services that it has used are up."""
        board, watched = self.cluster.board, self.watched
        if watched is None:
            return
        old = self.asked is not None and not 0 < self.asked.age <= time.monotonic() - watched
        for target in self.used:
            if old and target.service is not Service.FILESYSTEM:
                if target in self.tried:
                    board.trial_ended(*target)
            else:
                board.succeeded(*target)

    def failed(self, error: BaseException, *, quick: bool = True) -> None:
        """Report that the request was not served: one of the services that it has used may be to blame.

        quick: a Timeout counts if the verb's operations are quick ones.
        """
        found = blamed(error, self.used, quick=quick and self.verb in _QUICK)
        if found is not None:
            self.cluster.board.failed(self.identity.username, found[1], *found[0])
        for target in self.tried:
            self.cluster.board.trial_ended(*target)

    def files(self, **paths: str) -> Files:
        """The caller's files."""
        self._check(paths, _FILES)
        return self._ports.files(self.identity)

    def refuse_root(self, path: str) -> None:
        """Raise Invalid if a path to be removed is a whole file system of the cluster, or contains one."""
        check_removable(path, self.cluster.roots)

    def uploads(self, **paths: str) -> Uploads:
        """The caller's resumable uploads."""
        self._check(paths, _UPLOADS)
        return self._ports.uploads(self.identity)

    def bulk(self, **paths: str) -> Bulk:
        """The caller's archives."""
        self._check(paths, _FILES)
        return self._ports.bulk(self.identity)

    def scheduler(self) -> Scheduler:
        """The scheduler, used as the caller."""
        if self.verb not in _SCHEDULER:
            raise self._wrong_verb()
        if self.unusable is not None:
            raise self.unusable
        self.used += self.cluster.scheduler_targets
        if self.cluster.board.watching:
            self._ask(self.cluster.scheduler_targets)
        scheduler = self._ports.scheduler(self.identity)
        if self.watched is not None:
            self.asked = scheduler
        return scheduler

    def job_lookup(self, job_id: str) -> JobLookup:
        """The scheduler, or the caller's transfers through the gateway if the id is that of one."""
        if not is_transfer_id(job_id):
            return self._ports.shown_jobs(self.identity, self.scheduler())
        self._check({}, _SCHEDULER)
        return self._ports.transfer_jobs(self.identity)

    def transfers(self, *, jobs: bool = True, **paths: str) -> Transfers:
        """The caller's transfers; without `jobs` those that need no scheduler."""
        self._check(paths, _TRANSFERS, ssh=False)
        self._require(self.cluster.scheduler_targets if jobs else _SSH)
        return self._ports.transfers(self.identity)

    def direct_uploads(self, **paths: str) -> DirectUploads:
        """The caller's uploads by signed URLs."""
        self._check(paths, _TRANSFERS)
        return self._ports.direct_uploads(self.identity)

    def tracked_transfers(self, **paths: str) -> TrackedTransfers:
        """The caller's transfers as things; paths of synchronizations and copies are checked."""
        self._check(paths, _TRANSFERS)
        return self._ports.tracked(self.identity)

    async def user(self, deadline: Deadline) -> User:
        """The caller's account on the login node."""
        if self.verb is not Verb.STATUS:
            raise self._wrong_verb()
        if self.unusable is not None:
            raise self.unusable
        self._require(_SSH)
        return await self._ports.user(self.identity, deadline)

    def _check(self, paths: Mapping[str, str], verbs: frozenset[Verb], *, ssh: bool = True) -> None:
        if self.verb not in verbs:
            raise self._wrong_verb()
        cluster = self.cluster
        if self.checked:
            self._require_decided(paths)
        used: tuple[Target, ...] = _SSH if ssh else ()
        for name, path in paths.items():
            used += cluster.targets[check_path(path, cluster.roots, name)]
        self.used += used
        if cluster.board.watching:
            self._ask(used)
        if self.unusable is not None:
            raise self.unusable

    def _require_decided(self, paths: Mapping[str, str]) -> None:
        for name, path in paths.items():
            if path not in self.request.paths and path not in self.request.sources:
                raise RuntimeError(f"{name} was not in the request to the authorizer")

    def _wrong_verb(self) -> RuntimeError:
        return RuntimeError(f"{self.verb} does not allow this port")

    def _require(self, targets: tuple[Target, ...]) -> None:
        self.used += targets
        if self.cluster.board.watching:
            self._ask(targets)

    def _ask(self, targets: tuple[Target, ...]) -> None:
        self.watched = self.watched or time.monotonic()
        for target in targets:
            if target not in self.tried and self.cluster.board.require(*target, user=self.identity.username):
                self.tried += (target,)


@dataclass(frozen=True, slots=True)
class Gateway:
    """What requests are served with. Opened by wiring.gateway.open_gateway, closed when the server stops."""

    authenticator: Authenticator
    clusters: Mapping[str, Cluster]  # by name in lower case
    counters: Counters
    authorizer: Authorizer | None = None  # that of all clusters
    signer: LinkSigner = field(default_factory=LinkSigner.random)
    public_url: str | None = None  # the address of the API for users; None: that of each request
    fair_use: FairUse | None = None  # None: no limits are configured
    resource: ProtectedResource = field(default_factory=ProtectedResource)
    audit: Audit | None = None  # None: no audit log is configured
    tokens: NarrowTokens | None = None  # None: the gateway makes none
    reload: Callable[..., Awaitable[object]] | None = None  # Clusters.change of wiring
    unready: Callable[[], str | None] = lambda: None  # why no request could be served; None: they can be
    depends_on: Callable[[], Sequence[ProbeResult]] = tuple  # the last probes of token issuers and OpenFGA
    tracer: RequestTracer | None = None  # None: no traces are sent

    def cluster(self, name: str) -> Cluster:
        """The cluster of that name; case is ignored. Raises NotFound."""
        try:
            return self.clusters[name.lower()]
        except KeyError:
            shown = f": {name[:MAX_SHOWN_NAME]}" if name.isprintable() else ""
            raise NotFound(f"System not found{shown}") from None

    async def usable_by(self, identity: Identity, deadline: Deadline) -> Sequence[Cluster]:
        """The clusters on which the caller may do anything at all. Raises Unavailable."""
        clusters = list(self.clusters.values())
        if self.authorizer is None:
            return clusters
        names = await self.authorizer.usable(identity, [one.name for one in clusters], deadline)
        return [one for one in clusters if one.name in names]

    def report(self) -> None:
        """Log all counters: one line for each component, of each cluster or of the gateway."""
        for source in self.counters:
            log = logging.getLogger(f"flamecrest.{source.component}")
            where = {} if source.cluster is None else {"cluster": source.cluster}
            log.info(source.component, extra={"fields": {**where, **source.read()}})
