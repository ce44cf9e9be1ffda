"""The scheduler's servers hang or are down for seconds: known states are still reported, nothing is submitted twice.

The scheduler is shared by all users of the centre, so other faults are not injected here.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from flamecrest.server.schedulers.job_errors import MAYBE_SUBMITTED

from . import faults
from .fault_world import World, is_error
from .faults import until

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(
        any(name.startswith("FLAMECREST_LIVE_") for name in os.environ), reason="another site than tests/live/centre"
    ),
    pytest.mark.timeout(240),
]


def submit(world: World, client: httpx.Client, name: str, script: str = "#!/bin/sh\nsleep 100\n") -> httpx.Response:
    job = {"name": name, "workingDirectory": "/tmp", "standardOutput": "/dev/null", "standardError": "/dev/null"}
    return client.post(world.jobs, json={"job": job | {"script": script, "account": world.site.account}})


def named(client: httpx.Client, world: World, name: str) -> list[str]:
    answer = client.get(world.jobs, params={"name": name, "time_window": "1h"})
    assert answer.status_code == 200, answer.text
    return [job["jobId"] for job in answer.json()["jobs"]]


def state(client: httpx.Client, world: World, job: str) -> str:
    answer = client.get(f"{world.jobs}/{job}")
    assert answer.status_code == 200, answer.text
    return str(answer.json()["jobs"][0]["status"]["state"])


@pytest.fixture
def two_jobs(world: World) -> Iterator[tuple[httpx.Client, str, str, str]]:
    """A client, the name of the test's jobs, a running job, and a finished job that is in the accounting records."""
    client = world.client(world.gateway(connection=1, login=1, scheduler=4), "user06")
    name = f"faults-{secrets.token_hex(4)}"
    done = submit(world, client, name, "#!/bin/sh\n:\n").json()["jobId"]
    runs = submit(world, client, name).json()["jobId"]
    wait_for(client, world, runs, "RUNNING")
    wait_for(client, world, done, "COMPLETED")
    until(lambda: recorded(done, "COMPLETED") and recorded(runs, "RUNNING"), "the records know both")
    yield client, name, done, runs
    for job in named(client, world, name):
        client.delete(f"{world.jobs}/{job}")


def wait_for(client: httpx.Client, world: World, job: str, wanted: str) -> None:
    until(lambda: state(client, world, job) == wanted, f"{job} is {wanted}")


def controller_answers() -> bool:
    return subprocess.run(["squeue", "-h"], check=False, capture_output=True, timeout=30).returncode == 0


def recorded(job: str, wanted: str) -> bool:
    said = subprocess.run(["sacct", "-nXPj", job, "-o", "State"], check=False, capture_output=True, text=True)
    return said.stdout.strip() == wanted


def test_accounting_is_down_or_hangs(world: World, two_jobs: tuple[httpx.Client, str, str, str]) -> None:
    client, name, done, runs = two_jobs
    hang = faults.stopped(faults.pid_of("slurmdbd"))
    for fault in (hang, faults.ended("slurmdbd")):
        with fault:
            assert state(client, world, runs) == "RUNNING"
            assert state(client, world, done) == "COMPLETED"
            assert set(named(client, world, name)) == {done, runs}
            during = submit(world, client, f"{name}-during", "#!/bin/sh\n:\n")
            assert during.status_code == 201, during.text
        wait_for(client, world, during.json()["jobId"], "COMPLETED")


def test_controller_is_down_or_hangs(world: World, two_jobs: tuple[httpx.Client, str, str, str]) -> None:
    """Accounting still reports jobs; a submission without a response is not repeated."""
    client, name, done, runs = two_jobs
    hang = faults.stopped(faults.pid_of("slurmctld"))
    for number, fault in enumerate((hang, faults.ended("slurmctld"))):
        lost = f"{name}-{number}"
        with fault, ThreadPoolExecutor(4) as pool:
            submitted = pool.submit(submit, world, client, lost, "#!/bin/sh\n:\n")
            alive = pool.submit(state, client, world, runs)
            dead = pool.submit(state, client, world, done)
            listed = pool.submit(named, client, world, name)
            assert (alive.result(), dead.result()) == ("RUNNING", "COMPLETED")
            assert set(listed.result()) == {done, runs}
            unknown = submitted.result()
            assert is_error(unknown, 408, 424, 503)
            assert unknown.status_code == 503 or MAYBE_SUBMITTED in unknown.json()["message"]
        until(controller_answers, "the controller is back")
        wait_for(client, world, runs, "RUNNING")
        assert submit(world, client, f"{lost}-after", "#!/bin/sh\n:\n").status_code == 201
        time.sleep(1)  # jobs that it accepted before the stop are listed by now
        assert len(named(client, world, lost)) <= 1
    faults.up()
