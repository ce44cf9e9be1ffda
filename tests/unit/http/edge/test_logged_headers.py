"""Request headers in the access log, as `logger` of the configuration lists them."""

from __future__ import annotations

import pytest

from tests.unit.http.world import World, logged

pytestmark = pytest.mark.anyio

NAMES = {b"user-agent": "agent", b"x-client": "client"}


async def test_listed_headers_are_logged(world: World) -> None:
    async with world.client(app=world.app(logged_headers=NAMES)) as client:
        with logged() as lines:
            await client.get(
                "/status/systems", headers=[(b"X-Client", b"a"), (b"x-client", b"b\xe9"), (b"x-other", b"c")]
            )
    (line,) = lines
    assert line["headers"] == {"agent": client.headers["user-agent"], "client": "a, b\xe9"}


async def test_no_header_is_logged_by_default(world: World) -> None:
    async with world.client() as client:
        with logged() as lines:
            await client.get("/status/systems", headers={"X-Client": "a"})
    (line,) = lines
    assert "headers" not in line


async def test_a_token_in_a_listed_header_is_redacted_and_a_long_value_is_cut(world: World) -> None:
    async with world.client(app=world.app(logged_headers=NAMES)) as client:
        with logged() as lines:
            await client.get("/status/systems", headers={"X-Client": "Bearer abc", "User-Agent": "x" * 5000})
    (line,) = lines
    assert line["headers"] == {"agent": "x" * 1024, "client": "Bearer [redacted]"}
