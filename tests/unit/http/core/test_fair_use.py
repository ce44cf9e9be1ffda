"""Limits on the wire: 429 with Retry-After, and the RateLimit headers of every response."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from flamecrest.server.auth.port import Verb
from flamecrest.server.cluster import Gateway
from flamecrest.server.http.core.fair_use import _reset
from flamecrest.server.limits.buckets import Level, MemoryBuckets
from flamecrest.server.limits.fair_use import FairUse
from flamecrest.server.limits.values import Allowance, Rate, VerbLimits
from tests.unit.http.world import World

pytestmark = pytest.mark.anyio

SLOW = 1 / 3600


class Limited(World):
    """A world with limits of its users."""

    def __init__(self, root: str, allowance: Allowance) -> None:
        super().__init__(root)
        self.gateway = replace(self.gateway, fair_use=FairUse([allowance], [], MemoryBuckets()))


@asynccontextmanager
async def limited(root: Path, allowance: Allowance) -> AsyncIterator[httpx.AsyncClient]:
    async with Limited(str(root), allowance).client() as client:
        yield client


def stat(client: httpx.AsyncClient, root: Path) -> httpx.Request:
    return client.build_request("GET", "/filesystem/toy/ops/stat", params={"path": str(root)})


def shown(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith("ratelimit")}


async def test_the_headers_say_what_is_left(tmp_path: Path) -> None:
    async with limited(tmp_path, Allowance("user0", requests=Rate(SLOW, 2))) as client:
        first = await client.send(stat(client, tmp_path))
        second = await client.send(stat(client, tmp_path))
        third = await client.send(stat(client, tmp_path))
        bob = await client.get("/status/systems", headers={"Authorization": "Bearer token-of-bob"})
        nobody = await client.get("/status/systems", headers={"Authorization": "Bearer x"})
        alive = await client.get("/status/liveness")
    assert [one.status_code for one in (first, second, third, bob, nobody, alive)] == [200, 200, 429, 200, 401, 200]
    assert shown(first) == {
        "ratelimit-policy": '"user";q=2;w=7200',
        "ratelimit": '"user";r=1;t=3600',
        "ratelimit-limit": "2",
        "ratelimit-remaining": "1",
        "ratelimit-reset": "3600",
    }
    assert shown(third)["ratelimit"].startswith('"user";r=0;t=3')
    assert 3500 < int(third.headers["retry-after"]) <= 3600
    assert third.json()["message"] == "You have sent too many requests. Retry later."
    assert shown(bob)["ratelimit-remaining"] == "1"
    assert shown(nobody) == shown(alive) == {}


@pytest.mark.parametrize(("seconds", "shown"), [(3600.0000002, 3600), (3600.2, 3601), (0.4, 1)])
def test_times_are_whole_seconds(seconds: float, shown: int) -> None:
    """A bucket counts from the epoch, as a float: 3600 seconds may come out as a little more."""
    assert _reset(Level(Rate(SLOW, 1), 0, seconds)) == shown


async def test_limits_of_a_verb_have_headers_of_their_own(tmp_path: Path) -> None:
    allowance = Allowance(
        "user0", requests=Rate(SLOW, 9), verbs={Verb.FILES_READ: VerbLimits(Rate(SLOW, 1))}, in_flight=9
    )
    async with limited(tmp_path, allowance) as client:
        answers = [await client.send(stat(client, tmp_path)) for _ in range(2)]
        other = await client.get("/status/systems")
    assert [one.status_code for one in (*answers, other)] == [200, 429, 200]
    assert shown(answers[0])["ratelimit"] == '"user";r=8;t=3600, "user:files:read";r=0;t=3600'
    assert "too many requests (files:read)" in answers[1].json()["message"]
    assert "files:read" not in shown(other)["ratelimit"]


async def test_open_requests_are_counted_until_they_end(tmp_path: Path) -> None:
    async with limited(tmp_path, Allowance("user0", in_flight=1)) as client:
        answers = [await client.send(stat(client, tmp_path)) for _ in range(3)]
    assert [one.status_code for one in answers] == [200, 200, 200]
    assert shown(answers[0]) == {}


async def test_a_refused_request_is_counted_no_longer(tmp_path: Path) -> None:
    world = Limited(str(tmp_path), Allowance("user0", in_flight=1))
    world.rules.forbidden = {("fireuser", Verb.FILES_READ)}
    async with world.client() as client:
        answers = [await client.send(stat(client, tmp_path)) for _ in range(2)]
        unknown = [await client.get("/filesystem/nowhere/ops/stat") for _ in range(2)]
    assert [one.status_code for one in (*answers, *unknown)] == [403, 403, 404, 404]


async def test_transfers_that_are_started(tmp_path: Path) -> None:
    async with limited(tmp_path, Allowance("user0", transfers=Rate(SLOW, 1))) as client:
        body = {"path": str(tmp_path / "x"), "transferDirectives": {"transferMethod": "s3", "fileSize": 5}}
        answers = [await client.post("/filesystem/toy/transfer/upload", json=body) for _ in range(2)]
    assert answers[0].status_code != 429
    assert answers[1].status_code == 429
    assert "transfers" in answers[1].json()["message"]


def test_gateway_without_limits(tmp_path: Path) -> None:
    gateway: Gateway = World(str(tmp_path)).gateway
    assert gateway.fair_use is None
