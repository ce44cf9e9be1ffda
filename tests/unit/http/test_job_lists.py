"""Lists of jobs with filters and pages, the output of jobs, and many jobs in one request."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flamecrest.server.auth.port import Verb
from flamecrest.server.errors import Unavailable
from flamecrest.server.http.core.user_memory import SMALL
from flamecrest.server.http.jobs.shown import show_job
from flamecrest.server.schedulers.reason_hints import reason_hint
from flamecrest.server.schedulers.values import Job, JobTimes, JobUsage, SharedItem, SharedList, Stage

from .world import World, fields

if TYPE_CHECKING:
    import httpx

pytestmark = pytest.mark.anyio

JOBS, BULK = "/compute/toy/jobs", "/compute/toy/bulk"
SCRIPT = "#!/bin/sh\ntrue\n"
JOB: dict[str, Any] = {"workingDirectory": "/w", "script": SCRIPT}


async def submit(client: httpx.AsyncClient, **job: Any) -> str:
    response = await client.post(JOBS, json={"job": {"workingDirectory": "/w", "script": SCRIPT, **job}})
    job_id: str = response.json()["jobId"]
    return job_id


async def ids(client: httpx.AsyncClient, query: str) -> list[str]:
    return [job["jobId"] for job in (await client.get(f"{JOBS}?{query}")).json()["jobs"]]


async def test_filters_and_order(client: httpx.AsyncClient, world: World) -> None:
    for name, partition in (("b", "long"), ("a", "debug"), ("c", "long")):
        await submit(client, name=name, partition=partition)
    world.queue.states["316"] = "RUNNING"
    assert await ids(client, "partition=long") == ["315", "317"]
    assert await ids(client, "state=running,completed") == ["316"]
    assert await ids(client, "partition=long&state=RUNNING") == []
    assert await ids(client, "ids=317,99,315") == ["315", "317"]
    assert await ids(client, "sort=name") == ["316", "315", "317"]
    assert await ids(client, "sort=-id") == ["317", "316", "315"]
    assert await ids(client, "user=fireuser") == ["315", "316", "317"]
    assert world.queue.asked["all_users"] is False
    assert await ids(client, "user=bob&since=2h") == []
    assert (world.queue.asked["all_users"], world.queue.asked["window"]) == (True, 7200)


async def test_pages(client: httpx.AsyncClient) -> None:
    for number in range(5):
        await submit(client, name=f"n{number % 2}")
    for sort in ("submit", "-submit", "name", "-name", "id"):
        found: list[str] = []
        cursor = ""
        for _ in range(3):
            page = (await client.get(f"{JOBS}?limit=2&sort={sort}{cursor}")).json()
            found += [job["jobId"] for job in page["jobs"]]
            cursor = f"&cursor={page['nextCursor']}"
        assert page["nextCursor"] is None
        assert found == await ids(client, f"sort={sort}")
        assert len(found) == len(set(found)) == 5


async def test_pages_of_a_list_that_requests_share_are_made_once(client: httpx.AsyncClient, world: World) -> None:
    jobs = [Job(str(number), "n", "RUNNING", Stage.RUNNING, user="fireuser") for number in range(40)]
    jobs.append(Job("40", "n", "COMPLETED", Stage.ENDED, comment="x" * SMALL))
    shared = world.queue.shared = SharedList.of([SharedItem(job) for job in jobs])
    first = await client.get(f"{JOBS}?limit=2")
    (kept,) = shared.parts.values()
    again = await client.get(f"{JOBS}?limit=2")
    assert again.content == first.content == kept.body
    assert again.headers["etag"] == first.headers["etag"] == kept.etag
    assert [job["jobId"] for job in first.json()["jobs"]] == ["0", "1"]
    following = await client.get(f"{JOBS}?limit=2&cursor={first.json()['nextCursor']}")
    assert [job["jobId"] for job in following.json()["jobs"]] == ["2", "3"]
    assert following.headers["etag"] != first.headers["etag"]
    assert await ids(client, "state=COMPLETED") == ["40"]
    assert len(shared.parts) == 2  # without the large one
    for limit in range(1, 40):
        assert len(await ids(client, f"limit={limit}")) == limit
    assert len(shared.parts) == 32
    shown = (await client.get(JOBS)).json()
    assert [job["jobId"] for job in shown["jobs"]] == [job.id for job in jobs]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=99999", "sort=size", "sort=", "cursor=x", "cursor=W10", "cursor=%00", "ids=1;rm", "ids=--all",
     "since=tomorrow", "since=9999d", "since=2099-01-01T00:00:00Z", "state=%00", "state=FOO",
     "state=RUNNING,DONE", "user=a%0Ab", "partition=%1F"],
)  # fmt: skip
async def test_invalid_filters(client: httpx.AsyncClient, query: str) -> None:
    assert fields(await client.get(f"{JOBS}?{query}")) == [("query", query.partition("=")[0])]


async def test_pages_of_jobs_with_long_names(client: httpx.AsyncClient) -> None:
    for number in range(3):
        await submit(client, name="\N{GRINNING FACE}" * 250 + str(number))
    page = (await client.get(f"{JOBS}?limit=2&sort=name")).json()
    rest = await client.get(f"{JOBS}?limit=2&sort=name&cursor={page['nextCursor']}")
    assert [job["jobId"] for job in (*page["jobs"], *rest.json()["jobs"])] == ["315", "316", "317"]


async def test_a_cursor_is_of_one_order(client: httpx.AsyncClient) -> None:
    for _ in range(2):
        await submit(client)
    cursor = (await client.get(f"{JOBS}?limit=1")).json()["nextCursor"]
    assert fields(await client.get(f"{JOBS}?limit=1&sort=name&cursor={cursor}")) == [("query", "cursor")]


async def test_output(client: httpx.AsyncClient, world: World) -> None:
    out = Path(world.root, "out")
    job_id = await submit(client, standardOutput=str(out), workingDirectory=world.root)
    early = await client.get(f"{JOBS}/{job_id}/output")
    assert (early.status_code, early.content) == (200, b"")
    out.write_bytes(b"0123456789")
    assert (await client.get(f"{JOBS}/{job_id}/output")).content == b"0123456789"
    part = await client.get(f"{JOBS}/{job_id}/output?stream=stderr", headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    out.unlink()
    world.queue.states[job_id] = "COMPLETED"
    assert (await client.get(f"{JOBS}/{job_id}/output")).status_code == 404
    assert (await client.get(f"{JOBS}/99/output")).status_code == 404
    assert fields(await client.get(f"{JOBS}/{job_id}/output?stream=x")) == [("query", "stream")]
    outside = await submit(client, standardOutput="/etc/hostname")
    assert (await client.get(f"{JOBS}/{outside}/output")).status_code == 400
    for verb in (Verb.JOBS_READ, Verb.FILES_READ):
        world.rules.forbidden = {("fireuser", verb)}
        assert (await client.get(f"{JOBS}/{job_id}/output")).status_code == 403


async def test_many_jobs(client: httpx.AsyncClient, world: World) -> None:
    job = {"workingDirectory": "/w", "script": SCRIPT}
    submitted = (await client.post(f"{BULK}/submit", json={"jobs": [job, job]})).json()["results"]
    assert [one["jobId"] for one in submitted] == ["315", "316"]
    some = {"jobIds": ["316", "99"]}
    found, missing = (await client.post(f"{BULK}/status", json=some)).json()["results"]
    assert (found["jobId"], found["job"]["status"]["state"]) == ("316", "PENDING")
    assert (missing["jobId"], missing["error"]["status"]) == ("99", 404)
    for action in ("hold", "release", "cancel"):
        good, bad = (await client.post(f"{BULK}/{action}", json=some)).json()["results"]
        assert (good["jobId"], good["error"], bad["error"]["status"]) == ("316", None, 404)
    assert world.queue.states == {"315": "PENDING", "316": "CANCELLED"}


async def test_each_of_many_jobs_has_the_time_of_a_request(client: httpx.AsyncClient, world: World) -> None:
    await client.post(f"{BULK}/submit", json={"jobs": [JOB] * 20})
    assert len({id(deadline) for deadline in world.queue.deadlines}) == 20


async def test_many_jobs_are_not_tried_while_the_scheduler_does_not_answer(
    client: httpx.AsyncClient, world: World
) -> None:
    world.queue.refusal = Unavailable("down")
    results = (await client.post(f"{BULK}/submit", json={"jobs": [JOB] * 20})).json()["results"]
    assert len(world.queue.deadlines) <= 8
    assert [result["error"]["status"] for result in results] == [503] * 20
    assert results[0]["error"]["message"] == "down"
    assert "Not tried" in results[-1]["error"]["message"]


@pytest.mark.parametrize(
    ("what", "body", "name"),
    [("submit", {"jobs": []}, "jobs"), ("status", {"jobIds": []}, "jobIds"), ("hold", {"jobIds": ["1;rm"]}, "jobIds.0"),
     ("cancel", {"jobIds": ["1"] * 1001}, "jobIds"), ("cancel", {"jobIds": ["1"], "signal": "9"}, "signal"),
     ("submit", {"jobs": [{"workingDirectory": "/w", "script": SCRIPT, "timeLimit": "x"}]}, "jobs.0.timeLimit"),
     ("submit", {"jobs": [JOB, {**JOB, "array": "5-1"}]}, "jobs.1.array"),
     ("submit", {"jobs": [JOB, JOB, {**JOB, "scriptPath": "/x"}]}, "jobs.2.script"),
     ("submit", {"jobs": [{**JOB, "begin": 2, "deadline": 1}]}, "jobs.0.deadline"),
     ("submit", {"jobs": {}}, "jobs"), ("submit", {"jobs": [1]}, "jobs.0")],
)  # fmt: skip
async def test_invalid_bulk_requests(
    client: httpx.AsyncClient, world: World, what: str, body: dict[str, Any], name: str
) -> None:
    assert fields(await client.post(f"{BULK}/{what}", json=body)) == [("body", name)]
    assert world.queue.specs == {}


def test_added_fields() -> None:
    job = Job("1", "n", "COMPLETED", Stage.ENDED, reason="None", times=JobTimes(submit=5, elapsed=10), cpus=4,
              memory=2048, node_count=2, usage=JobUsage(cpu_seconds=20.0, max_memory=100))  # fmt: skip
    shown = show_job(job)
    assert (shown["submitTime"], shown["cpus"], shown["memory"]) == (5, 4, 2048)
    used = {"cpuSeconds": 20.0, "maxMemory": 100, "cpuEfficiency": 0.5, "memoryEfficiency": 0.098}
    assert (shown["usage"], shown["array"], shown["source"]) == (used, None, "live")
    element = show_job(replace(job, id="7_2", source="history", node_count=2))
    assert element["array"] == {"jobId": "7", "element": 2, "elements": None, "maxRunning": None}
    assert (element["source"], element["usage"]["memoryEfficiency"]) == ("history", 0.098)


@pytest.mark.parametrize(
    ("reason", "words"),
    [("QOSMaxJobsPerUserLimit", "quality of service"), ("AssocGrpCPUMinutesLimit", "budget of your account"),
     ("ReqNodeNotAvail, Reserved for maintenance", "maintenance"), ("DependencyNeverSatisfied", "dependencies"),
     ("Can Never Run: Insufficient amount of resource: ncpus (R: 9 A: 1 T: 4)", "No node"),
     ("Not Running: Not enough free nodes available", "free"), ("Job held by alice on Sat Nov 21", "Release"),
     ("Not Running: User has reached server running job limit.", "limit"),
     ("Job run at Sat Nov 21 at 20:59 on (vm:ncpus=1) and exceeded resource walltime", "time limit"),
     ("AssocMaxWallDurationPerJobLimit", "one job"), ("QOSGrpCpuLimit", "all users"), ("JobHeldUser", "Release")],
)  # fmt: skip
def test_hints(reason: str, words: str) -> None:
    hint = reason_hint(reason)
    assert hint is not None
    assert words in hint


@pytest.mark.parametrize(
    ("reason", "ended"),
    [("JobHeldUser", False), ("Dependency", False), ("QOSMaxJobsPerUserLimit", False), ("Resources", False),
     ("Not Running: Not enough free nodes available", False), ("NonZeroExitCode", True), ("TimeLimit", True),
     ("Job run at Sat Nov 21 at 20:59 on (vm:ncpus=1) and exceeded resource walltime", True)],
)  # fmt: skip
def test_an_ended_job_has_no_hint_about_what_it_has_waited_for(reason: str, ended: bool) -> None:
    waiting = Job("7", "run", "PENDING", Stage.WAITING, reason=reason)
    over = replace(waiting, state="CANCELLED", stage=Stage.ENDED)
    assert show_job(waiting)["status"]["stateHint"]
    assert show_job(over)["status"]["stateReason"] == reason
    assert (show_job(over)["status"]["stateHint"] is not None) == ended


@pytest.mark.parametrize("reason", [None, "", "None", "Something", "A\nB", "("])
def test_no_hint(reason: str | None) -> None:
    assert reason_hint(reason) is None
