"""Cross-origin requests: which origins are answered, preflights, and what a page can read."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from flamecrest.server.http.edge.cors import EXPOSED
from tests.unit.http.world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

PORTAL = "https://portal.example.org"
STAT = "/filesystem/toy/ops/stat"
ASKED = {
    "Authorization": "",
    "Access-Control-Request-Method": "PATCH",
    "Access-Control-Request-Headers": "authorization,content-type,tus-resumable,upload-offset",
}


@asynccontextmanager
async def open_to(world: World, *origins: str) -> AsyncIterator[httpx.AsyncClient]:
    async with world.client(app=world.app(cors_origins=origins)) as client:
        yield client


def of_cors(response: httpx.Response) -> set[str]:
    return {name for name in response.headers if name.startswith("access-control-")}


def listed(response: httpx.Response, name: str) -> set[str]:
    return {one.strip().lower() for one in response.headers.get(name, "").split(",") if one.strip()}


async def test_nothing_is_said_without_the_setting(client: httpx.AsyncClient) -> None:
    preflight = await client.options(STAT, headers={"Origin": PORTAL, **ASKED})
    response = await client.get("/status/systems", headers={"Origin": PORTAL})
    for one in (preflight, response):
        assert not of_cors(one)
        assert "vary" not in one.headers


@pytest.mark.parametrize("path", [STAT, "/filesystem/toy/uploads", "/filesystem/toy/uploads/x", "/no/such", "/"])
async def test_preflight_needs_no_token(world: World, path: str) -> None:
    async with open_to(world, "https://other.example.org", PORTAL) as client:
        response = await client.options(path, headers={"Origin": PORTAL, **ASKED})
    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == PORTAL
    assert listed(response, "access-control-allow-methods") >= {"get", "head", "put", "post", "patch", "delete"}
    assert listed(response, "access-control-allow-headers") == set(ASKED["Access-Control-Request-Headers"].split(","))
    assert int(response.headers["access-control-max-age"]) > 0
    assert "access-control-allow-credentials" not in response.headers
    assert listed(response, "vary") == {"origin", "access-control-request-method", "access-control-request-headers"}


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example.org",
        "http://portal.example.org",
        "https://portal.example.org.evil.example",
        "https://portal.example.org:8443",
        "https://xportal.example.org",
        "https://portal.example.org/",
        "HTTPS://portal.example.org",
        "null",
        "*",
        "",
    ],
)
async def test_other_origins_are_not_allowed(world: World, origin: str) -> None:
    async with open_to(world, PORTAL) as client:
        for response in (
            await client.options(STAT, headers={"Origin": origin, **ASKED}),
            await client.get("/status/systems", headers={"Origin": origin}),
        ):
            assert not of_cors(response)
            assert listed(response, "vary") == {"origin"}


async def test_two_origins_are_none(world: World) -> None:
    async with open_to(world, PORTAL) as client:
        response = await client.get("/status/systems", headers=[("Origin", PORTAL), ("Origin", PORTAL)])
    assert not of_cors(response)


async def test_responses_and_errors_can_be_read(world: World) -> None:
    async with open_to(world, PORTAL) as client:
        for response, status in (
            (await client.get("/status/systems", headers={"Origin": PORTAL}), 200),
            (await client.get("/status/systems", headers={"Origin": PORTAL, "Authorization": ""}), 401),
            (await client.get(STAT, headers={"Origin": PORTAL}, params={"path": "no"}), 400),
            (await client.put(STAT, headers={"Origin": PORTAL}), 405),
            (await client.get("/no", headers={"Origin": PORTAL}), 404),
            (await client.options(STAT, headers={"Origin": PORTAL}), 204),
        ):
            assert response.status_code == status
            assert response.headers["access-control-allow-origin"] == PORTAL
            assert listed(response, "access-control-expose-headers") == {name.lower() for name in EXPOSED}
            assert "access-control-allow-credentials" not in response.headers
            assert listed(response, "vary") == {"origin"}


async def test_an_unexpected_error_can_be_read(world: World) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError

    world.files.stat = broken  # type: ignore[method-assign, assignment]
    async with open_to(world, PORTAL) as client:
        response = await client.get(STAT, headers={"Origin": PORTAL}, params={"path": world.root})
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (500, PORTAL)


async def test_any_origin(world: World) -> None:
    async with open_to(world, "*") as client:
        preflight = await client.options(STAT, headers={"Origin": "https://any.example", **ASKED})
        response = await client.get("/status/systems", headers={"Origin": "null"})
        plain = await client.get("/status/systems")
    assert preflight.headers["access-control-allow-origin"] == response.headers["access-control-allow-origin"] == "*"
    assert "origin" not in listed(response, "vary")
    assert not of_cors(plain)


@pytest.mark.parametrize("names", ["x\x7f", "a;b", "a" * 5000, 'x-"'])
async def test_requested_headers_that_are_none(world: World, names: str) -> None:
    async with open_to(world, PORTAL) as client:
        asked = ASKED | {"Access-Control-Request-Headers": names}
        response = await client.options(STAT, headers={"Origin": PORTAL, **asked})
    assert response.status_code == 204
    assert "access-control-allow-headers" not in response.headers
