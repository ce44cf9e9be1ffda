"""slurmrestd, slurmdbd and slurmctld are killed and started again: what is known is still told, nothing is doubled.

The centre of another suite than the others use, by slurmrestd alone and with commands beside it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from flamecrest.server.auth.port import Verb
from flamecrest.server.errors import GatewayError
from flamecrest.server.schedulers.port import Scheduler
from flamecrest.server.schedulers.values import JobSpec
from tests.contract.gateways import over_live_site, soon

from .faults import first_pid
from .site import Site

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]
SUITE, USER = "trixie", "user19"
JOB = JobSpec("/tmp", script="#!/bin/sh\nsleep 300\n", standard_output="/dev/null")


class Centre:
    """The daemons, and schedulers of a user by slurmrestd (`rest`) and by both ways (`hybrid`)."""

    def __init__(self, site: Site, rest: Scheduler, hybrid: Scheduler) -> None:
        self.rest = rest
        self.hybrid = hybrid
        self._run = site.keys.parent / "run"

    def kill(self, daemon: str) -> None:
        os.kill(first_pid(self._run / f"{daemon}.pid"), signal.SIGKILL)

    async def saved(self) -> None:
        """Wait until slurmctld has saved the state of its jobs: what it has not is lost when it is killed."""
        state = self._run.parent / "state/slurmctld/job_state"
        before, deadline = state.stat().st_mtime_ns, soon()
        while state.stat().st_mtime_ns <= before:
            assert deadline.left() > 0
            await asyncio.sleep(0.2)

    async def start(self) -> None:
        """Start what does not run."""
        argv = [str(Path(__file__).parent / "centre/up.sh")]
        environ = os.environ | {"SUITE": SUITE}
        await asyncio.to_thread(subprocess.run, argv, env=environ, check=True, capture_output=True, timeout=120)


@pytest.fixture
async def centre(tmp_path: Path) -> AsyncIterator[Centre]:
    site = Site.of_suite(SUITE)
    if SUITE not in os.environ.get("SUITES", "").split() and (reason := site.why_not()):
        pytest.skip(reason)
    async with AsyncExitStack() as stack:
        found = []
        for mode in ("rest", "hybrid"):
            (tmp_path / mode).mkdir()
            one = over_live_site(tmp_path / mode, site=replace(site, connection_mode=mode, shared_life=0))
            reached = await stack.enter_async_context(one)
            found.append((await reached.allowed(USER, Verb.JOBS_SUBMIT)).scheduler())
        made = Centre(site, *found)
        try:
            yield made
        finally:
            await made.start()
            for job_id in await named(made.hybrid, None):
                await made.hybrid.cancel(job_id, soon())


async def named(scheduler: Scheduler, name: str | None) -> list[str]:
    found = await scheduler.jobs(all_users=False, account=None, name=name, window=600, deadline=soon())
    return [job.id for job in found]


async def until_state(scheduler: Scheduler, job_id: str, state: str) -> None:
    """Wait until the job is known to be in the state, errors between included."""
    deadline = soon()
    while True:
        try:
            (job,) = await scheduler.job(job_id, soon())
            if job.state == state:
                return
        except GatewayError:
            pass
        assert deadline.left() > 0, f"{job_id} is not {state}"
        await asyncio.sleep(0.2)


async def test_slurmrestd_is_killed(centre: Centre) -> None:
    job_id = await centre.rest.submit(JOB, soon())
    await until_state(centre.hybrid, job_id, "RUNNING")
    centre.kill("slurmrestd")
    with pytest.raises(GatewayError) as caught:
        await centre.rest.submit(replace(JOB, name=f"lost-{job_id}"), soon())
    assert "slurmrestd" in caught.value.public
    await until_state(centre.hybrid, job_id, "RUNNING")
    another = await centre.hybrid.submit(JOB, soon())
    assert {job_id, another} <= set(await named(centre.hybrid, None))
    await centre.start()
    await until_state(centre.rest, another, "RUNNING")
    assert await named(centre.rest, f"lost-{job_id}") == []


async def test_slurmdbd_is_killed(centre: Centre) -> None:
    job_id = await centre.rest.submit(JOB, soon())
    centre.kill("slurmdbd")
    for scheduler in (centre.rest, centre.hybrid):
        await until_state(scheduler, job_id, "RUNNING")
        assert job_id in await named(scheduler, None)
    await centre.start()
    await centre.rest.cancel(job_id, soon())
    await until_state(centre.rest, job_id, "CANCELLED")


async def test_slurmctld_is_killed(centre: Centre) -> None:
    job_id = await centre.rest.submit(JOB, soon())
    await until_state(centre.rest, job_id, "RUNNING")
    await centre.rest.submit(replace(JOB, hold=True), soon())  # something to save
    await centre.saved()
    name = f"while-down-{secrets.token_hex(4)}"
    centre.kill("slurmctld")
    submitting = asyncio.ensure_future(centre.rest.submit(replace(JOB, name=name), soon()))
    await centre.start()
    (outcome,) = await asyncio.gather(submitting, return_exceptions=True)
    assert isinstance(outcome, str | GatewayError)
    for scheduler in (centre.rest, centre.hybrid):
        await until_state(scheduler, job_id, "RUNNING")
    found = await named(centre.hybrid, name)
    assert found == [outcome] or (isinstance(outcome, GatewayError) and len(found) <= 1)
