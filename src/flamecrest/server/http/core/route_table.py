"""Finds the route of a request by the segments of its path; the result is that of the framework's router.

The router tries a regular expression for every route in turn. Whatever the table does not hold is passed on: other
methods to `methods`, unknown paths, documentation, parameters that are not whole segments to the router. Unlike the
router, it takes no path that is constant in another route as one with a parameter: `/jobs/validate` is no `/jobs/{id}`.
"""

from __future__ import annotations

from functools import lru_cache, partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from fastapi.routing import APIRoute
from starlette.convertors import StringConvertor
from starlette.exceptions import HTTPException

from .methods import Methods, narrows, serve_head

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

Constants = tuple[tuple[int, str], ...]  # positions and texts of segments
MAX_PATH: Final = 2048  # characters of a path that is passed on: every regular expression would read all of it
MAX_KNOWN: Final = 1000  # paths whose routes are remembered
_SHORT: Final = 200  # characters of such a path, at most


class PathPattern:
    """The routes of one method whose paths have their parameters at the same positions."""

    def __init__(self, constant: tuple[int, ...], parameters: tuple[int, ...]) -> None:
        self.parameters = parameters  # positions
        # All constant segments as one key. itemgetter with one index returns no tuple, and without one it fails.
        self.key: Callable[[list[str]], Any] = itemgetter(*constant) if constant else len
        self.routes: dict[Any, tuple[int, APIRoute, tuple[str, ...]]] = {}  # the first of its path, with its rank

    def add(self, rank: int, route: APIRoute, segments: list[str]) -> None:
        """Add a route; the first of several with the same path is kept."""
        names = tuple(segments[position][1:-1] for position in self.parameters)
        self.routes.setdefault(self.key(segments), (rank, route, names))


class RouteTable:
    """An ASGI application: the routes of the table, and the router for all other requests."""

    def __init__(self, routes: Sequence[BaseRoute], router: ASGIApp) -> None:
        self._router = router
        self._methods = Methods(routes)
        self._patterns: dict[tuple[str, int], list[PathPattern]] = {}  # by method and number of segments
        self._known: dict[tuple[str, str], tuple[APIRoute, dict[str, str]]] = {}  # by method and path, those asked for
        paths = tuple((route.path, frozenset(route.methods or ())) for route in routes if isinstance(route, APIRoute))
        self._without = _no_parameters(paths)
        for rank, route in enumerate(routes):
            if isinstance(route, APIRoute) and _has_whole_segments(route):
                for method in route.methods or ():
                    self._add(rank, route, method)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve an HTTP request with its route."""
        path: str = scope["path"]
        prefix: str = scope.get("root_path", "")
        if prefix and path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in {"", "/"}:
            path = path[len(prefix) :]
            if not path:  # the router knows the front page with its slash only
                path, scope["path"] = "/", f"{prefix}/"
        found = self.find(scope["method"], path)
        if found is not None:
            return self._serve(found, scope, receive, send)
        if scope["method"] == "HEAD" and (found := self.find("GET", path)) is not None:
            return serve_head(partial(self._serve, found), scope, receive, send)
        if len(path) > MAX_PATH:
            raise HTTPException(404)
        return self._methods.serve(path, self._router, scope, receive, send)

    @staticmethod
    def _serve(found: tuple[APIRoute, dict[str, str]], scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        route, scope["path_params"] = found
        scope["route"] = route
        scope["endpoint"] = route.endpoint
        return route.app(scope, receive, send)

    def find(self, method: str, path: str) -> tuple[APIRoute, dict[str, str]] | None:
        """The route of a path, and the parameters in the path; None if the table does not hold it."""
        known = self._known.get((method, path))
        if known is None:
            known = self._search(method, path)
            if known is None:
                return None
            if len(path) <= _SHORT:
                if len(self._known) >= MAX_KNOWN:
                    self._known.clear()
                self._known[method, path] = known
        return known[0], known[1].copy()

    def _search(self, method: str, path: str) -> tuple[APIRoute, dict[str, str]] | None:
        segments = path.split("/")
        best: tuple[int, APIRoute, dict[str, str]] | None = None
        for pattern in self._patterns.get((method, len(segments)), ()):
            found = pattern.routes.get(pattern.key(segments))
            if found is not None and (best is None or found[0] < best[0]):
                rank, route, names = found
                values = [segments[position] for position in pattern.parameters]
                if "" not in values:
                    best = rank, route, dict(zip(names, values, strict=True))
        if best is None:
            return None
        for constants in self._without.get((method, best[1].path), ()):
            if all(segments[position] == text for position, text in constants):
                return None
        return best[1:]

    def _add(self, rank: int, route: APIRoute, method: str) -> None:
        segments = route.path.split("/")
        parameters = tuple(position for position, segment in enumerate(segments) if segment.startswith("{"))
        patterns = self._patterns.setdefault((method, len(segments)), [])
        pattern = next((one for one in patterns if one.parameters == parameters), None)
        if pattern is None:
            constant = tuple(position for position in range(len(segments)) if position not in parameters)
            pattern = PathPattern(constant, parameters)
            patterns.append(pattern)
        pattern.add(rank, route, segments)


def _has_whole_segments(route: APIRoute) -> bool:
    """Whether every parameter in the route's path is a whole segment without conversion."""
    if any(type(convertor) is not StringConvertor for convertor in route.param_convertors.values()):
        return False
    segments = route.path.split("/")
    return all("{" not in segment or segment[1:-1] in route.param_convertors for segment in segments)


@lru_cache(maxsize=1)  # the routes of all applications of a process are the same
def _no_parameters(
    routes: tuple[tuple[str, frozenset[str]], ...],
) -> Mapping[tuple[str, str], Sequence[Constants]]:
    """By method and path of routes: the constants of more specific paths without that method, which are not theirs.

    `routes` are paths with their methods.
    """
    found: dict[tuple[str, str], list[Constants]] = {}
    for path, methods in routes:
        segments = path.split("/")
        for other, others in routes:
            if "{" in path and narrows(other, path):
                pairs = enumerate(zip(other.split("/"), segments, strict=True))
                constants = tuple((at, own) for at, (own, mine) in pairs if mine.startswith("{") and own[:1] != "{")
                for method in methods - others:
                    found.setdefault((method, path), []).append(constants)
    return found
