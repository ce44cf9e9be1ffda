"""Requests that no route of the table takes: HEAD, OPTIONS, methods that a path does not have, and unknown paths.

It knows no operation.

HEAD of a GET route runs the GET (RFC 9110, 9.3.2); OPTIONS names the methods (9.3.7); every 405 names them, too
(15.5.6). A 404 names the routes that were probably meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from difflib import SequenceMatcher
from functools import cache, partial
from itertools import islice
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from .responses import add_response_headers

if TYPE_CHECKING:
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")  # of the whole API, in Allow's order
MOST_NEAR: Final = 5  # routes that the error for an unknown path names
LONGEST: Final = 40  # characters of a segment that is compared
SIMILAR: Final = 0.6  # the least ratio of two segments that are similar
_WHOLE_SERVER: Final = "*"  # the path of `OPTIONS *`


class UnknownRoute(HTTPException):
    """There is no such path. `near` has the routes that were probably meant (`GET /status/systems`)."""

    def __init__(self, near: Sequence[str]) -> None:
        super().__init__(404)
        self.near = near


class Methods:
    """The methods that each path has, over all its routes."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._routes = [route for route in routes if isinstance(route, Route)]

    def routes_of(self, path: str) -> list[Route]:
        """The routes of a path, whatever their method.

        Of `/jobs/validate` and `/jobs/{id}` only the first: "validate" is no id of a job.
        """
        found = [route for route in self._routes if route.path_regex.match(path)]
        return [route for route in found if not any(is_more_specific(other, route) for other in found)]

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

        Raises HTTPException 405, and UnknownRoute.
        """
        method = scope["method"]
        routes = self.routes_of(path)
        allowed = self.allow(routes)
        for route in routes:
            add_response_headers(scope, *getattr(route, "RESPONSE_HEADERS", ()))
        if method == "OPTIONS" and (allowed or path == _WHOLE_SERVER):
            await options_response(allowed or METHODS)(scope, receive, send)
        elif allowed and method not in allowed:
            raise HTTPException(405, "Method Not Allowed", {"Allow": ", ".join(allowed)})
        elif routes:
            await router(scope, receive, send)
        else:
            try:
                await router(scope, receive, send)
            except HTTPException as error:
                if type(error) is not HTTPException or error.status_code != 404:
                    raise
                raise UnknownRoute(self._near(path)) from None

    def _near(self, path: str) -> list[str]:
        """The routes whose paths are nearly this one."""
        segments = path.split("/")
        near = (text for _, text in self._operations(partial(is_near, segments)))
        return list(islice(near, MOST_NEAR)) or self._beside(segments)

    def _beside(self, segments: Sequence[str]) -> list[str]:
        """The operations of an existing folder of operations (`ops/…`), those with similar names first."""
        found = [
            (-_similarity(segments[-1], template[-1]), text)
            for template, text in self._operations(partial(_is_beside, segments))
        ]
        return [text for _, text in sorted(found)[:MOST_NEAR]]

    def _operations(self, fits: Callable[[Sequence[str]], bool]) -> Iterator[tuple[Sequence[str], str]]:
        """The segments of the documented routes that fit, and each method with the path."""
        for route in self._routes:
            template = route.path.split("/")
            if route.include_in_schema and fits(template):
                for method in self.allow([route]):
                    if method not in {"HEAD", "OPTIONS"}:
                        yield template, f"{method} {route.path}"


def is_near(segments: Sequence[str], template: Sequence[str]) -> bool:
    """Whether a path is one of a route, but for one segment that is misspelt, one too few, or one too many.

    The first segments of both are the same, or the misspelt ones.
    """
    if len(segments) == len(template):
        wrong = [
            (given, wanted) for given, wanted in zip(segments, template, strict=True) if not _matches(given, wanted)
        ]
        return len(wrong) == 1 and _are_similar(*wrong[0])
    short, long = sorted((segments, template), key=len)
    if len(long) - len(short) != 1 or short[:2] != long[:2] or short[-1] != long[-1]:
        return False
    return any(_fits(short, [*long[:at], *long[at + 1 :]]) for at in range(2, len(long) - 1))


def _matches(given: str, wanted: str) -> bool:
    return given == wanted or (given != "" and wanted.startswith("{"))


def _fits(one: Sequence[str], other: Sequence[str]) -> bool:
    return all(a == b or a.startswith("{") or b.startswith("{") for a, b in zip(one, other, strict=True))


def _is_beside(segments: Sequence[str], template: Sequence[str]) -> bool:
    """Whether a path is that of a route but for the last segment, and the route has at least three."""
    alike = len(segments) == len(template) > 3 and 0 < len(segments[-1]) <= LONGEST
    return alike and not template[-1].startswith("{") and all(map(_matches, segments[:-1], template[:-1]))


def _similarity(given: str, wanted: str) -> float:
    return SequenceMatcher(None, given.lower(), wanted.lower()).ratio()


def _are_similar(given: str, wanted: str) -> bool:
    if not given or wanted.startswith("{") or len(given) > LONGEST:
        return False
    return _similarity(given, wanted) >= SIMILAR


@cache
def _shape(path: str) -> tuple[str, ...]:
    """The segments of a path, each parameter as `{}`."""
    return tuple("{}" if text[:1] == "{" else text for text in path.split("/"))


def is_more_specific(one: Route, other: Route) -> bool:
    """Whether a route has constant segments where the other one has parameters, and no more parameters than that."""
    return narrows(one.path, other.path)


@cache  # paths of the application
def narrows(one: str, other: str) -> bool:
    """The same of two paths."""
    mine, others = _shape(one), _shape(other)
    if len(mine) != len(others) or mine == others:
        return False
    return all(text in {given, "{}"} for given, text in zip(mine, others, strict=True))


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
