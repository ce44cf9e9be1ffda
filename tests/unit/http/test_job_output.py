"""The output of a job: parts within the limit, and `follow=true` until the job ends."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flamecrest.server.auth.port import Verb
from flamecrest.server.errors import NotFound, Unavailable
from flamecrest.server.schedulers.values import JobStep, JobTimes

from .toy_ports import Queue
from .world import World, fields

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import httpx

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.schedulers.values import Job, JobMetadata

pytestmark = pytest.mark.anyio

JOBS = "/compute/toy/jobs"


class Fickle(Queue):
    """A queue that can fail to show one job, and that knows the node in a file's name when the job has started."""

    def __init__(self) -> None:
        super().__init__()
        self.job_fault: NotFound | Unavailable | None = None
        self.asked_for_job = 0
        self.parts: Sequence[JobStep] = ()  # of the job

    async def job(self, job_id: str, deadline: Deadline) -> list[Job]:
        self.asked_for_job += 1
        if self.job_fault is not None:
            raise self.job_fault
        return [replace(one, steps=self.parts) for one in await super().job(job_id, deadline)]

    async def metadata(self, job_id: str, deadline: Deadline) -> list[JobMetadata]:
        (found,) = await super().metadata(job_id, deadline)
        if self.states[job_id] != "PENDING" and found.standard_output is not None:
            object.__setattr__(found, "standard_output", found.standard_output.replace("%N", "nid004"))
        return [found]


@pytest.fixture
def queue() -> Fickle:
    return Fickle()


@pytest.fixture
def world(tmp_path: Path, queue: Fickle) -> World:
    return World(str(tmp_path), queue=queue)


async def submitted(client: httpx.AsyncClient, world: World, name: str = "out") -> tuple[str, Path]:
    job = {"workingDirectory": world.root, "script": "#!/bin/sh\n", "standardOutput": f"{world.root}/{name}"}
    return (await client.post(JOBS, json={"job": job})).json()["jobId"], Path(world.root, name)


@dataclass
class Event:
    id: str = ""
    event: str = ""
    data: dict[str, Any] = field(default_factory=dict)


@dataclass
class Stream:
    status: int
    reader: asyncio.StreamReader

    async def next(self) -> Event | None:
        """The next event; None at the end of the stream."""
        event = Event()
        async with asyncio.timeout(20):
            while line := (await self.reader.readline()).decode().rstrip("\r\n") or (not self.reader.at_eof() and " "):
                name, colon, value = line.partition(": ")
                if colon and name in {"id", "event"}:
                    setattr(event, name, value)
                elif colon and name == "data":
                    event.data = json.loads(value)
                    return event
                elif line == "0":
                    return None
        return None

    async def text(self) -> tuple[str, Event]:
        """What is added until the end of the job, and the event of that end."""
        text = ""
        while (one := await self.next()) is not None:
            if one.event == "end":
                assert await self.next() is None
                return text, one
            assert one.event == ""
            text += one.data["content"]
        raise AssertionError("the stream has ended without the job")


@asynccontextmanager
async def followed(
    world: World, job_id: str, last: str | None = None, query: str = "follow=true"
) -> AsyncIterator[Stream]:
    head = f"GET {JOBS}/{job_id}/output?{query} HTTP/1.1\r\nHost: toy\r\nAuthorization: Bearer token-of-fireuser\r\n"
    async with world.served() as served, served.connect() as (reader, writer):
        resumed = "" if last is None else f"Last-Event-ID: {last}\r\n"
        writer.write(f"{head}{resumed}\r\n".encode())
        answer = (await reader.readuntil(b"\r\n\r\n")).decode()
        yield Stream(int(answer.split()[1]), reader)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("bytes=4", "two\n"),
        ("bytes=9999", "one\ntwo\n"),
        ("lines=1", "two\n"),
        ("lines=5", "one\ntwo\n"),
        ("offset=0", "one\ntwo\n"),
        ("offset=5", "wo\n"),
    ],
)
async def test_where_a_follower_begins(client: httpx.AsyncClient, world: World, start: str, expected: str) -> None:
    job_id, out = await submitted(client, world)
    out.write_text("one\ntwo\n")
    world.queue.states[job_id] = "RUNNING"
    text = ""
    async with followed(world, job_id, query=f"follow=true&{start}") as stream:
        while len(text) < len(expected):
            first = await stream.next()
            assert first is not None
            assert first.data["endPosition"] - len(first.data["content"]) == first.data["startPosition"]
            text += first.data["content"]
        assert text == expected
        with out.open("a") as file:
            file.write("three\n")
        world.queue.states[job_id] = "COMPLETED"
        rest, end = await stream.text()
    assert rest == "three\n"
    async with followed(world, job_id, end.id.removesuffix("-end"), query=f"follow=true&{start}") as stream:
        assert (await stream.text())[0] == ""  # the id of the last event wins


