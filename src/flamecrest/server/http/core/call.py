"""What a handler asks for: a Call, which says who calls, on which cluster, until when; and the shared parameters.

It knows the Cluster and no adapter.
"""

from typing import Annotated, Final

from fastapi import Path, Query
from pydantic import AfterValidator
from starlette.requests import Request

from flamecrest.server.auth.port import Identity, Verb
from flamecrest.server.cluster import Cluster, Gateway
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Unauthenticated
from flamecrest.server.files.port import Files
from flamecrest.server.files.resumable.port import Uploads
from flamecrest.server.schedulers.port import Scheduler
from flamecrest.server.telemetry.trace import current_trace, phase
from flamecrest.server.transfer.port import TransferJobs
from flamecrest.wire.text import Word, check_name

AUTH_SECONDS: Final = 10.0  # the most that finding out who calls may take: one fetch of the issuer's keys

QueryPath = Annotated[
    str,
    AfterValidator(check_name),
    Query(description="Absolute path; bytes that are not UTF-8 are percent-encoded as they are"),
]
JobId = Annotated[
    str,
    Path(
        description="Job id, as the scheduler writes it: `123`, `123_4`, `123[1-5]`, `123.server`",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-\[\],%+]{0,127}$",
    ),
]
AccountName = Annotated[Word | None, Query(description="Account")]


class Call(Request):
    """A request of an authenticated caller. Ports are had from it only, so that none is had without permission."""

    identity: Identity
    cluster: Cluster
    deadline: Deadline

    @property
    def gateway(self) -> Gateway:
        """Everything there is."""
        gateway: Gateway = self.scope["app"].gateway
        return gateway

    async def begin(self) -> None:
        """Find out who calls and on which cluster; raises Unauthenticated, NotFound."""
        scope = self.scope
        gateway = self.gateway
        header: str | None = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                if header is not None:  # whose token counts can only be guessed, and a proxy may guess otherwise
                    raise Unauthenticated("Access token is invalid.", detail="more than one Authorization header")
                header = value.decode("latin-1")
        with phase("auth"):
            identity = await gateway.authenticator.authenticate(header, Deadline.after(AUTH_SECONDS))
        self.identity = identity
        trace = current_trace.get()
        if trace is not None:
            trace.user = identity.username
        system = scope["path_params"].get("system_name")
        if system is None:
            return
        self.cluster = cluster = gateway.cluster(system)
        if trace is not None:
            trace.cluster = cluster.name
        of_files = scope["route"].path.startswith("/filesystem/{system_name}/")
        self.deadline = Deadline.after(cluster.limits.files if of_files else cluster.limits.jobs)

    async def allow(self, verb: Verb) -> None:
        """Return when the caller may do that here; raises Denied."""
        await self.gateway.authorizer.allow(self.identity, self.cluster.name, verb, self.deadline)

    async def files(self, verb: Verb, **paths: str) -> Files:
        """The caller's files on this cluster, if that is allowed and every path (by its wire name) is."""
        await self.allow(verb)
        return self.cluster.files(self.identity, **paths)

    async def uploads(self, verb: Verb, **paths: str) -> Uploads:
        """The caller's resumable uploads, if that is allowed and every path is."""
        await self.allow(verb)
        return self.cluster.uploads(self.identity, **paths)

    async def scheduler(self, verb: Verb) -> Scheduler:
        """The caller's view of the cluster's scheduler, if that is allowed."""
        await self.allow(verb)
        return self.cluster.scheduler(self.identity)

    async def transfers(self, **paths: str) -> TransferJobs:
        """The caller's transfer jobs on this cluster, if that is allowed and every path is."""
        await self.allow(Verb.TRANSFER)
        return self.cluster.transfers(self.identity, **paths)
