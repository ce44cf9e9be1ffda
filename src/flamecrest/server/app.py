"""The application: all routes in one list, and a lifespan that opens and closes the Gateway.

With `http`, the only code that knows FastAPI.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from flamecrest import __version__
from flamecrest.server.http import compute, health, metadata, status, tokens
from flamecrest.server.http.access.refused_tokens import RefusedTokens
from flamecrest.server.http.core import docs
from flamecrest.server.http.core.openapi import code_scheme, oauth2_scheme, openid_scheme
from flamecrest.server.http.edge.application import STALL_TIMEOUT, Edge
from flamecrest.server.http.files import bulk, extensions
from flamecrest.server.http.files import routes as filesystem
from flamecrest.server.http.files.tus import routes as uploads
from flamecrest.server.http.jobs import bulk as bulk_jobs
from flamecrest.server.http.jobs import routes as jobs
from flamecrest.server.http.transfer import routes as transfer
from flamecrest.server.http.transfer import signed, tracked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from starlette.routing import BaseRoute

    from flamecrest.server.cluster import Gateway
    from flamecrest.server.settings import AuthenticationSettings, Settings
    from flamecrest.server.telemetry.metrics.requests import RequestMetrics


DESCRIPTION = """\
Every request needs an access token of the centre's identity provider, in the header `Authorization: Bearer …`. To try
operations on [the page with forms](docs), choose *Authorize* there and paste one, or log in if the centre offers that.
The issuers are in `/.well-known/oauth-protected-resource`; programs get one there with the client credentials grant.

Begin with `GET /status/systems`: it shows the systems and the paths that can be used. Unknown query parameters are
ignored. An error is a JSON object whose `message` says what to do.

All operations as text on one page: [redoc](redoc). For programs: [openapi.json](openapi.json).
"""


def routes() -> list[BaseRoute]:
    """All routes, in the order in which the framework's router tries them."""
    return [
        *filesystem.router.routes,
        *extensions.router.routes,
        *compute.router.routes,
        *jobs.router.routes,
        *bulk_jobs.router.routes,
        *status.open_router.routes,
        *status.router.routes,
        *status.system_router.routes,
        *transfer.router.routes,
        *signed.router.routes,
        *tracked.router.routes,
        *bulk.router.routes,
        *uploads.router.routes,
        *metadata.routes,
        *health.routes,
        *tokens.router.routes,
        *docs.routes,
    ]


_FIXED: Final[Mapping[str, Any]] = {
    "title": "Flamecrest",
    "summary": "One HTTP API in front of every HPC cluster of a centre; speaks FirecREST v2.",
    "description": DESCRIPTION,
    "version": __version__,
    "redirect_slashes": False,
    "docs_url": None,  # http/core/docs.py serves pages that load nothing from other hosts
    "redoc_url": None,
}


def build_app(
    open_gateway: Callable[[], AbstractAsyncContextManager[Gateway]],
    *,
    root_path: str = "",
    servers: Sequence[Mapping[str, Any]] | None = None,
    oauth2: dict[str, Any] | None = None,
    docs_client: str | None = None,
    docs_scopes: Sequence[str] = (),
    guide: str | None = None,
    logged_headers: Mapping[bytes, str] | None = None,
    cors_origins: Sequence[str] = (),
    trusted_proxies: Sequence[str] = (),
    stall_timeout: float = STALL_TIMEOUT,
    refused_tokens: RefusedTokens | None = None,
    metrics: RequestMetrics | None = None,
) -> Edge:
    """Make the application of a Gateway, which is opened when the server starts and closed when it stops.

    `root_path` is the path prefix under which a proxy serves the API; requests are accepted with it and without it.
    `servers` are the addresses in the OpenAPI document, `oauth2` is its second security scheme, beside the bearer
    token, with which Swagger UI logs in as the public client `docs_client`, asking for `docs_scopes`.
    `guide` is the URL of a guide for users, which the documentation links to.
    `logged_headers` are the request headers in the access log: lower-case name on the wire to name in the log.
    `cors_origins` are the origins of web pages that may use the API. `trusted_proxies` are the addresses whose
    `X-Forwarded-*` headers count. `stall_timeout` is the time in seconds after which a client that neither sends
    nor reads is disconnected. `refused_tokens` holds back many answers to requests without a valid token. `metrics`
    measures the requests.
    """
    return Edge(
        **_FIXED,
        routes=routes(),
        lifespan=_lifespan(open_gateway),
        prefix=root_path,
        oauth2=oauth2,
        swagger_ui_init_oauth=_client(docs_client, docs_scopes) if docs_client else None,
        logged_headers=logged_headers or {},
        cors_origins=cors_origins,
        trusted_proxies=trusted_proxies,
        stall_timeout=stall_timeout,
        refused_tokens=refused_tokens,
        metrics=metrics,
        root_path_in_servers=not servers,
        servers=[dict(server) for server in servers] if servers else None,
        openapi_external_docs={"description": "Guide for users", "url": guide} if guide else None,
    )


def _lifespan(
    open_gateway: Callable[[], AbstractAsyncContextManager[Gateway]],
) -> Callable[[Edge], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: Edge) -> AsyncIterator[None]:
        async with open_gateway() as gateway:
            app.serve_with(gateway)
            yield

    return lifespan


def _login(issuer: AuthenticationSettings) -> dict[str, Any] | None:
    """How the OpenAPI document says that tokens are obtained, beside the bearer token itself."""
    if issuer.docs_client_id is not None:
        if issuer.authorization_url is not None and issuer.token_url is not None:
            return code_scheme(issuer.authorization_url, issuer.token_url, issuer.scopes)
        if issuer.issuer is not None:
            return openid_scheme(issuer.issuer)
    return oauth2_scheme(issuer.token_url, issuer.scopes) if issuer.scopes and issuer.token_url else None


def _client(name: str, scopes: Sequence[str]) -> dict[str, Any]:
    """How Swagger UI logs in: authorization code with PKCE, without a secret."""
    return {"clientId": name, "scopes": list(scopes), "usePkceWithAuthorizationCodeGrant": True}


def create_app(settings: Settings, *, signing_key: bytes | None = None) -> Edge:
    """Make the application for a configuration.

    `signing_key` signs URLs if none is configured, for processes that work together; None: a new key.
    """
    from flamecrest.server.wiring.gateway import open_gateway  # noqa: PLC0415 -- loads the adapters only when they run

    issuer, logger = settings.auth.authentication, settings.logger
    return build_app(
        lambda: open_gateway(settings, signing_key),
        root_path=settings.apis_root_path,
        servers=settings.doc_servers,
        oauth2=_login(issuer),
        docs_client=issuer.docs_client_id,
        docs_scopes=list(issuer.scopes),
        guide=settings.documentation_url,
        logged_headers={header.input.lower().encode(): header.output for header in logger.loggable_request_headers}
        if logger.enable_tracing_log
        else None,
        cors_origins=settings.server.cors_origins,
        trusted_proxies=settings.server.trusted_proxies,
        stall_timeout=settings.server.stall_timeout,
        refused_tokens=RefusedTokens(settings.server.refused_tokens_per_second),
        metrics=_metrics(settings),
    )


def _metrics(settings: Settings) -> RequestMetrics | None:
    if settings.metrics is None:
        return None
    from flamecrest.server.telemetry.metrics.requests import RequestMetrics  # noqa: PLC0415 -- only if it is configured

    return RequestMetrics()
