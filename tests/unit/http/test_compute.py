"""Routes of jobs: what the scheduler receives, and what the responses show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flamecrest.server.errors import Unsupported

from .toy_ports import Queue
from .world import World, fields

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from flamecrest.server.deadline import Deadline

pytestmark = pytest.mark.anyio

JOBS = "/compute/toy/jobs"
SCRIPT = "#!/bin/bash\necho 'R&D' \"$HOME\"\r\n\u00e9\n"


async def submit(client: httpx.AsyncClient, **job: Any) -> httpx.Response:
    return await client.post(JOBS, json={"job": {"workingDirectory": "/anywhere", **job}})


async def test_all_job_fields_reach_the_scheduler(client: httpx.AsyncClient, world: World) -> None:
    whole = {
        "name": "na me", "account": "acc", "partition": "p", "reservation": "r", "constraints": "gpu&ib",
        "standard_input": "in file", "standardOutput": "slurm-%j.out", "standard_error": "/x/\u00e9",
        "environment": ["A=1,2", "B=x\ny"], "script": SCRIPT,
    }  # fmt: skip
    response = await submit(client, **whole)
    assert (response.status_code, response.json()) == (201, {"jobId": "315"})
    spec = world.queue.specs["315"]
    assert spec.script == SCRIPT
    assert (spec.name, spec.account, spec.partition, spec.reservation) == ("na me", "acc", "p", "r")
    assert (spec.constraints, spec.standard_input) == ("gpu&ib", "in file")
    assert (spec.standard_output, spec.standard_error) == ("slurm-%j.out", "/x/\u00e9")
    assert spec.env == {"A": "1,2", "B": "x\ny"}
    assert (spec.working_directory, spec.script_path) == ("/anywhere", None)


async def test_empty_string_and_null_mean_absent(client: httpx.AsyncClient, world: World) -> None:
    names = ("name", "account", "partition", "reservation", "constraints", "standardInput", "standardOutput")
    for empty in ("", None):
        response = await submit(client, scriptPath="/s", script=empty, **dict.fromkeys(names, empty))
        spec = world.queue.specs[response.json()["jobId"]]
        assert (spec.name, spec.account, spec.standard_output, spec.script) == (None, None, None, None)
        assert spec.script_path == "/s"


@pytest.mark.parametrize("scripts", [{}, {"script": "x", "scriptPath": "/x"}, {"script": ""}, {"script": None}])
async def test_exactly_one_of_script_and_script_path(client: httpx.AsyncClient, world: World, scripts: Any) -> None:
    assert fields(await submit(client, **scripts)) == [("body", "script")]
    assert world.queue.specs == {}


async def test_percent_encoded_paths(client: httpx.AsyncClient, world: World) -> None:
    await submit(client, encoding="percent", script_path="/%FF", standard_output="slurm-%25j", workingDirectory="/%FE")
    spec = world.queue.specs["315"]
    assert (spec.script_path, spec.standard_output) == ("/\udcff", "slurm-%j")
    assert spec.working_directory == "/\udcfe"


@pytest.mark.parametrize(
    ("job", "name"),
    [
        ({"workingDirectory": None}, "workingDirectory"),
        ({"workingDirectory": "here"}, "workingDirectory"),
        ({"script": "a\0b"}, "script"),
        ({"script": 5}, "script"),
        ({"scriptPath": "s"}, "scriptPath"),
        ({"env": "A=1"}, "env"),
        ({"env": ["A"]}, "env"),
        ({"env": {"A": 1}}, "env"),
        ({"environment": {"A": "\0"}}, "environment"),
        ({"name": "x\x1fy"}, "name"),
        ({"account": "x" * 300}, "account"),
        ({"partition": ["p"]}, "partition"),
        ({"constraints": "a\nb"}, "constraints"),
        ({"standardError": {"a": 1}}, "standardError"),
    ],
)
async def test_error_names_the_invalid_field(client: httpx.AsyncClient, world: World, job: Any, name: str) -> None:
    assert fields(await submit(client, **{"script": SCRIPT, **job})) == [("body", name)]
    assert world.queue.specs == {}


async def test_a_large_script(client: httpx.AsyncClient, world: World) -> None:
    large = "#!/bin/sh\n" + "#" * 15_000_000
    assert (await submit(client, script=large)).status_code == 201
    assert world.queue.specs["315"].script == large
    assert (await submit(client, script=large + "#" * 2_000_000)).status_code == 413


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", {"all_users": False, "account": None, "name": None, "window": 86400}),
        ("?account=&name=&allusers=false", {"all_users": False, "account": None, "name": None, "window": 86400}),
        ("?allusers=true&account=a&name=n&time_window=7d&x=y",
         {"all_users": True, "account": "a", "name": "n", "window": 604800}),
    ],
)  # fmt: skip
async def test_filters(client: httpx.AsyncClient, world: World, query: str, asked: Any) -> None:
    assert (await client.get(JOBS + query)).json() == {"jobs": []}
    assert world.queue.asked == asked


@pytest.mark.parametrize(
    "query",
    [
        "allusers=maybe",
        "allusers=",
        "time_window=2h",
        "time_window=",
        "name=" + "x" * 236,
        "name=%FF",
        "name=%00",
        "name=a%0Ab",
        "account=%1F",
        "account=%FE",
        "account=" + "x" * 256,
    ],
)
async def test_invalid_filters(client: httpx.AsyncClient, query: str) -> None:
    assert fields(await client.get(f"{JOBS}?{query}")) == [("query", query.split("=", maxsplit=1)[0])]


@pytest.mark.parametrize(
    "job_id", ["123", "123_4", "123[1-5]", "123[1-5%2]", "123.server", "123[4].server.example-1", "a" * 128]
)
async def test_valid_job_ids(client: httpx.AsyncClient, world: World, job_id: str) -> None:
    await submit(client, script=SCRIPT, name="n")
    world.queue.specs[job_id], world.queue.states[job_id] = world.queue.specs["315"], "RUNNING"
    url = f"{JOBS}/{job_id.replace('%', '%25')}"
    (job,) = (await client.get(f"{url}?allusers=true")).json()["jobs"]
    assert (job["jobId"], job["name"], job["status"]["state"]) == (job_id, "n", "RUNNING")
    (metadata,) = (await client.get(f"{url}/metadata")).json()["jobs"]
    assert (metadata["jobId"], metadata["script"]) == (job_id, SCRIPT)
    assert (await client.put(f"{url}/attach", json={"command": "echo 'x' && y"})).status_code == 204
    assert world.queue.attached == [(job_id, "echo 'x' && y")]
    for _ in range(2):
        assert (await client.delete(url)).status_code == 204


@pytest.mark.parametrize(
    "job_id", ["-1", "--all", "1;id", "1 2", "%0A1", "%00", "1%0A", "a" * 129, "_1", "*", "$(id)", "%FF"]
)
async def test_invalid_job_ids(client: httpx.AsyncClient, world: World, job_id: str) -> None:
    for request in (
        client.get(f"{JOBS}/{job_id}"),
        client.get(f"{JOBS}/{job_id}/metadata"),
        client.delete(f"{JOBS}/{job_id}"),
        client.put(f"{JOBS}/{job_id}/attach", json={"command": "x"}),
    ):
        assert fields(await request) == [("path", "job_id")]
    assert world.queue.attached == []


async def test_unknown_jobs(client: httpx.AsyncClient) -> None:
    for method, path in (("GET", ""), ("GET", "/metadata"), ("DELETE", "")):
        response = await client.request(method, f"{JOBS}/99{path}")
        assert response.status_code == 404
        assert "Job not found" in response.json()["message"]


class Pbs(Queue):
    """A scheduler that does not support attach."""

    async def attach(self, job_id: str, command: str, deadline: Deadline) -> None:  # noqa: ARG002
        raise Unsupported("PBS has no way to attach to a job")


async def test_unsupported_scheduler_operation_gives_501(tmp_path: Path) -> None:
    async with World(str(tmp_path), queue=Pbs()).client() as client:
        response = await client.put(f"{JOBS}/1/attach", json={"command": "x"})
    assert response.status_code == 501


async def test_undecodable_bytes_are_replaced_in_responses(client: httpx.AsyncClient, world: World) -> None:
    await submit(client, script=SCRIPT, encoding="percent", workingDirectory="/%FF")
    (job,) = (await client.get(f"{JOBS}/315")).json()["jobs"]
    assert job["workingDirectory"] == "/\ufffd"
    assert (await client.get(JOBS)).json()["jobs"] == [job]
