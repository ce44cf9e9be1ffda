"""The application: all routes in one list, and a lifespan that opens and closes the Gateway.

With `http`, the only code that knows FastAPI.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from flamecrest import __version__
from flamecrest.server.http import compute, status, transfer
from flamecrest.server.http.core import docs
from flamecrest.server.http.core.edge import STALL_TIMEOUT, Edge
from flamecrest.server.http.core.openapi import oauth2_scheme
from flamecrest.server.http.files import bulk, extensions
from flamecrest.server.http.files import routes as filesystem
from flamecrest.server.http.files.tus import routes as uploads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from starlette.routing import BaseRoute

    from flamecrest.server.cluster import Gateway
    from flamecrest.server.settings import Settings


def routes() -> list[BaseRoute]:
    """All routes, in the order in which the framework's router tries them."""
    return [
        *filesystem.router.routes,
        *extensions.router.routes,
        *compute.router.routes,
        *status.open_router.routes,
        *status.router.routes,
        *status.system_router.routes,
        *transfer.router.routes,
        *bulk.router.routes,
        *uploads.router.routes,
        *docs.routes,
    ]


def build_app(
    open_gateway: Callable[[], AbstractAsyncContextManager[Gateway]],
    *,
    root_path: str = "",
    servers: Sequence[Mapping[str, Any]] | None = None,
    oauth2: dict[str, Any] | None = None,
    logged_headers: Mapping[bytes, str] | None = None,
    cors_origins: Sequence[str] = (),
    trusted_proxies: Sequence[str] = (),
    stall_timeout: float = STALL_TIMEOUT,
) -> Edge:
    """Make the application of a Gateway, which is opened when the server starts and closed when it stops.

    `root_path` is the path prefix under which a proxy serves the API; requests are accepted with it and without it.
    `servers` are the addresses in the OpenAPI document, `oauth2` is its second security scheme, beside the bearer
    token. `logged_headers` are the request headers in the access log: lower-case name on the wire to name in the log.
    `cors_origins` are the origins of web pages that may use the API. `trusted_proxies` are the addresses whose
    `X-Forwarded-*` headers count. `stall_timeout` is the time in seconds after which a client that neither sends nor
    reads is disconnected.
    """

    @asynccontextmanager
    async def lifespan(app: Edge) -> AsyncIterator[None]:
        async with open_gateway() as gateway:
            app.gateway = gateway
            yield

    return Edge(
        title="Flamecrest",
        summary="One HTTP API in front of every HPC cluster of a centre; speaks FirecREST v2.",
        version=__version__,
        routes=routes(),
        lifespan=lifespan,
        prefix=root_path,
        oauth2=oauth2,
        logged_headers=logged_headers or {},
        cors_origins=cors_origins,
        trusted_proxies=trusted_proxies,
        stall_timeout=stall_timeout,
        root_path_in_servers=not servers,
        servers=[dict(server) for server in servers] if servers else None,
        redirect_slashes=False,
        docs_url=None,  # http/core/docs.py serves pages that load nothing from other hosts
        redoc_url=None,
    )


def create_app(settings: Settings) -> Edge:
    """Make the application for a configuration."""
    from flamecrest.server.wiring.gateway import open_gateway  # noqa: PLC0415 -- loads the adapters only when they run

    tokens, logger = settings.auth.authentication, settings.logger
    return build_app(
        lambda: open_gateway(settings),
        root_path=settings.apis_root_path,
        servers=settings.doc_servers,
        oauth2=oauth2_scheme(tokens.token_url, tokens.scopes) if tokens.scopes and tokens.token_url else None,
        logged_headers={header.input.lower().encode(): header.output for header in logger.loggable_request_headers}
        if logger.enable_tracing_log
        else None,
        cors_origins=settings.server.cors_origins,
        trusted_proxies=settings.server.trusted_proxies,
        stall_timeout=settings.server.stall_timeout,
    )
