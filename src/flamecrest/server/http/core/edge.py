"""The outermost layer of every request: ids, response headers, access log, and the response to any exception.

Pure ASGI and the only middleware, because every layer costs every request. Knows no route.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from flamecrest.server.errors import GatewayError
from flamecrest.server.telemetry.trace import Trace, current_trace, log_request

from .cors import Cors
from .disconnect import DisconnectMonitor
from .errors import error_response
from .openapi import complete
from .responses import added_response_headers
from .route_table import RouteTable
from .target import normalize_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from flamecrest.server.cluster import Gateway

CONTRACT_VERSION: Final = "2.5.7"  # the FirecREST release whose API this is; clients adapt their requests to it

_VERSION: Final = (b"f7t-appversion", CONTRACT_VERSION.encode())
_VALID_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=@\-]{1,128}")
_IDS: Final = frozenset({b"x-request-id", b"x-correlation-id"})
_BODILESS: Final = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
_MAX_LOGGED: Final = 1024  # bytes of a header's value
_CLIENT_CLOSED: Final = 499  # in the access log only: the client has disconnected

log = logging.getLogger("flamecrest.http")


class Edge(FastAPI):
    """The ASGI application. FastAPI describes the API; requests go to the route table, all else to FastAPI.

    `prefix` is the path prefix under which a proxy serves the API; requests are accepted with it and without it.
    `oauth2` is a second security scheme of the OpenAPI document. `logged_headers` are the request headers to log:
    lower-case name on the wire to name in the log. `cors_origins` are the origins of web pages that may use the API.
    """

    gateway: Gateway  # set while the application runs

    def __init__(
        self,
        *,
        prefix: str,
        oauth2: dict[str, Any] | None,
        logged_headers: Mapping[bytes, str],
        cors_origins: Sequence[str],
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._prefix = prefix.rstrip("/")
        self._oauth2 = oauth2
        routes = RouteTable(self.router.routes, self.router)
        self._routes: ASGIApp = Cors(routes, cors_origins) if cors_origins else routes
        self._disconnects = DisconnectMonitor()
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
        exchange = Exchange(scope, receive, send, self._disconnects)
        trace = exchange.trace
        token = current_trace.set(trace)
        try:
            await self._routes(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            if not exchange.disconnected:
                raise
            if task := asyncio.current_task():
                task.uncancel()
            trace.status = _CLIENT_CLOSED
        except ClientDisconnect:
            trace.status = _CLIENT_CLOSED
        except Exception as error:  # noqa: BLE001 -- every error ends here
            await exchange.fail(error)
        finally:
            if self._logged_headers:
                trace.headers = _selected(scope, self._logged_headers)
            exchange.close(path)
            current_trace.reset(token)

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        if self.openapi_schema is None:
            self.openapi_schema = complete(super().openapi(), self._oauth2)
        return self.openapi_schema


class Exchange:
    """One request and its response. Cancels its task if the client disconnects before the response ends."""

    __slots__ = (
        "_begun", "_body_read", "_listener", "_monitor", "_receive", "_responded", "_scope", "_send", "_started",
        "_task", "disconnected", "trace",
    )  # fmt: skip

    def __init__(self, scope: Scope, receive: Receive, send: Send, monitor: DisconnectMonitor) -> None:
        """Take valid ids from the request's headers; make those that are missing."""
        task = asyncio.current_task(monitor.loop)
        if task is None:  # the application runs in another event loop now
            monitor.timer = None
            task = asyncio.current_task()
        assert task is not None  # noqa: S101 -- a coroutine runs in a task
        if monitor.timer is None:
            monitor.start(task.get_loop())
        monitor.new.add(self)
        self._begun = time.perf_counter()
        self._scope = scope
        self._receive = receive
        self._send = send
        self._monitor = monitor
        self._task = task
        self._body_read = scope["method"] in _BODILESS
        self._listener: asyncio.Task[None] | None = None
        self._started = self._responded = self.disconnected = False
        request_id = correlation_id = ""
        for name, value in scope["headers"]:
            if name in _IDS and _VALID_ID.fullmatch(value):
                if name == b"x-request-id":
                    request_id = value.decode()
                else:
                    correlation_id = value.decode()
        if not request_id:
            request_id = f"{random.getrandbits(128):032x}"  # not a secret
        self.trace = Trace(request_id, correlation_id or request_id, scope["method"])

    async def receive(self) -> Message:
        """Receive a message of the request. While `listen` runs, only a disconnect is delivered."""
        if self._listener is not None:
            await asyncio.wait((self._listener,))
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._body_read = True
        return message

    async def send(self, message: Message) -> None:
        """Send a message of the response, with the headers that every response has."""
        trace = self.trace
        if message["type"] == "http.response.start":
            self._started = True
            trace.status = message["status"]
            headers = message["headers"]
            headers += (
                _VERSION,
                (b"f7t-timestamp", b"%.6f" % time.time()),
                (b"x-request-id", trace.request_id.encode()),
                (b"x-correlation-id", trace.correlation_id.encode()),
                *added_response_headers(self._scope),
            )
            if trace.user is not None:
                headers.append((b"f7t-authusername", trace.user.encode("ascii", "replace")))
        else:
            trace.sent += len(message.get("body", b""))
            if not message.get("more_body", False):
                self._responded = True
        await self._send(message)

    async def fail(self, error: Exception) -> None:
        """Send the response to an error. One that has begun stays incomplete: the server closes the connection."""
        if self._started or not isinstance(error, GatewayError | HTTPException):
            what = "answer cut off half-way" if self._started else "unexpected error"
            log.error("%s", what, exc_info=error)
        response = error_response(error)
        if not self._started:
            await response(self._scope, self.receive, self.send)

    def close(self, path: str) -> None:
        """Stop listening for a disconnect, and write the access log line."""
        self._monitor.new.discard(self)
        self._monitor.old.discard(self)
        if self._listener is not None:
            self._listener.cancel()
        route = self._scope.get("route")
        if route is not None:
            self.trace.route = route.path
        log_request(self.trace, time.perf_counter() - self._begun, path)

    def listen(self) -> bool:
        """Start to listen for a disconnect; False if that is not possible yet.

        While the handler reads the body it receives a disconnect itself, and listening could lose a chunk of the body.
        """
        if not self._body_read:
            return False
        self._listener = self._task.get_loop().create_task(self._listen())
        return True

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._responded:
            self.disconnected = True
            self._task.cancel()


def _selected(scope: Scope, names: Mapping[bytes, str]) -> dict[str, str]:
    """The request headers to log. Values of a repeated header are joined by commas; long values are cut."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        if name in names:
            key, text = names[name], value[:_MAX_LOGGED].decode("latin-1")
            found[key] = f"{found[key]}, {text}" if key in found else text
    return found
