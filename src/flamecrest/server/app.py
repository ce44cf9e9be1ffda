"""The application: routes, middleware and error handlers, each listed once; its lifespan is the Gateway's.

With `http`, the only code that knows FastAPI.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from flamecrest import __version__
from flamecrest.server.http import compute, status, transfer
from flamecrest.server.http.core import docs, openapi
from flamecrest.server.http.core.edge import Edge
from flamecrest.server.http.core.route_table import RouteTable
from flamecrest.server.http.files import bulk, extensions
from flamecrest.server.http.files import routes as filesystem
from flamecrest.server.http.files.tus import routes as uploads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from starlette.routing import BaseRoute
    from starlette.types import Receive, Scope, Send

    from flamecrest.server.cluster import Gateway
    from flamecrest.server.settings import Settings


def routes() -> list[BaseRoute]:
    """Every route, those that are asked most first: they are tried in this order."""
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


class Api(FastAPI):
    """FastAPI as the description of the API and its router. Between server and routes stand Edge and Table alone."""

    gateway: Gateway  # there while the application runs

    def __init__(self, *, prefix: str, **options: Any) -> None:
        super().__init__(**options)
        self._prefix = prefix.rstrip("/")
        self._edge = Edge(RouteTable(self.router.routes, self.router))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; the rest (lifespan) is the framework's."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        if self._prefix:
            scope["root_path"] = self._prefix
        await self._edge(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        if self.openapi_schema is None:
            self.openapi_schema = openapi.complete(super().openapi())
        return self.openapi_schema


def build_app(
    gateway_context: Callable[[], AbstractAsyncContextManager[Gateway]],
    *,
    root_path: str = "",
    servers: Sequence[Mapping[str, Any]] | None = None,
) -> Api:
    """Make the application of a Gateway, which is entered when the server starts and left when it stops.

    `root_path` is the prefix under which the API is seen from outside; requests are answered with it and without
    it. `servers` are the addresses that the documentation names.
    """

    @asynccontextmanager
    async def lifespan(app: Api) -> AsyncIterator[None]:
        async with gateway_context() as gateway:
            app.gateway = gateway
            yield

    return Api(
        title="Flamecrest",
        summary="One HTTP API in front of every HPC cluster of a centre; speaks FirecREST v2.",
        version=__version__,
        routes=routes(),
        lifespan=lifespan,
        prefix=root_path,
        root_path_in_servers=not servers,
        servers=[dict(server) for server in servers] if servers else None,
        redirect_slashes=False,
        docs_url=None,  # docs.py has pages that need no other host
        redoc_url=None,
    )


def create_app(settings: Settings) -> Api:
    """Make the application that a configuration describes."""
    from flamecrest.server.wiring.gateway import open_gateway  # noqa: PLC0415 -- adapters are loaded only where they run

    return build_app(lambda: open_gateway(settings), root_path=settings.apis_root_path, servers=settings.doc_servers)
