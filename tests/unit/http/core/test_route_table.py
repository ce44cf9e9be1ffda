"""The route table finds the route that the framework's router finds, or passes the request to the router."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.routing import APIRoute
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from flamecrest.server.app import routes
from flamecrest.server.http.core.methods import Methods
from flamecrest.server.http.core.route_table import MAX_KNOWN, MAX_PATH, RouteTable

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
    if expected is not None and expected[0] not in Methods(ROUTES).routes_of(path):
        assert found is None  # the path is that of a more specific route, which does not have the method
        return
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


def test_what_is_remembered_is_of_that_method_and_path_and_bounded() -> None:
    table = RouteTable(ROUTES, router)
    for turn in range(2):
        for number in range(MAX_KNOWN + 10):
            for method in ("GET", "DELETE", "PUT"):
                path = f"/compute/c{number}/jobs/{turn}"
                assert table.find(method, path) == by_router(method, path)
    assert 0 < len(table._known) <= MAX_KNOWN
    found = table.find("GET", "/compute/c1/jobs/1")
    assert found is not None
    found[1]["job_id"] = "changed by a handler"
    assert table.find("GET", "/compute/c1/jobs/1") == by_router("GET", "/compute/c1/jobs/1")


def test_parameters_that_are_not_whole_segments_are_passed_to_the_router() -> None:
    others = [APIRoute("/n/{x:int}", endpoint), APIRoute("/p/{x:path}", endpoint), APIRoute("/s/a{x}", endpoint)]
    table = RouteTable([*others, Route("/docs", router)], router)
    for path in ("/n/1", "/p/a", "/s/ab", "/docs"):
        assert table.find("GET", path) is None


@pytest.mark.anyio
async def test_long_paths_are_in_the_table_or_unknown() -> None:
    """The router would match each of its regular expressions with them."""
    passed: list[str] = []
    ignored: Any = router

    async def taker(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope["path"])

    table = RouteTable([APIRoute("/a/{x}", endpoint), Route("/docs", taker)], taker)
    assert table.find("GET", "/a/" + "b" * 9000) is not None
    await table({"type": "http", "method": "GET", "path": "/" + "b" * (MAX_PATH - 1)}, ignored, ignored)
    for method in ("GET", "POST", "HEAD"):
        with pytest.raises(HTTPException) as caught:
            await table({"type": "http", "method": method, "path": "/" + "b" * MAX_PATH}, ignored, ignored)
        assert caught.value.status_code == 404
    assert len(passed) == 1
