"""The life of typed jobs on a whole gateway: on the toy Slurm, and on the live site's real one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from .conftest import Api


@pytest.fixture
def jobs(api: Api) -> Iterator[httpx.Client]:
    """A client of the routes of jobs."""
    with api.http() as client:
        client.base_url = f"{api.url}/compute/{api.system}/jobs"
        yield client


def submit(jobs: httpx.Client, work: str, script: str, **job: Any) -> str:
    named = {"workingDirectory": work, "standardOutput": f"{work}/out-%N-%j", "script": f"#!/bin/bash\n{script}\n"}
    answer = jobs.post("", json={"job": named | job})
    assert answer.status_code == 201, answer.text
    job_id: str = answer.json()["jobId"]
    return job_id


def events(answer: httpx.Response) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """The fields and the data of each event."""
    one: dict[str, str] = {}
    for line in answer.iter_lines():
        if not line and "data" in one:
            yield one, json.loads(one["data"])
        one = {} if not line else {**one, **dict([line.split(": ", 1)])}


def test_output_is_followed_to_the_end_of_the_job(jobs: httpx.Client, work: str) -> None:
    job_id = submit(jobs, work, "echo one; sleep 1; echo two; exit 3")
    with jobs.stream("GET", f"/{job_id}/output?follow=true") as answer:
        seen = list(events(answer))
    (last, job), pieces = seen[-1], seen[:-1]
    assert "".join(data["content"] for _, data in pieces) == "one\ntwo\n"
    assert (last["event"], job["jobId"], job["status"]["state"]) == ("end", job_id, "FAILED")
    assert jobs.get(f"/{job_id}/output?follow=true", headers={"Last-Event-ID": last["id"]}).status_code == 204
    resumed = f"{pieces[0][0]['id'].partition('-')[0]}-4"
    with jobs.stream("GET", f"/{job_id}/output?follow=true", headers={"Last-Event-ID": resumed}) as answer:
        assert next(events(answer))[1]["content"] == "two\n"
    part = jobs.get(f"/{job_id}/output?stream=stderr", headers={"Range": "bytes=4-6"})
    assert (part.status_code, part.text) == (206, "two")


def test_the_end_of_a_large_output_is_followed(jobs: httpx.Client, work: str) -> None:
    script = f"truncate -s 900000000000 {work}/large; echo the end >> {work}/large"
    job_id = submit(jobs, work, script, standardOutput=f"{work}/large")
    until(jobs, job_id, "COMPLETED")
    for start in ("bytes=8", "offset=900000000000"):
        with jobs.stream("GET", f"/{job_id}/output?follow=true&{start}") as answer:
            seen = list(events(answer))
        assert [(one.get("event"), data.get("content")) for one, data in seen] == [(None, "the end\n"), ("end", None)]
        assert seen[0][1]["startPosition"] == 900000000000
    refused = jobs.get(f"/{job_id}/output?follow=true&lines=2")
    assert refused.status_code == 413, refused.text  # the line before the last is too long


def job_of(jobs: httpx.Client, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = jobs.get(f"/{job_id}").json()["jobs"][0]
    return found


def until(jobs: httpx.Client, job_id: str, *states: str) -> dict[str, Any]:
    """The job as soon as it has one of the states."""
    tag = ""
    for _ in range(60):
        answer = jobs.get(f"/{job_id}?wait=5s", headers={"If-None-Match": tag} if tag else {})
        if answer.status_code == 200:
            tag, job = answer.headers["etag"], answer.json()["jobs"][0]
            if job["status"]["state"] in states:
                found: dict[str, Any] = job
                return found
    raise AssertionError(f"{job_id} does not become {states}")


def test_a_held_job_is_changed_and_released(jobs: httpx.Client, work: str) -> None:
    job_id = submit(jobs, work, "true", hold=True, name="before", timeLimit="10m")
    change = {"name": "after", "timeLimit": "90s", "comment": "changed"}
    assert jobs.patch(f"/{job_id}", json=change).status_code == 204
    job = job_of(jobs, job_id)
    assert (job["name"], job["time"]["limit"], job["status"]["state"]) == ("after", 120, "PENDING")
    assert (job["comment"], job["cpus"], job["source"]) == ("changed", 1, "live")
    refused = jobs.patch(f"/{job_id}", json={"partition": "nosuch"})
    assert (refused.status_code, refused.json()["data"]["kind"]) == (400, "unknownPartition")
    assert refused.json()["data"]["fields"][0]["name"] == "partition"
    assert jobs.post(f"/{job_id}/release").status_code == 204
    assert until(jobs, job_id, "COMPLETED", "FAILED")["name"] == "after"


def test_a_signal_is_sent_and_a_job_is_cancelled(jobs: httpx.Client, work: str) -> None:
    script = f"trap 'echo got it; exit 4' USR1\ntouch {work}/ready\nwhile :; do sleep 0.1; done"
    job_id, other = submit(jobs, work, script), submit(jobs, work, "sleep 300")
    until(jobs, job_id, "RUNNING")
    with jobs.stream("GET", f"/{job_id}/output?follow=true") as answer:
        while jobs.get(str(jobs.base_url).replace("/compute/", "/filesystem/").replace("/jobs/", "/ops/stat"),
                       params={"path": f"{work}/ready"}).status_code != 200:  # fmt: skip
            pass
        assert jobs.delete(f"/{job_id}?signal=USR1").status_code == 204
        seen = list(events(answer))
    assert "".join(data.get("content", "") for _, data in seen[:-1]).endswith("got it\n")
    assert seen[-1][1]["status"]["exitCode"] == 4
    assert jobs.delete(f"/{other}").status_code == 204
    assert until(jobs, other, "CANCELLED")["jobId"] == other


def test_a_signal_to_a_job_that_waits_is_refused(jobs: httpx.Client, work: str) -> None:
    job_id = submit(jobs, work, "true", hold=True)
    answer = jobs.post(f"/{job_id}/signal", json={"signal": "USR1"})
    assert (answer.status_code, "no processes" in answer.json()["message"]) == (400, True), answer.text
    assert job_of(jobs, job_id)["status"]["state"] == "PENDING"
    assert jobs.delete(f"/{job_id}").status_code == 204


def test_many_jobs_are_submitted_listed_and_cancelled(jobs: httpx.Client, api: Api, work: str) -> None:
    count = 500 if api.live else 12
    one = {"workingDirectory": work, "script": "#!/bin/bash\ntrue\n", "hold": True, "standardOutput": "/dev/null"}
    wrong = {**one, "partition": "nosuch"}
    bulk = f"{api.url}/compute/{api.system}/bulk"
    named = [{**one, "name": f"{work[-8:]}-{number % 2}"} for number in range(count)]
    results = jobs.post(f"{bulk}/submit", json={"jobs": [*named, wrong]}).json()["results"]
    ids = [result["jobId"] for result in results]
    assert len(set(ids)) == count + 1
    assert (ids[-1], results[-1]["error"]["kind"]) == (None, "unknownPartition")
    assert results[-1]["error"]["fields"][0]["name"] == f"jobs.{count}.partition"
    ids.pop()
    try:
        seen: list[str] = []
        cursor: dict[str, str] = {}
        for _ in range(3):
            asked = {"state": "PENDING", "name": f"{work[-8:]}-1", "sort": "-id", "limit": str(count // 4), **cursor}
            page = jobs.get("", params=asked).json()
            seen += [job["jobId"] for job in page["jobs"]]
            cursor = {"cursor": page["nextCursor"]}
            if page["nextCursor"] is None:
                break
        assert seen == sorted(ids[1::2], key=int, reverse=True)
        states = jobs.post(f"{bulk}/status", json={"jobIds": [*ids, "4000000"]}).json()["results"]
        assert {result["job"]["status"]["state"] for result in states[:-1]} == {"PENDING"}
        assert states[-1]["error"]["status"] == 404
        released = jobs.post(f"{bulk}/release", json={"jobIds": ids[:2]}).json()["results"]
        assert [result["error"] for result in released] == [None, None]
    finally:
        cancelled = jobs.post(f"{bulk}/cancel", json={"jobIds": ids}).json()["results"]
    assert [one["error"] for one in cancelled] == [None] * count


def test_an_array(jobs: httpx.Client, work: str) -> None:
    job_id = submit(jobs, work, "echo $SLURM_ARRAY_TASK_ID", array="0-3%1", hold=True, standardOutput=f"{work}/%A-%a")
    (waiting,) = jobs.get("", params={"ids": job_id}).json()["jobs"]
    assert waiting["status"]["state"] == "PENDING"
    assert jobs.get(f"/{job_id}/output").status_code == 400  # each element has an output of its own
    assert jobs.post(f"/{job_id}/release").status_code == 204
    assert until(jobs, f"{job_id}_3", "COMPLETED")["array"]["element"] == 3
    assert jobs.get(f"/{job_id}_3/output").text == "3\n"
    refused = jobs.post("/validate", json={"job": {"workingDirectory": work, "script": "#!/bin/sh\n", "array": "3-1"}})
    assert refused.json()["data"]["fields"][0]["name"] == "array"


def test_a_job_starts_again(jobs: httpx.Client, api: Api, work: str) -> None:
    if not api.live:
        pytest.skip("the toy Slurm cannot requeue")
    job_id = submit(jobs, work, "sleep 300")
    started = until(jobs, job_id, "RUNNING")
    assert jobs.post(f"/{job_id}/suspend").status_code == 403
    assert jobs.post(f"/{job_id}/requeue").status_code == 204
    assert until(jobs, job_id, "PENDING")["jobId"] == job_id
    assert jobs.delete(f"/{job_id}").status_code == 204
    assert started["source"] == "live"