async def test_an_offset_behind_the_end_is_the_end(client: httpx.AsyncClient, world: World) -> None:
    job_id, out = await submitted(client, world)
    out.write_text("one\ntwo\n")
    world.queue.states[job_id] = "COMPLETED"
    async with followed(world, job_id, query="follow=true&offset=9223372036854775807") as stream:
        rest, end = await stream.text()
    assert rest == ""
    assert end.id.endswith("-8-end")


@pytest.mark.parametrize("start", ["bytes=2", "lines=1", "offset=3"])
async def test_all_of_an_output_that_is_not_there_yet_is_new(
    client: httpx.AsyncClient, world: World, start: str
) -> None:
    job_id, out = await submitted(client, world)
    out.write_text("of an earlier job\n")
    async with followed(world, job_id, query=f"follow=true&{start}") as stream:
        while world.queue.waiting == 0:
            await asyncio.sleep(0.005)
        out.write_text("one\ntwo\n")
        world.queue.states[job_id] = "COMPLETED"
        assert (await stream.text())[0] == "one\ntwo\n"


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ({"bytes": "1"}, "bytes"),
        ({"lines": "1"}, "lines"),
        ({"offset": "0"}, "offset"),
        ({"follow": "true", "bytes": "1", "lines": "1"}, "bytes"),
        ({"follow": "true", "lines": "1", "offset": "1"}, "lines"),
        *(({"follow": "true", name: value}, name)
          for name in ("bytes", "lines", "offset")
          for value in ("-1", "", "x", "1.5", "1e3", "0x1", "9223372036854775808", "9" * 5000, "NaN")),
        ({"follow": "true", "bytes": "0"}, "bytes"),
        ({"follow": "true", "lines": "0"}, "lines"),
    ],
)  # fmt: skip
async def test_where_a_follower_cannot_begin(
    client: httpx.AsyncClient, world: World, query: dict[str, str], name: str
) -> None:
    job_id, _ = await submitted(client, world)
    refused = await client.get(f"{JOBS}/{job_id}/output", params=query)
    assert (refused.status_code, fields(refused)) == (400, [("query", name)])


async def test_from_before_the_start_to_the_end(client: httpx.AsyncClient, world: World) -> None:
    job_id, out = await submitted(client, world)
    out.write_text("of an earlier job\n")
    async with followed(world, job_id) as stream:
        while world.queue.waiting == 0:
            await asyncio.sleep(0.005)
        out.write_text("one\n")
        world.queue.states[job_id] = "RUNNING"
        first = await stream.next()
        assert first is not None
        assert first.data == {"content": "one\n", "startPosition": 0, "endPosition": 4}
        with out.open("a") as file:
            file.write("two\n")
        second = await stream.next()
        assert second is not None
        assert (second.data["content"], second.data["startPosition"]) == ("two\n", 4)
        with out.open("a") as file:
            file.write("three\n")
        world.queue.states[job_id] = "COMPLETED"
        text, end = await stream.text()
    assert text == "three\n"
    assert (end.data["jobId"], end.data["status"]["state"]) == (job_id, "COMPLETED")
    async with followed(world, job_id, second.id) as stream:
        assert (await stream.text())[0] == "three\n"
    async with followed(world, job_id, end.id) as stream:
        assert stream.status == 204


async def test_a_running_job_without_a_file_is_waited_for(client: httpx.AsyncClient, world: World) -> None:
    job_id, _ = await submitted(client, world, "out-%N")
    async with followed(world, job_id) as stream:
        world.queue.states[job_id] = "RUNNING"
        while world.queue.waiting == 0:
            await asyncio.sleep(0.005)
        Path(world.root, "out-nid004").write_text("é\n")
        event = await stream.next()
        assert event is not None
        assert event.data["content"] == "é\n"


async def test_a_job_that_never_makes_its_file(client: httpx.AsyncClient, world: World) -> None:
    job_id, _ = await submitted(client, world)
    async with followed(world, job_id) as stream:
        world.queue.states[job_id] = "COMPLETED"
        text, end = await stream.text()
    assert (text, end.id) == ("", "0-0-end")
    assert (await client.get(f"{JOBS}/{job_id}/output?follow=true")).status_code == 404


async def test_a_failure_of_the_scheduler_ends_nothing(client: httpx.AsyncClient, world: World, queue: Fickle) -> None:
    job_id, out = await submitted(client, world)
    world.queue.states[job_id] = "RUNNING"
    out.write_text("one\n")
    async with followed(world, job_id) as stream:
        assert (await stream.next()) is not None
        queue.job_fault, asked = Unavailable("down"), queue.asked_for_job
        while queue.asked_for_job < asked + 1:
            await asyncio.sleep(0.01)
        queue.job_fault = NotFound("Job not found: forgotten")
        text, end = await stream.text()
    assert (text, end.data["status"]["state"]) == ("", "UNKNOWN")


