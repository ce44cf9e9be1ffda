"""The routes for orchestrators: they need no token and no cluster."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest

from flamecrest.server.audit.calls import Audit
from flamecrest.server.audit.chain import Chain
from flamecrest.server.audit.destinations import FileDestination
from flamecrest.server.audit.writer import MOST_WAITING, AuditWriter
from flamecrest.server.health.board import Service

from .world import World

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


async def test_ready_until_the_gateway_stops(tmp_path: Path):
    world = World(str(tmp_path))
    app = world.app()
    for user in ("ann", "bob", "ann", "bob"):
        world.board.failed(user, "down", Service.SSH)
    async with world.client(app=app) as client:
        client.headers.pop("authorization")
        answers = [(await client.get("/health/ready")).status_code]  # another replica would serve no better
        app.leaving = True
        answers += [(await client.get(f"/health/{name}")).status_code for name in ("ready", "live")]
        assert (await client.get("/status/liveness")).status_code == 200  # served while load balancers take notice
        await app.stop(0.1, 0.1)
        answers += [(await client.get(f"/health/{name}")).status_code for name in ("ready", "live")]
        assert (await client.get("/status/liveness")).status_code == 503
        head = await client.head("/health/live")
    assert answers == [200, 503, 200, 503, 200]
    assert head.status_code == 200


async def test_not_ready_without_a_key_of_an_issuer(tmp_path: Path):
    world = World(str(tmp_path))
    world.gateway = replace(world.gateway, unready=lambda: "no key")
    async with world.client() as client:
        assert (await client.get("/health/live")).status_code == 200
        found = await client.get("/health/ready")
        assert (found.status_code, found.json()["message"]) == (503, "Not ready: no key")


async def test_an_audit_log_that_cannot_be_written(tmp_path: Path):
    """It is shown, and takes no replica out of service: reads are answered."""
    world, folder = World(str(tmp_path)), tmp_path / "later"

    async def shown(client: httpx.AsyncClient, *, healthy: bool, refused: bool) -> None:
        async with asyncio.timeout(40):
            while True:
                answer = await client.get("/health/ready")
                assert answer.status_code == 200
                if answer.json()["audit"] == {"healthy": healthy, "changesRefused": refused}:
                    return
                await asyncio.sleep(0.02)

    async with world.client() as client:
        assert "audit" not in (await client.get("/health/ready")).json()
    async with AuditWriter([FileDestination(folder / "audit")], Chain) as log:
        world.gateway = replace(world.gateway, audit=Audit(log))
        async with world.client() as client:
            log.add({"event": "call"})
            await shown(client, healthy=False, refused=False)
            for _ in range(MOST_WAITING):
                log.add({"event": "call"})
            await shown(client, healthy=False, refused=True)
            folder.mkdir()
            await shown(client, healthy=True, refused=False)
