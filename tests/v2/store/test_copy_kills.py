"""Copies through the object store whose gateway is killed, or stopped, on the way: another shows the end, and retries.

What the state says and what is at the target agree at each look, whether the mover has run before or after it.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.live.process import Server, gateway
from tests.v2.conftest import Api
from tests.v2.test_large_files import names, read

from .place import MIB, MOVERS, PATIENCE, view
from .test_transfers import copied, copy, other_system

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]  # a gateway is known to be dead after 8 seconds


@pytest.fixture
def doomed(place: Any, tmp_path: Path) -> Iterator[Server]:
    """A second gateway with the same configuration."""
    with gateway(place[3].with_name("flamecrest.yaml"), tmp_path / "doomed.log") as server:
        yield server


def until(happened: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < limit
        time.sleep(0.05)


def job_state(http: httpx.Client, api: Api, transfer: str) -> str:
    """The state of a copy as a job."""
    answer = http.get(f"/compute/{api.system}/jobs/{transfer}")
    assert answer.status_code == 200, answer.text
    return str(answer.json()["jobs"][0]["status"]["state"])


def step_of(api: Api, system: str, direction: str, path: str) -> str | None:
    """The mover job of a step of a copy, empty if it has none; None while there is no such step."""
    for record in (Path(api.home) / ".flamecrest-transfers" / system).glob("*.json"):
        with suppress(OSError, ValueError):
            found = json.loads(record.read_bytes())
            if (found["method"], found["direction"], found["path"]) == ("s3", direction, path):
                with suppress(FileNotFoundError):
                    return str(json.loads(record.with_suffix(".progress").read_bytes())["job_id"])
                return ""
    return None


def test_killed_while_the_file_is_sent(place, doomed, api, work, http) -> None:
    """The mover job waits for a node, or the gateway is the mover, and has just begun."""
    by_job = api.system == MOVERS["job"]
    data = prepare(work)
    place[0].slurm.set(start_delay=600)
    try:
        transfer = begin(doomed, api, work)
        until(lambda: step_of(api, api.system, "download", f"{work}/file") not in ({None, ""} if by_job else {None}))
        os.kill(doomed.pid, signal.SIGKILL)
    finally:
        place[0].slurm.set(start_delay=0.2)
    finish(api, work, http, transfer, data)


@pytest.mark.parametrize("api", ["gateway"], indirect=True)
@pytest.mark.parametrize(
    ("looked_at", "by"), [("before", signal.SIGKILL), ("after", signal.SIGKILL), ("before", signal.SIGTERM)]
)
def test_ended_while_the_file_is_fetched(place, doomed, api, work, http, looked_at: str, by: signal.Signals) -> None:
    """The gateway has sent the file; the job that fetches it waits for a node, and goes on without the gateway."""
    data = prepare(work)
    transfer, job = ended_while_fetching(place, doomed, api, work, by)
    if looked_at == "before":
        until(lambda: view(http, api, transfer)["jobId"] == job)  # of the step: its gateway is known to be dead
        shown = view(http, api, transfer)
        assert (shown["state"], shown["error"]) == ("RUNNING", None), shown
        again = http.post(f"/filesystem/{api.system}/transfer/{transfer}/retry")
        assert (again.status_code, "under way" in again.text) == (400, True), again.text
        assert read(http, api, f"{work}/copy") == b"old"
    let_jobs_start(place, api, work, http)
    if looked_at == "after":
        until(lambda: Path(f"{work}/copy").read_bytes() == data)
        until(lambda: job_state(http, api, transfer) == "COMPLETED")  # before anybody asks for the transfer
    done = copied(http, api, transfer)
    assert (done["state"], done["sha256"]) == ("COMPLETED", hashlib.sha256(data).hexdigest()), done
    assert read(http, api, f"{work}/copy") == data
    assert names(http, api, work) == ["copy", "file"]
    assert http.get(f"/compute/{other_system(api)}/jobs/{view(http, api, transfer)['thenJobId']}").status_code == 200
    assert http.post(f"/filesystem/{api.system}/transfer/{transfer}/retry").status_code == 400


@pytest.mark.parametrize("api", ["gateway"], indirect=True)
@pytest.mark.parametrize("by", ["transfer", "job"])
def test_killed_while_the_file_is_fetched_and_cancelled(place, doomed, api, work, http, store, by: str) -> None:
    """The job that waits is cancelled, too: it never replaces the target."""
    prepare(work)
    transfer, job = ended_while_fetching(place, doomed, api, work)
    kind = f"/compute/{api.system}/jobs" if by == "job" else f"/filesystem/{api.system}/transfer"
    try:
        for _ in range(2):
            assert http.delete(f"{kind}/{transfer}").status_code == 204
            (seen,) = http.get(f"/compute/{other_system(api)}/jobs/{job}").json()["jobs"]
            assert seen["status"]["state"] == "CANCELLED", seen
    finally:
        let_jobs_start(place, api, work, http)
    shown = view(http, api, transfer)
    assert (shown["state"], shown["thenJobId"]) == ("CANCELLED", None), shown
    assert read(http, api, f"{work}/copy") == b"old"
    assert names(http, api, work) == ["copy", "file"]


def ended_while_fetching(
    place: Any, doomed: Server, api: Api, work: str, by: signal.Signals = signal.SIGKILL
) -> tuple[str, str]:
    """The copy whose gateway was ended, and the mover job, which waits."""
    place[0].slurm.set(cpus=0)  # the job waits for a node
    then = {"workingDirectory": work, "script": "#!/bin/sh\ntrue\n", "account": "test", "standardOutput": "/dev/null"}
    transfer = begin(doomed, api, work, thenSubmit=then)
    until(lambda: step_of(api, other_system(api), "upload", f"{work}/copy"))
    process = os.pidfd_open(doomed.pid)
    signal.pidfd_send_signal(process, by)
    assert select.select([process], [], [], PATIENCE)[0]
    os.close(process)
    return transfer, step_of(api, other_system(api), "upload", f"{work}/copy") or ""


def let_jobs_start(place: Any, api: Api, work: str, http: httpx.Client) -> None:
    """A node is free; a job that is submitted makes the scheduler look at those that wait."""
    place[0].slurm.set(cpus=8)
    job = {"account": "test", "workingDirectory": work, "script": "#!/bin/sh\ntrue\n", "standardOutput": "/dev/null"}
    begun = http.post(f"/compute/{other_system(api)}/jobs", json={"job": job})
    assert begun.status_code == 201, begun.text


def prepare(work: str) -> bytes:
    data = os.urandom(6 * MIB)
    Path(f"{work}/file").write_bytes(data)
    Path(f"{work}/copy").write_bytes(b"old")
    return data


def begin(server: Server, api: Api, work: str, **more: Any) -> str:
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {api.token}"}, timeout=60) as client:
        return copy(client, api, f"{work}/file", f"{work}/copy", **more)


def finish(api: Api, work: str, http: httpx.Client, transfer: str, data: bytes) -> None:
    """The state says that it was stopped; the target is the old or the new file; a retry finishes; nothing is left."""
    until(lambda: job_state(http, api, transfer) != "RUNNING")  # nobody has asked for the transfer itself
    ended = copied(http, api, transfer)
    assert job_state(http, api, transfer) == ended["state"]
    assert (ended["state"], "was stopped" in ended["error"]) == ("FAILED", True), ended
    assert "Retry" in ended["hint"]
    assert read(http, api, f"{work}/copy") in (b"old", data)
    again = http.post(f"/filesystem/{api.system}/transfer/{transfer}/retry")
    assert again.status_code == 201, again.text
    done = copied(http, api, again.json()["transferJob"]["jobId"])
    assert (done["state"], done["sha256"]) == ("COMPLETED", hashlib.sha256(data).hexdigest()), done
    assert read(http, api, f"{work}/copy") == data
    until(lambda: names(http, api, work) == ["copy", "file"])
    assert view(http, api, transfer)["state"] == "FAILED"
