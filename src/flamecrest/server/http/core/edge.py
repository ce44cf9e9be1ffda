"""Edge: what happens around every request: ids, headers, the line in the log, the last resort; knows no route.

Pure ASGI and the only middleware, since every layer costs each request.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from flamecrest.server.errors import GatewayError
from flamecrest.server.telemetry.log import log_request
from flamecrest.server.telemetry.trace import Trace, current_trace

from .disconnect import DisconnectMonitor
from .errors import error_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTRACT_VERSION: Final = "2.5.7"  # the FirecREST release whose API this is; clients decide by it what they send

_VERSION: Final = (b"f7t-appversion", CONTRACT_VERSION.encode())
_SANE: Final = re.compile(rb"[A-Za-z0-9._:/+=@\-]{1,128}")
_IDS: Final = frozenset({b"x-request-id", b"x-correlation-id"})
_BODILESS: Final = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
_CLIENT_GONE: Final = 499  # in the log only: nobody is there to read it

log = logging.getLogger("flamecrest.http")


class Edge:
    """Wraps the application."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._disconnects = DisconnectMonitor()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; whatever happens, the server above never sees an exception of ours."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        if path[-1:] == "/" and len(path) > 1 and not path.endswith("/liveness/"):
            scope["path"] = path[:-1]  # answered, not redirected: a redirect can lead a token astray
        exchange = Exchange(scope, receive, send, self._disconnects)
        trace = exchange.trace
        token = current_trace.set(trace)
        try:
            await self.app(scope, exchange.watch.receive, exchange.send)
        except asyncio.CancelledError:
            if not exchange.watch.gone:
                raise
            if task := asyncio.current_task():
                task.uncancel()
            trace.status = _CLIENT_GONE
        except ClientDisconnect:
            trace.status = _CLIENT_GONE
        except Exception as error:  # noqa: BLE001 -- this is where every error ends
            await exchange.fail(error)
        finally:
            exchange.close(path)
            current_trace.reset(token)


class Exchange:
    """One request and its answer."""

    __slots__ = ("_begun", "_scope", "_send", "_started", "trace", "watch")

    def __init__(self, scope: Scope, receive: Receive, send: Send, disconnects: DisconnectMonitor) -> None:
        self._begun = time.perf_counter()
        self._scope = scope
        self._send = send
        self._started = False
        self.trace = _trace(scope)
        self.watch = disconnects.watch(receive, has_body=scope["method"] not in _BODILESS)

    async def send(self, message: Message) -> None:
        """Pass the answer on, with the headers that all answers have."""
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
            )
            if trace.user is not None:
                headers.append((b"f7t-authusername", trace.user.encode("ascii", "replace")))
        else:
            trace.sent += len(message.get("body", b""))
            if not message.get("more_body", False):
                self.watch.answered = True
        await self._send(message)

    async def fail(self, error: Exception) -> None:
        """Answer an error; or, half-way through an answer, leave it unfinished: the server cuts the connection."""
        if self._started or not isinstance(error, GatewayError | HTTPException):
            what = "answer cut off half-way" if self._started else "unexpected error"
            log.error("%s", what, exc_info=error)
        response = error_response(error)
        if not self._started:
            await response(self._scope, self.watch.receive, self.send)

    def close(self, path: str) -> None:
        """Stop watching and write the log's line."""
        self.watch.stop()
        route = self._scope.get("route")
        if route is not None:
            self.trace.route = route.path
        log_request(self.trace, time.perf_counter() - self._begun, path)


def _trace(scope: Scope) -> Trace:
    """Take the ids over from the request where they are sane, else make them."""
    request_id = correlation_id = ""
    for name, value in scope["headers"]:
        if name in _IDS and _SANE.fullmatch(value):
            if name == b"x-request-id":
                request_id = value.decode()
            else:
                correlation_id = value.decode()
    if not request_id:
        request_id = f"{random.getrandbits(128):032x}"  # a name, not a secret
    return Trace(request_id, correlation_id or request_id, scope["method"])
