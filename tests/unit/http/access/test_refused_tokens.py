"""Many requests without a valid token: their answers are held back, and nobody else is, whatever the address."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx
import pytest

from flamecrest.server.http.access.refused_tokens import HELD_BACK, RefusedTokens, network_of
from tests.unit.http.world import World

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from starlette.types import Scope

    from flamecrest.server.http.edge.application import Edge

pytestmark = pytest.mark.anyio

LONG = 3600.0  # seconds


async def started(*waits: Coroutine[object, object, object]) -> list[asyncio.Task[object]]:
    tasks = [asyncio.create_task(one) for one in waits]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_each_address_has_its_own_count() -> None:
    now = [0.0]
    refused = RefusedTokens(2, seconds=LONG, clock=lambda: now[0])
    scopes: list[Scope] = [{"client": ("192.0.2.1", port)} for port in range(5)]
    first = await started(*(refused.hold(scope) for scope in scopes))
    assert [one.done() for one in first] == [True, True, False, False, False]
    assert [HELD_BACK in scope for scope in scopes] == [False, False, True, True, True]
    others = await started(refused.hold({"client": ("192.0.2.2", 1)}), refused.hold({"client": None}))
    assert all(one.done() for one in others)
    now[0] = 1.0
    (later,) = await started(refused.hold(scopes[0]))
    assert later.done()
    assert repr(refused) == "<RefusedTokens of 1 addresses, 1 in this second>"
    for one in first:
        one.cancel()
        with suppress(asyncio.CancelledError):
            await one
    assert not any(HELD_BACK in scope for scope in scopes)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix", "unix"),
        ("x" * 10_000, "x" * 10_000),
    ],
)
def test_one_client_has_one_network(address: str, network: str) -> None:
    assert network_of(address) == network


def from_address(app: Edge, address: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, client=(address, 1)), base_url="http://gateway")


async def test_a_flood_of_bad_tokens_locks_out_nobody_at_the_same_address(tmp_path: Path) -> None:
    app = World(str(tmp_path)).app(refused_tokens=RefusedTokens(3, seconds=LONG, clock=lambda: 0.0))
    bad, good = {"Authorization": "Bearer bad"}, {"Authorization": "Bearer token-of-fireuser"}
    async with app.router.lifespan_context(app), from_address(app, "192.0.2.1") as client:
        flood = [asyncio.create_task(client.get("/status/systems", headers=bad)) for _ in range(50)]
        async with asyncio.timeout(50):
            while sum(one.done() for one in flood) < 3:
                await asyncio.sleep(0.01)
            while app.open_requests < 47:
                await asyncio.sleep(0.01)
        answered = [one.result() for one in flood if one.done()]
        assert [one.status_code for one in answered] == [401] * 3
        assert (await client.get("/status/systems", headers=good)).status_code == 200
        assert (await client.get("/status/liveness")).status_code == 200
        assert app.busy_ports() == set()  # their connections give way to others
        async with from_address(app, "192.0.2.2") as other:
            assert (await other.get("/status/systems", headers=bad)).status_code == 401
        assert sum(one.done() for one in flood) == 3
        for one in flood:
            one.cancel()
        await asyncio.gather(*flood, return_exceptions=True)


async def test_what_was_held_back_is_answered(tmp_path: Path) -> None:
    app = World(str(tmp_path)).app(refused_tokens=RefusedTokens(1, seconds=0.01, clock=lambda: 0.0))
    async with app.router.lifespan_context(app), from_address(app, "192.0.2.1") as client:
        for _ in range(3):
            answer = await client.get("/status/systems")
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
