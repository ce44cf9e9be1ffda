"""Table: finds the route of a request by its path's segments, as the framework's router would, in one look.

The router tries a regular expression for every route in turn. What the table does not hold (other methods, unknown
paths, documentation, parameters that are not plain segments) is left to the router, answers and all.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from fastapi.routing import APIRoute
from starlette.convertors import StringConvertor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send


class PathPattern:
    """The routes of one method whose paths have their parameters at the same places."""

    def __init__(self, constant: tuple[int, ...], named: tuple[int, ...]) -> None:
        self.named = named  # places of the parameters
        # all that is constant, as one key; a getter of one place gives no tuple, and one of none does not exist
        self.key: Callable[[list[str]], Any] = itemgetter(*constant) if constant else len
        self.routes: dict[Any, tuple[int, APIRoute, tuple[str, ...]]] = {}  # the first of its path, with its rank

    def add(self, rank: int, route: APIRoute, segments: list[str]) -> None:
        """Put a route in."""
        names = tuple(segments[place][1:-1] for place in self.named)
        self.routes.setdefault(self.key(segments), (rank, route, names))


class RouteTable:
    """An application: the routes that it knows, and the router for all else."""

    def __init__(self, routes: Sequence[BaseRoute], router: ASGIApp) -> None:
        self._router = router
        self._shapes: dict[tuple[str, int], list[PathPattern]] = {}  # by method and number of segments
        for rank, route in enumerate(routes):
            if isinstance(route, APIRoute) and _is_plain(route):
                for method in route.methods or ():
                    self._add(rank, route, method)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Let the request's route serve it."""
        if scope["type"] == "http":
            found = self.find(scope["method"], _path(scope))
            if found is not None:
                route, scope["path_params"] = found
                scope["route"] = route
                scope["endpoint"] = route.endpoint
                return route.app(scope, receive, send)
        return self._router(scope, receive, send)

    def find(self, method: str, path: str) -> tuple[APIRoute, dict[str, str]] | None:
        """The route of a path, and its parameters."""
        segments = path.split("/")
        best: tuple[int, APIRoute, dict[str, str]] | None = None
        for shape in self._shapes.get((method, len(segments)), ()):
            found = shape.routes.get(shape.key(segments))
            if found is not None and (best is None or found[0] < best[0]):
                rank, route, names = found
                values = [segments[place] for place in shape.named]
                if "" not in values:
                    best = rank, route, dict(zip(names, values, strict=True))
        return None if best is None else best[1:]

    def _add(self, rank: int, route: APIRoute, method: str) -> None:
        segments = route.path.split("/")
        named = tuple(place for place, segment in enumerate(segments) if segment.startswith("{"))
        shapes = self._shapes.setdefault((method, len(segments)), [])
        shape = next((one for one in shapes if one.named == named), None)
        if shape is None:
            constant = tuple(place for place in range(len(segments)) if place not in named)
            shape = PathPattern(constant, named)
            shapes.append(shape)
        shape.add(rank, route, segments)


def _is_plain(route: APIRoute) -> bool:
    """Whether every parameter of a route is a whole segment of its path, taken as it is."""
    if any(type(convertor) is not StringConvertor for convertor in route.param_convertors.values()):
        return False
    segments = route.path.split("/")
    return all("{" not in segment or segment[1:-1] in route.param_convertors for segment in segments)


def _path(scope: Scope) -> str:
    """The path below the prefix under which the API is seen from outside."""
    path: str = scope["path"]
    prefix: str = scope.get("root_path", "")
    if prefix and path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in {"", "/"}:
        return path[len(prefix) :]
    return path
