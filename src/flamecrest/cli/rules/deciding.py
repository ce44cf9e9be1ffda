"""Asks the authorizer of a configuration about a request of a token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flamecrest.cli.connect import for_checks
from flamecrest.server.auth.narrow.tokens import PREFIX
from flamecrest.server.auth.port import NO_AUTHORIZER, AccessRequest, Decision, Verb
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Invalid
from flamecrest.server.files.paths import check_path
from flamecrest.server.settings.shape import one_of
from flamecrest.server.wiring.gateway import open_gateway

if TYPE_CHECKING:
    from flamecrest.server.settings import Settings

SECONDS = 30.0  # for the issuer's keys and OpenFGA together


@dataclass(frozen=True, slots=True)
class Question:
    """A request as it is written on the command line."""

    verb: str
    cluster: str
    paths: tuple[str, ...]
    jobs: tuple[str, ...]
    tree: bool


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided. `depends_on_links`: the gateway decides about what symbolic links in the paths lead to."""

    request: AccessRequest
    decision: Decision
    depends_on_links: bool


def _check_path(settings: Settings, cluster: str, path: str) -> None:
    """Raise ValueError for a path with which the gateway would refuse every request."""
    (found,) = [one for one in settings.clusters if one.name.lower() == cluster.lower()]
    try:
        check_path(path, [one.path for one in found.file_systems])
    except Invalid as error:
        raise ValueError(f"{path!r}: {error.public}") from None


async def decide(settings: Settings, token: str, question: Question) -> Decided:
    """Validate the token and ask the authorizer.

    Raises ValueError for an unknown verb or cluster and a path that no request may name, SettingsError, and the errors
    of authenticator and authorizer.
    """
    if question.verb not in list(Verb):
        raise ValueError(f"{question.verb!r} is an unknown verb ({one_of(list(Verb), question.verb)})")
    names = [cluster.name for cluster in settings.clusters]
    if question.cluster.lower() not in {name.lower() for name in names}:
        raise ValueError(f"{question.cluster!r} is an unknown cluster ({one_of(names, question.cluster)})")
    for path in question.paths:
        _check_path(settings, question.cluster, path)
    async with open_gateway(for_checks(settings)) as gateway:
        deadline = Deadline.after(SECONDS)
        cluster = gateway.cluster(question.cluster).name
        if gateway.tokens is not None and token.startswith(PREFIX):
            caller = await gateway.tokens.identity(token, count=False)
        else:
            caller = await gateway.authenticator.authenticate(f"Bearer {token}", deadline)
        paths, jobs = question.paths, question.jobs
        request = AccessRequest(caller.on(cluster), Verb(question.verb), cluster, paths, (), jobs, question.tree)
        if gateway.authorizer is None:
            return Decided(request, NO_AUTHORIZER, depends_on_links=False)
        decision = await gateway.authorizer.decide(request, deadline)
        links = settings.auth.authorization is not None and settings.auth.authorization.resolve_links
        return Decided(request, decision, links and gateway.authorizer.depends_on_paths(request))


def described(found: Decided) -> Sequence[str]:
    """The lines that `flamecrest explain` prints."""
    request, decision, identity = found.request, found.decision, found.request.identity
    until = datetime.fromtimestamp(identity.expires, UTC).isoformat(timespec="seconds")
    about = "".join(f" {one}" for one in (*request.paths, *(f"job {job}" for job in request.jobs)))
    origin = f"subject {identity.subject or '-'}, client {identity.client or '-'}, issuer {identity.issuer or '-'}"
    lines = [
        f"caller    {identity.username} ({origin}, until {until})",
        f"request   {request.verb} on {request.cluster}{about}",
        f"decision  {'allowed' if decision.allowed else 'denied'}",
        f"rule      {decision.rule}",
    ]
    if decision.reason:
        lines.append(f"reason    {decision.reason}")
    if found.depends_on_links:
        lines.append("links     the gateway resolves symbolic links in the path and decides about what they lead to")
    return lines
