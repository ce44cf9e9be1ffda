"""HEAD, OPTIONS and Allow, for every path of the API (RFC 9110, 9.3 and 15.5.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from starlette.routing import Route

from flamecrest.server.app import routes
from flamecrest.server.http.core.methods import is_near, serve_head
from tests.unit.http.world import World

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

pytestmark = pytest.mark.anyio

ALL = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
ROUTES = [route for route in routes() if isinstance(route, Route)]
PATHS = sorted({route.path for route in ROUTES if "/uploads" not in route.path})


def filled(path: str) -> str:
    return path.replace("{system_name}", "toy").replace("{job_id}", "1").replace("{name}", "swagger-ui.css")


def methods_of(path: str) -> set[str]:
    """The methods of the routes with the fewest parameters."""
    found = [route for route in ROUTES if route.path_regex.match(path)]
    fewest = min((len(route.param_convertors) for route in found), default=0)
    return {method for route in found if len(route.param_convertors) == fewest for method in route.methods or ()}


ENDLESS = {"/compute/{system_name}/jobs/events"}


@pytest.mark.parametrize("path", sorted({route.path for route in ROUTES if "GET" in (route.methods or ())} - ENDLESS))
async def test_head_is_get_without_the_body(client: httpx.AsyncClient, tmp_path: Path, path: str) -> None:
    (tmp_path / "f").write_text("some\nlines\n")
    found, expected = [
        await client.request(method, filled(path), params={"path": str(tmp_path / "f")}, headers={"X-Request-ID": "1"})
        for method in ("HEAD", "GET")
    ]
    assert expected.content
    assert not found.content
    assert found.status_code == expected.status_code
    changing = {"f7t-timestamp"}
    assert {k: v for k, v in found.headers.items() if k not in changing} == {
        k: v for k, v in expected.headers.items() if k not in changing
    }


@pytest.mark.parametrize(
    "path", ["/compute/toy/jobs/no%20id", "/filesystem/none/ops/stat", "/status/none/nodes", "/no"]
)
async def test_head_of_an_error(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.head(path)).status_code == (await client.get(path)).status_code >= 400


async def test_head_needs_a_token(client: httpx.AsyncClient) -> None:
    response = await client.head("/status/systems", headers={"Authorization": ""})
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer resource_metadata=")


async def test_head_ends_an_endless_stream() -> None:
    ended, sent = [], []

    async def stream(_scope: Any, _receive: Any, send: Any) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
        finally:
            ended.append(True)

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    await serve_head(stream, {"type": "http"}, receive, send)
    assert ended
    assert [(one["type"], one.get("body", b""), one.get("more_body", False)) for one in sent] == [
        ("http.response.start", b"", False),
        ("http.response.body", b"", False),
    ]


@pytest.mark.parametrize("path", PATHS)
async def test_options_and_405_name_all_methods(client: httpx.AsyncClient, path: str) -> None:
    path = filled(path)
    expected = methods_of(path) | {"OPTIONS"} | ({"HEAD"} if "GET" in methods_of(path) else set())
    answer = await client.options(path, headers={"Authorization": ""})  # needs no token
    assert answer.status_code == 204
    assert set(answer.headers["allow"].split(", ")) == expected
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW", "CONNECT"} - expected:
        refused = await client.request(method, path)
        assert refused.status_code == 405, method
        assert refused.headers["allow"] == answer.headers["allow"]


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/compute/toy/jobs", "GET, HEAD, POST, OPTIONS"),
        ("/compute/toy/jobs/1", "GET, HEAD, PATCH, DELETE, OPTIONS"),
        ("/filesystem/toy/ops/upload", "POST, PUT, OPTIONS"),
        ("/filesystem/toy/ops/download", "GET, HEAD, OPTIONS"),
        ("/openapi.json", "GET, HEAD, OPTIONS"),
        ("/compute/toy/jobs/validate", "POST, OPTIONS"),
        ("/compute/toy/jobs/events", "GET, HEAD, OPTIONS"),
        ("/filesystem/toy/transfer/upload", "POST, OPTIONS"),
        ("/filesystem/toy/transfer/rm", "DELETE, OPTIONS"),
        ("/filesystem/toy/transfer/transfer-x", "GET, HEAD, DELETE, OPTIONS"),
    ],
)
async def test_allow(client: httpx.AsyncClient, path: str, allow: str) -> None:
    assert (await client.request("TRACE", path)).headers["allow"] == allow


async def test_options_of_an_unknown_path(client: httpx.AsyncClient) -> None:
    assert (await client.options("/no/such")).status_code == 404


async def test_options_below_a_prefix(world: World) -> None:
    async with world.client(app=world.app(root_path="/v2")) as client:
        for path in ("/v2/status/systems", "/status/systems", "/v2/status/systems/"):
            assert (await client.options(path)).headers["allow"] == "GET, HEAD, OPTIONS"


async def asked(world: World, method: str, target: str) -> tuple[int, dict[bytes, bytes]]:
    """Status and headers of a request whose target an HTTP client would not send."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    scope = {"type": "http", "method": method, "path": target, "raw_path": target.encode()}
    headers = [(b"host", b"gateway")]
    app = world.app()
    async with app.router.lifespan_context(app):
        await app({**scope, "headers": headers, "query_string": b"", "root_path": ""}, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.mark.parametrize("target", ["*", "http://gateway", "http://gateway:80", "https://[::1]"])
async def test_options_of_the_server(world: World, target: str) -> None:
    status, headers = await asked(world, "OPTIONS", target)
    assert (status, headers[b"allow"]) == (204, ALL.encode())


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://gateway/status/liveness", 200),
        ("HTTP://gateway/status/liveness/", 200),
        ("http://gateway/status/systems/", 401),
        ("http://gateway", 200),
        ("http://gateway/no", 404),
        ("*", 404),
        ("gateway:443", 404),
    ],
)
async def test_targets_in_other_forms(world: World, target: str, status: int) -> None:
    assert (await asked(world, "GET", target))[0] == status


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("/filesystem/toy/ops/stats", "GET /filesystem/{system_name}/ops/stat"),
        ("/filesystem/toy/stat", "GET /filesystem/{system_name}/ops/stat"),
        ("/filesystems/toy/ops/stat", "GET /filesystem/{system_name}/ops/stat"),
        ("/filesystem/toy/ops/find", "GET /filesystem/{system_name}/ops/file"),
        ("/filesystem/toy/ops/", "GET /filesystem/{system_name}/transfer"),
        ("/filesystem/toy/opps/stats", None),  # two differences
        ("/status/toy/node", "GET /status/{system_name}/nodes"),
        ("/compute/toy/job/7", "GET /compute/{system_name}/jobs/{job_id}"),
        ("/compute/toy/cluster/jobs", "GET /compute/{system_name}/jobs"),
        ("/nope", None),
        ("/filesystem/" + "a/" * 900, None),
    ],
)
async def test_error_for_an_unknown_path_names_the_routes_that_are_near(
    tmp_path: Path, path: str, near: str | None
) -> None:
    async with World(str(tmp_path)).client() as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.json()["message"]) == (404, "Not Found")
    given = (answer.json()["data"] or {"routes": []})["routes"]
    assert (near in given) if near else not given
    assert len(given) <= 5


def test_no_route_is_near_itself() -> None:
    for path in PATHS:
        assert not is_near(path.split("/"), path.split("/"))
