"""The outermost layer of every request: ids, response headers, access log, and the response to any exception.

Pure ASGI and the only middleware, because every layer costs every request. Knows no route.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI
from starlette.requests import ClientDisconnect

from flamecrest.server.http.access.refused_tokens import RefusedTokens
from flamecrest.server.http.core.openapi import complete
from flamecrest.server.http.core.route_table import RouteTable
from flamecrest.server.http.core.user_requests import UserRequests
from flamecrest.server.telemetry.trace import current_trace

from .cors import Cors
from .disconnect import RequestMonitor
from .exchange import Exchange, stopping
from .forwarded import TrustedProxies
from .target import normalize_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

    from flamecrest.server.cluster import Gateway
    from flamecrest.server.telemetry.metrics.requests import RequestMetrics

STALL_TIMEOUT: Final = 60.0  # seconds, if nothing is configured
HEALTH_PATHS: Final = ("/health/live", "/health/ready")  # answered while the gateway stops


class Edge(FastAPI):
    """The ASGI application. FastAPI describes the API; requests go to the route table, all else to FastAPI.

    `prefix` is the path prefix under which a proxy serves the API; requests are accepted with it and without it.
    `oauth2` is a second security scheme of the OpenAPI document. `logged_headers` are the request headers to log:
    lower-case name on the wire to name in the log. `cors_origins` are the origins of web pages that may use the API.
    `trusted_proxies` are the addresses whose `X-Forwarded-*` headers count. `stall_timeout` is the time in seconds
    after which a client that neither sends nor reads is disconnected. `refused_tokens` holds back many answers to
    requests without a valid token. `metrics` measures the requests; None: nothing is measured.
    """

    gateway: Gateway  # set while the application runs, by `serve_with`

    def __init__(
        self,
        *,
        prefix: str,
        oauth2: dict[str, Any] | None,
        logged_headers: Mapping[bytes, str],
        cors_origins: Sequence[str],
        trusted_proxies: Sequence[str],
        stall_timeout: float,
        refused_tokens: RefusedTokens | None = None,
        metrics: RequestMetrics | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._prefix = prefix.rstrip("/")
        self.oauth2 = oauth2
        self.metrics = metrics
        routes = RouteTable(self.router.routes, self.router)
        self._routes: ASGIApp = Cors(routes, cors_origins) if cors_origins else routes
        self.users = UserRequests()
        self.refused_tokens = refused_tokens or RefusedTokens()
        self._requests = RequestMonitor(metrics)
        self._proxies = TrustedProxies(trusted_proxies)
        self._stall_timeout = stall_timeout
        self._stopping = False
        self.leaving = False  # whether load balancers are told to send no more requests
        self._logged_headers = logged_headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. The server never sees an exception, except its own cancellation."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        if self._prefix:
            scope["root_path"] = self._prefix
        path = scope["path"]
        if path[-1:] == "/" or path[:1] != "/":
            normalize_path(scope)
        exchange = Exchange(scope, receive, send, self._requests, self._stall_timeout)
        del receive, send  # see Exchange.release
        token = current_trace.set(exchange.trace)
        try:
            if exchange.error is not None or (self._stopping and not scope["path"].endswith(HEALTH_PATHS)):
                raise exchange.error or stopping()
            if exchange.forwarded:
                self._proxies.apply(scope)
            await self._routes(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            await exchange.after_cancel()
        except ClientDisconnect:
            await exchange.client_closed()
        except Exception as error:  # noqa: BLE001 -- every error ends here
            await exchange.fail(error)
        finally:
            self.users.end(scope)
            exchange.close(path, self._logged_headers)
            current_trace.reset(token)
        if exchange.unread:
            await exchange.linger()
            exchange.release()

    def serve_with(self, gateway: Gateway) -> None:
        """Serve requests with an open gateway."""
        self.gateway = gateway
        self._requests.tracer = gateway.tracer

    @property
    def open_requests(self) -> int:
        """The number of requests that are being served."""
        return len(self._requests.open)

    def unready(self) -> str | None:
        """Why this replica should get no requests; None: it should."""
        if self.leaving or self._stopping:
            return "the gateway is being stopped"
        return self.gateway.unready()

    async def requests_ended(self) -> None:
        """Return when all requests have ended that are open at the call."""
        await self._requests.ended()

    def busy_ports(self) -> set[int]:
        """The ports of clients whose requests are open, or of proxies that have sent them.

        Without a valid token, a client that is being sent a response does not count: how many there are has no limit.
        """
        return {int(request.port) for request in self._requests.open if request.busy}

    def close_connections(self, seconds: float) -> None:
        """For some seconds from now, close every connection after its response, because others wait to be accepted."""
        self._requests.closing_until = asyncio.get_running_loop().time() + seconds

    async def stop(self, grace: float, cleanup: float) -> None:
        """Refuse new requests, wait `grace` seconds for the running ones, then end them and wait for their cleanup.

        Responses that may end at any time end at once. `cleanup` is the longest time in seconds for the last step.
        """
        self.leaving = self._stopping = True
        for exchange in self._requests.open:
            if exchange.resumable:
                exchange.stop()
        if not await self._requests.drained(grace):
            for exchange in self._requests.open:
                exchange.stop()
            await self._requests.drained(cleanup)

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        if self.openapi_schema is None:
            self.openapi_schema = complete(super().openapi(), self.oauth2)
        return self.openapi_schema
