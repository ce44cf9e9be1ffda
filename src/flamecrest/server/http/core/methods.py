"""Requests that no route of the table takes: HEAD, OPTIONS, and methods that a path does not have. Knows no operation.

HEAD of a GET route runs the GET (RFC 9110, 9.3.2); OPTIONS names the methods (9.3.7); every 405 names them, too
(15.5.6).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from .responses import add_response_headers

if TYPE_CHECKING:
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")  # of the whole API, in Allow's order
_WHOLE_SERVER: Final = frozenset({"*", "/"})  # paths of `OPTIONS *` and of `OPTIONS http://host`


class Methods:
    """The methods that each path has, over all its routes."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._routes = [route for route in routes if isinstance(route, Route)]

    def routes_of(self, path: str) -> list[Route]:
        """The routes of a path, whatever their method."""
        return [route for route in self._routes if route.path_regex.match(path)]

    @staticmethod
    def allow(routes: Sequence[Route]) -> list[str]:
        """The methods that these routes have: with OPTIONS, and with HEAD if there is GET. Empty without a route."""
        found = {method for route in routes for method in route.methods or ()}
        if found:
            found.add("OPTIONS")
        if "GET" in found:
            found.add("HEAD")
        return [method for method in METHODS if method in found]

    async def serve(self, path: str, router: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer OPTIONS and methods that the path does not have; leave all else to the router.

        Raises HTTPException 405.
        """
        method = scope["method"]
        routes = self.routes_of(path)
        allowed = self.allow(routes)
        for route in routes:
            add_response_headers(scope, *getattr(route, "RESPONSE_HEADERS", ()))
        if method == "OPTIONS" and (allowed or path in _WHOLE_SERVER):
            await options_response(allowed or METHODS)(scope, receive, send)
        elif allowed and method not in allowed:
            raise HTTPException(405, "Method Not Allowed", {"Allow": ", ".join(allowed)})
        else:
            await router(scope, receive, send)


def options_response(allowed: Sequence[str]) -> Response:
    """The answer to OPTIONS."""
    return Response(status_code=204, headers={"Allow": ", ".join(allowed)})


class _HeadSent(Exception):
    """The head of the response has been sent; what the handler would do for the body is not needed."""


async def serve_head(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run an ASGI application that answers GET, and send its status and headers only."""

    async def send_head(message: Message) -> None:
        if message["type"] != "http.response.body":
            await send(message)
            return
        await send({"type": "http.response.body"})
        if message.get("more_body", False):
            raise _HeadSent  # a stream can be endless

    with suppress(_HeadSent):
        await app(scope, receive, send_head)
