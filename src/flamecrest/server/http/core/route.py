"""Routes, and the Call that a handler is given. Knows the Cluster; no operation and no adapter.

A request is processed in this order: authenticate the caller, find the cluster, read path, query and body, run the
handler. The handler asks for permission (`Call.allow`), so a request that is not valid is answered with 400 before
it is answered with 403.
"""

import inspect
from typing import Any, ClassVar, Final, Literal

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from flamecrest.server.auth.jws import invalid_token
from flamecrest.server.auth.port import Identity, RequestProof, Verb
from flamecrest.server.cluster import Cluster, Gateway, Permission
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import InsufficientScope, Timeout, Unauthenticated
from flamecrest.server.http.access.challenge import challenge
from flamecrest.server.http.access.proof import proof_of
from flamecrest.server.telemetry.trace import current_trace, phase

from .caller_deadline import REQUEST_TIMEOUT, seconds_of
from .fair_use import ADMISSION, admit, admit_verb
from .parameters import Parameters

AUTH_SECONDS: Final = 10.0  # time limit of the authentication, which may have to fetch the issuer's keys


class Call(Request):
    """A request of an authenticated caller. `cluster` is set if the path names a system."""

    identity: Identity
    cluster: Cluster
    deadline: Deadline
    permission: Permission | None = None

    @property
    def gateway(self) -> Gateway:
        """The gateway that serves the request."""
        gateway: Gateway = self.scope["app"].gateway
        return gateway

    def proof(self) -> RequestProof:
        """What the request shows as proof that its sender has the key of a bound token."""
        return proof_of(self)

    async def allow(
        self,
        verb: Verb,
        *paths: str,
        sources: tuple[str, ...] = (),
        jobs: tuple[str, ...] = (),
        tree: bool = False,
        through_links: bool = False,
    ) -> Permission:
        """Ask the authorizer; the result hands out the ports of the cluster. See Cluster.allow; raises Busy, too."""
        self.permission = permission = await self.cluster.allow(
            self.identity,
            verb,
            self.deadline,
            *paths,
            sources=sources,
            jobs=jobs,
            tree=tree,
            through_links=through_links,
        )
        if ADMISSION in self.scope:
            await admit_verb(verb, self.scope)
        return permission

    async def allow_each(self, verb: Verb, path: str) -> Permission:
        """Ask the authorizer for a request about many paths, of which this is one. See Cluster.allow_each."""
        self.permission = permission = await self.cluster.allow_each(self.identity, verb, self.deadline, path)
        if ADMISSION in self.scope:
            await admit_verb(verb, self.scope)
        return permission


class GatewayRoute(APIRoute):
    """A route that requires a bearer token. The framework describes it in OpenAPI but does not serve it."""

    timeout: ClassVar[Literal["files", "jobs"]] = "jobs"  # which of the cluster's Limits is the deadline

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        _refuse_dependencies(self)
        self._parameters = Parameters(self.endpoint, self.dependant)
        self.app = self._serve

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(scope, receive)
        await self._begin(call)
        if REQUEST_TIMEOUT in scope:
            call.deadline = call.deadline.sub(seconds_of(scope[REQUEST_TIMEOUT]))
        try:
            values = self._parameters.without_query
            if values is None or scope["query_string"]:
                values = await self._parameters.read(call, call.deadline)
            response = await self.endpoint(call, **values)
        except BaseException as error:
            if isinstance(error, Timeout) and REQUEST_TIMEOUT in scope:
                error.by_request = True
            if call.permission is not None:
                call.permission.failed(error)
            raise
        if (permission := call.permission) is None:
            await response(scope, receive, send)
            return
        try:  # a download is opened only now
            await response(scope, receive, send if permission.watched is None else _reporting(permission, send))
        except BaseException as error:
            permission.failed(error, quick=False)  # the client may have been slow
            raise

    async def _begin(self, call: Call) -> None:
        """Set identity, cluster and deadline. Raises Unauthenticated, Denied, Unavailable, Busy, NotFound."""
        scope = call.scope
        app = scope["app"]
        gateway: Gateway = app.gateway
        header: str | None = None
        call.deadline = Deadline.after(AUTH_SECONDS)
        try:
            for name, value in scope["headers"]:
                if name == b"authorization":
                    if header is not None:  # a proxy in front may have checked the other one
                        raise invalid_token("more than one Authorization header")
                    header = value.decode("latin-1")
            with phase("auth"):
                identity = await gateway.authenticator.authenticate(header, call.deadline, call.proof)
        except (Unauthenticated, InsufficientScope) as error:
            error.challenge = challenge(call, error)
            await app.refused_tokens.hold(scope)
            raise
        call.identity = identity
        trace = current_trace.get()
        if trace is not None:
            trace.user = identity.username
            trace.identity = identity
        app.users.begin(identity.username, scope)
        if gateway.fair_use is not None:
            await admit(gateway.fair_use, identity, scope)
        system = scope["path_params"].get("system_name")
        if system is None:
            return
        call.cluster = cluster = gateway.cluster(system)
        if identity.accounts:
            call.identity = identity = identity.on(cluster.name)
        if trace is not None:
            trace.user = identity.username
            trace.cluster = cluster.name
        limits = cluster.limits
        call.deadline = Deadline.after(limits.files if self.timeout == "files" else limits.jobs)


class FilesRoute(GatewayRoute):
    """A route whose deadline is that of file operations."""

    timeout = "files"


def _reporting(permission: Permission, send: Send) -> Send:
    """Report that the request was served when its response begins: before, it can still become an error."""

    async def reported(message: Message) -> None:
        if message["type"] == "http.response.start":
            permission.succeeded()
        await send(message)

    return reported


def _refuse_dependencies(route: APIRoute) -> None:
    """Raise TypeError for `dependencies=[…]` of a route or router: they would be documented and never run."""
    if route.dependencies:
        raise TypeError(f"{route.name}: `dependencies` are never run; call them in the handler")


class OpenRoute(APIRoute):
    """A route without authentication and parameters. Raises TypeError for a handler that has some."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        _refuse_dependencies(self)
        if list(inspect.signature(self.endpoint).parameters) != [self.dependant.request_param_name]:
            raise TypeError(f"{self.name}: a handler without authentication takes the Request only")
        self.app = self._serve

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.endpoint(Request(scope, receive))
        await response(scope, receive, send)