async def test_a_lost_client_ends_the_following(client: httpx.AsyncClient, world: World) -> None:
    job_id, _ = await submitted(client, world)
    async with world.served() as served:
        async with served.connect() as (reader, writer):
            request = f"GET {JOBS}/{job_id}/output?follow=1 HTTP/1.1\r\nHost: toy\r\n"
            writer.write(f"{request}Authorization: Bearer token-of-fireuser\r\n\r\n".encode())
            await reader.readuntil(b"retry: 1000")
        async with asyncio.timeout(20):
            while world.queue.waiting:
                await asyncio.sleep(0.005)


async def test_refused_before_the_stream(client: httpx.AsyncClient, world: World) -> None:
    job_id, _ = await submitted(client, world)
    url = f"{JOBS}/{job_id}/output?follow=true"
    for last in ("x", "1-2-3", "-end", "1-1-endend", "1" * 17 + "-0-end"):
        assert "Last-Event-ID" in (await client.get(url, headers={"Last-Event-ID": last})).json()["message"]
    assert fields(await client.get(f"{JOBS}/{job_id}/output?follow=maybe")) == [("query", "follow")]
    assert (await client.get(f"{JOBS}/99/output?follow=true")).status_code == 404
    for verb in (Verb.JOBS_READ, Verb.FILES_READ):
        world.rules.forbidden = {("fireuser", verb)}
        assert (await client.get(url)).status_code == 403


async def test_parts_of_a_large_output(tmp_path: Path) -> None:
    world = World(str(tmp_path)).with_limits(max_ops_file_size=8)
    async with world.client() as client:
        job_id, out = await submitted(client, world)
        out.write_bytes(b"0123456789")
        url = f"{JOBS}/{job_id}/output"
        assert (await client.get(url)).status_code == 413
        for part, status in (("0-7", 206), ("-8", 206), ("0-8", 413), ("0-4,5-9", 413), ("99-", 416)):
            assert (await client.get(url, headers={"Range": f"bytes={part}"})).status_code == status
        download = f"/filesystem/toy/ops/download?path={out}"
        assert (await client.get(download, headers={"Range": "bytes=0-1"})).status_code == 413


@pytest.mark.parametrize("job_pattern", ["%A_%a", "^array_index^"])
async def test_a_whole_array_has_no_output_of_its_own(
    client: httpx.AsyncClient, world: World, job_pattern: str
) -> None:
    job_id, _ = await submitted(client, world, f"out-{job_pattern}")
    for query in ("", "?follow=true", "?stream=stderr"):
        answer = await client.get(f"{JOBS}/{job_id}/output{query}")
        assert (answer.status_code, fields(answer)) == (400, [("path", "job_id")])
        assert f"{job_id}_1" in answer.json()["message"]


async def test_of_a_whole_array_no_element_is_chosen(client: httpx.AsyncClient, world: World, queue: Fickle) -> None:
    """Slurm tells of the files of one element when it is asked for the array."""
    job_id, out = await submitted(client, world)
    out.write_text("of another element")
    times = JobTimes(submit=1, start=2)
    queue.parts = [JobStep(f"{job_id}_{number}", "out", "RUNNING", 0, 0, times) for number in (3, 4)]
    for query in ("", "?follow=true", "?stream=stderr"):
        answer = await client.get(f"{JOBS}/{job_id}/output{query}")
        assert (answer.status_code, fields(answer)) == (400, [("path", "job_id")])
        assert f"{job_id}_3" in answer.json()["message"]


@pytest.mark.parametrize("kind", ["fifo", "folder", "loop"])
async def test_what_cannot_be_followed_is_refused_before_the_stream(
    client: httpx.AsyncClient, world: World, kind: str
) -> None:
    """A stream that breaks off would be asked for again and again."""
    job_id, out = await submitted(client, world)
    world.queue.states[job_id] = "RUNNING"
    {"fifo": os.mkfifo, "folder": os.mkdir, "loop": lambda path: path.symlink_to(path)}[kind](out)
    refused = await client.get(f"{JOBS}/{job_id}/output?follow=true")
    assert (refused.status_code, "out" in refused.json()["message"]) == (400, True)


async def test_a_followed_file_that_becomes_a_fifo_ends_the_stream(client: httpx.AsyncClient, world: World) -> None:
    job_id, out = await submitted(client, world)
    async with followed(world, job_id) as stream:
        os.mkfifo(out)
        world.queue.states[job_id] = "RUNNING"
        assert await stream.next() is None
