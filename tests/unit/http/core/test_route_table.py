"""The route table finds the route that the framework's router finds, or passes the request to the router."""

from __future__ import annotations

from typing import Any

from fastapi.routing import APIRoute
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Match, Route

from flamecrest.server.app import routes
from flamecrest.server.http.core.route_table import RouteTable

ROUTES = routes()
PLAIN = [route for route in ROUTES if isinstance(route, APIRoute)]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
WORDS = sorted({word for route in PLAIN for word in route.path.split("/") if "{" not in word})


async def router(scope: Any, receive: Any, send: Any) -> None:
    """What the table leaves to others."""


TABLE = RouteTable(ROUTES, router)


def by_router(method: str, path: str, among: list[Any] = ROUTES) -> tuple[Any, dict[str, str]] | None:
    for route in among:
        match, child = route.matches({"type": "http", "method": method, "path": path})
        if match is Match.FULL:
            return route, child["path_params"]
    return None


def test_every_route_is_found() -> None:
    assert len(PLAIN) > 40
    for route in PLAIN:
        path = route.path.replace("{", "a{").replace("}", "}\u00e9\udc80")  # any text but a slash
        for method in route.methods or ():
            assert TABLE.find(method, path) == by_router(method, path), (method, path)
            assert TABLE.find(method, path) is not None


@given(st.sampled_from(METHODS), st.lists(st.sampled_from([*WORDS, "x", "", "a\n", "%", ".."]), max_size=8))
def test_other_paths_are_found_or_passed_to_the_router(method: str, words: list[str]) -> None:
    path = "/" + "/".join(words)
    found = TABLE.find(method, path)
    expected = by_router(method, path)
    assert found == expected or (
        found is None and (expected is None or path.endswith("\n") or expected[0] not in PLAIN)
    )


def endpoint() -> None:
    """Nothing is asked of it."""


def test_first_matching_route_is_taken() -> None:
    paths = ["/a/{x}/c", "/a/b/{y}", "/{z}/b/c", "/a/b/c", "/{one}/{two}/{three}"]
    for turn in range(len(paths)):
        ordered = [APIRoute(path, endpoint) for path in paths[turn:] + paths[:turn]]
        table = RouteTable(ordered, router)
        for path in ("/a/b/c", "/a/q/c", "/a/b/q", "/q/b/c", "/q/q/q", "/q//q", "/a//c", "/q/q"):
            assert table.find("GET", path) == by_router("GET", path, ordered), (turn, path)


def test_parameters_that_are_not_whole_segments_are_passed_to_the_router() -> None:
    others = [APIRoute("/n/{x:int}", endpoint), APIRoute("/p/{x:path}", endpoint), APIRoute("/s/a{x}", endpoint)]
    table = RouteTable([*others, Route("/docs", router)], router)
    for path in ("/n/1", "/p/a", "/s/ab", "/docs"):
        assert table.find("GET", path) is None
