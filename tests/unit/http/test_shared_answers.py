"""Age, ETag, If-None-Match and `wait` of jobs and of the cluster's state."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from flamecrest.server.errors import Invalid
from flamecrest.server.http.core.shared_answers import parse_wait

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from .world import World

pytestmark = pytest.mark.anyio

JOBS = "/compute/toy/jobs"
CLUSTER = [f"/status/toy/{what}" for what in ("nodes", "partitions", "reservations")]


async def submitted(client: httpx.AsyncClient) -> str:
    response = await client.post(JOBS, json={"job": {"workingDirectory": "/anywhere", "script": "#!/bin/bash\n"}})
    return f"{JOBS}/{response.json()['jobId']}"


@pytest.mark.parametrize("path", [JOBS, "job", *CLUSTER])
async def test_an_answer_has_an_age_and_a_tag(client: httpx.AsyncClient, path: str) -> None:
    job = await submitted(client)
    path = job if path == "job" else path
    first = await client.get(path)
    assert first.headers["age"] == "0"
    assert first.headers["cache-control"] == "private, no-cache"
    tag = first.headers["etag"]
    for condition in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        same = await client.get(path, headers={"If-None-Match": condition})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    for condition in ('"other"', "", "W/"):
        assert (await client.get(path, headers={"If-None-Match": condition})).json() == first.json()


async def test_the_age_is_that_of_the_oldest_answer(client: httpx.AsyncClient, world: World) -> None:
    world.queue.age = 7.9
    assert (await client.get(JOBS)).headers["age"] == "7"


async def test_a_tag_changes_with_the_state_and_not_with_the_clock(client: httpx.AsyncClient, world: World) -> None:
    job = await submitted(client)
    waiting = (await client.get(job)).headers["etag"]
    world.queue.states["315"] = "RUNNING"
    world.queue.elapsed = 1
    running = (await client.get(job)).headers["etag"]
    world.queue.elapsed = 99
    assert (await client.get(job)).headers["etag"] == running != waiting


async def test_a_name_that_looks_like_the_clock_counts(client: httpx.AsyncClient, world: World) -> None:
    job = await submitted(client)
    tags = []
    for name in ('"elapsed":1', '"elapsed":2'):
        world.queue.specs["315"] = replace(world.queue.specs["315"], name=name)
        tags.append((await client.get(job)).headers["etag"])
    assert tags[0] != tags[1]


# long polls


async def test_a_wait_ends_when_the_job_changes(client: httpx.AsyncClient, world: World) -> None:
    job = await submitted(client)
    tag = (await client.get(job)).headers["etag"]
    waiting = asyncio.create_task(client.get(f"{job}?wait=9s", headers={"If-None-Match": tag}))
    await asyncio.sleep(0.03)
    assert not waiting.done()
    world.queue.states["315"] = "RUNNING"
    response = await waiting
    assert (response.status_code, response.json()["jobs"][0]["status"]["state"]) == (200, "RUNNING")


async def test_a_wait_is_bounded(client: httpx.AsyncClient, world: World) -> None:
    job = await submitted(client)
    tag = (await client.get(job)).headers["etag"]
    same = await client.get(f"{job}?wait=20ms", headers={"If-None-Match": tag})
    assert (same.status_code, same.headers["etag"]) == (304, tag)
    cluster = world.gateway.clusters["toy"]
    cluster.limits = replace(cluster.limits, longest=0.02)
    assert (await client.get(f"{job}?wait=999m", headers={"If-None-Match": tag})).status_code == 304


async def test_without_a_tag_there_is_nothing_to_wait_for(client: httpx.AsyncClient) -> None:
    job = await submitted(client)
    assert (await client.get(f"{job}?wait=1m")).status_code == 200
    assert (await client.get(f"{job}?wait=1m", headers={"If-None-Match": 'W/"0"'})).status_code == 200


async def test_a_job_that_vanishes_ends_the_wait(client: httpx.AsyncClient, world: World) -> None:
    job = await submitted(client)
    tag = (await client.get(job)).headers["etag"]
    waiting = asyncio.create_task(client.get(f"{job}?wait=9", headers={"If-None-Match": tag}))
    await asyncio.sleep(0.03)
    world.queue.specs.clear()
    assert (await waiting).status_code == 404


@pytest.mark.parametrize(
    ("text", "seconds"), [(None, 0.0), ("30s", 30.0), ("30", 30.0), ("500ms", 0.5), ("1m", 60.0), ("1.5s", 1.5)]
)
def test_times_to_wait(text: str | None, seconds: float) -> None:
    assert parse_wait(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "1h", "1e9", "inf", "nan", "30 s", "٣s", "1.s", "9999999"])
async def test_what_is_no_time_is_refused(client: httpx.AsyncClient, text: str) -> None:
    with pytest.raises(Invalid):
        parse_wait(text)
    response = await client.get(JOBS + "/315", params={"wait": text})
    assert (response.status_code, "wait" in response.json()["message"]) == (400, True)


async def test_a_client_that_is_gone_is_not_waited_for(client: httpx.AsyncClient, world: World) -> None:
    job = await submitted(client)
    tag = (await client.get(job)).headers["etag"]
    world.queue.looks = False
    request = f"GET {job}?wait=60s HTTP/1.1\r\nHost: toy\r\nIf-None-Match: {tag}\r\n"
    async with world.served() as served:
        async with served.connect() as (_, writer):
            writer.write(request.encode() + b"Authorization: Bearer token-of-fireuser\r\n\r\n")
            await until(lambda: world.queue.waiting == 1)
        await until(lambda: world.queue.waiting == 0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)
