"""`GET …/jobs/events`: what is sent first, what is sent when a state changes, and how a client goes on."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

import pytest

from flamecrest.server.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from .world import World

pytestmark = pytest.mark.anyio

JOBS = "/compute/toy/jobs"
EVENTS = f"GET {JOBS}/events HTTP/1.1\r\nHost: toy\r\nAuthorization: Bearer token-of-fireuser\r\n"


async def submitted(client: httpx.AsyncClient) -> str:
    response = await client.post(JOBS, json={"job": {"workingDirectory": "/anywhere", "script": "#!/bin/bash\n"}})
    return str(response.json()["jobId"])


async def next_event(reader: asyncio.StreamReader) -> tuple[str, str]:
    """Job id and state of the next event."""
    async with asyncio.timeout(20):
        while not (line := await reader.readline()).startswith(b"data: "):
            assert line, "the stream has ended"
    job = json.loads(line.removeprefix(b"data: "))
    return job["jobId"], job["status"]["state"]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_states_are_sent_as_they_change(client: httpx.AsyncClient, world: World) -> None:
    first, ended = await submitted(client), await submitted(client)
    world.queue.states[ended] = "COMPLETED"
    async with world.served() as served:
        async with served.connect() as (reader, writer):
            writer.write(EVENTS.encode() + b"\r\n")
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            assert "200" in head
            assert "text/event-stream" in head
            assert await next_event(reader) == (first, "PENDING")  # not the one that has ended
            world.queue.states[first] = "COMPLETED"
            assert await next_event(reader) == (first, "COMPLETED")
            second = await submitted(client)
            assert await next_event(reader) == (second, "PENDING")
        await until(lambda: world.queue.waiting == 0)


async def test_a_failure_of_the_scheduler_loses_no_event(client: httpx.AsyncClient, world: World) -> None:
    job_id = await submitted(client)
    async with world.served() as served, served.connect() as (reader, writer):
        writer.write(EVENTS.encode() + b"\r\n")
        assert await next_event(reader) == (job_id, "PENDING")
        world.queue.fault = Unavailable("down")
        world.queue.states[job_id] = "COMPLETED"
        lists = world.queue.lists
        await until(lambda: world.queue.lists > lists + 1)
        world.queue.fault = None
        assert await next_event(reader) == (job_id, "COMPLETED")


async def test_a_client_goes_on_after_its_last_event(client: httpx.AsyncClient, world: World) -> None:
    job_id = await submitted(client)
    world.queue.states[job_id] = "COMPLETED"  # ended at 1795295755
    for last, told in ((1795295754_000, True), (1795295755_000 + 3600_000, False)):
        waiting = await submitted(client)
        async with world.served() as served, served.connect() as (reader, writer):
            writer.write(f"{EVENTS}Last-Event-ID: {last}\r\n\r\n".encode())
            assert await next_event(reader) == ((job_id, "COMPLETED") if told else (waiting, "PENDING"))
        del world.queue.specs[waiting]


async def test_the_first_read_covers_the_time_of_the_absence(client: httpx.AsyncClient, world: World) -> None:
    for absent, window in ((0, 3600), (7200, 7260), (10**6, 86400)):
        last = int((time.time() - absent) * 1000)
        async with world.served() as served, served.connect() as (reader, writer):
            writer.write(f"{EVENTS}Last-Event-ID: {last}\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            windows = world.queue.windows
            assert abs(windows[0] - window) <= 5
        windows.clear()


@pytest.mark.parametrize("given", ["x", "-1", "1.5", "99999999999999", "1;rm"])
async def test_what_is_no_id_of_an_event_is_refused(client: httpx.AsyncClient, given: str) -> None:
    response = await client.get(f"{JOBS}/events", headers={"Last-Event-ID": given})
    assert response.status_code == 400
    assert "Last-Event-ID" in response.json()["message"]


async def test_an_error_before_the_stream_is_the_response(client: httpx.AsyncClient, world: World) -> None:
    world.queue.fault = Unavailable("down")
    assert (await client.get(f"{JOBS}/events")).status_code == 503
