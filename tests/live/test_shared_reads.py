"""Shared reads on real Slurm: what slurmctld is asked, and own changes."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from flamecrest.server.auth.port import Verb
from flamecrest.server.schedulers.port import Scheduler
from flamecrest.server.schedulers.values import Job, JobSpec
from tests.contract.gateways import Reached, live_site, over_live_site, soon

from .site import Site

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        any(name.startswith("FLAMECREST_LIVE_") for name in os.environ), reason="another site than tests/live/centre"
    ),
]
LIFE = 600  # seconds: answers last for the whole test, so that only changes make it ask again
POLLERS = ("user17", "user18")  # no other test uses them
JOB = JobSpec("/tmp", script="#!/bin/sh\n", hold=True, standard_output="/dev/null")


@pytest.fixture(params=["ssh", "hybrid"])
async def reached(request: pytest.FixtureRequest, site: Site, tmp_path: Path) -> AsyncIterator[Reached]:
    async with over_live_site(tmp_path, site=replace(site, connection_mode=request.param, shared_life=LIFE)) as found:
        yield found


async def as_user(reached: Reached, user: str) -> Scheduler:
    return (await reached.allowed(user, Verb.JOBS_SUBMIT)).scheduler()


async def ids(scheduler: Scheduler, *, all_users: bool = False) -> set[str]:
    found = await scheduler.jobs(all_users=all_users, account=None, name=None, window=60, deadline=soon())
    return {job.id for job in found}


async def asked(user: str) -> int:
    """How many requests slurmctld has had from the user."""
    said = await asyncio.to_thread(subprocess.run, ["sdiag"], capture_output=True, text=True, check=True, timeout=60)
    found = re.search(rf"^\t{user} +\( *[0-9]+\) count:([0-9]+)", said.stdout, re.MULTILINE)
    return int(found[1]) if found is not None else 0


async def test_a_thousand_questions_are_one_and_own_changes_show_at_once(reached: Reached) -> None:
    user = POLLERS[0]
    scheduler = await as_user(reached, user)
    job_id = await scheduler.submit(JOB, soon())
    before = await asked(user)
    lists = await asyncio.gather(*(ids(scheduler) for _ in range(500)))
    assert all(job_id in found for found in lists)
    jobs = await asyncio.gather(*(scheduler.job(job_id, soon()) for _ in range(500)))
    assert {one.state for (one,) in jobs} == {"PENDING"}
    assert await asked(user) - before <= 5  # one squeue makes two or three requests
    await scheduler.cancel(job_id, soon())
    assert [one.state for one in await scheduler.job(job_id, soon())] == ["CANCELLED"]
    another = await scheduler.submit(JOB, soon())
    assert another in await ids(scheduler)
    assert another in await ids(scheduler, all_users=True)
    await scheduler.cancel(another, soon())


async def test_nodes_are_asked_once_for_all_users(reached: Reached) -> None:
    """By the service account: neither user asks, once both have been let in and nothing is known to be private."""
    first, second = [await as_user(reached, user) for user in POLLERS]
    for scheduler in (first, second):  # the first question of each user is the user's own
        nodes = await scheduler.nodes(soon())
    async with asyncio.timeout(30):
        while await first.nodes(soon()) is not await second.nodes(soon()):
            await asyncio.sleep(0.05)
    before = [await asked(user) for user in POLLERS]
    for scheduler in (first, second) * 20:
        assert [one.name for one in await scheduler.nodes(soon())] == [one.name for one in nodes]
    assert [await asked(user) for user in POLLERS] == before


def counted(reached: Reached) -> Counter[str]:
    """The gateway's own counts of its questions."""
    (source,) = [source for source in reached.gateway.counters if source.component == "scheduler"]
    return Counter(source.read())


async def lists(reached: Reached) -> list[list[Job]]:
    """The jobs of each poller."""
    reading = [
        (await as_user(reached, user)).jobs(all_users=False, account=None, name=None, window=60, deadline=soon())
        for user in POLLERS
    ]
    return [sorted(found, key=lambda job: job.id) for found in await asyncio.gather(*reading)]


async def joint_lists(reached: Reached) -> list[list[Job]]:
    """The jobs of each poller as they were read together."""
    while True:
        before = counted(reached)
        spent = Counter[str]()
        while spent["queues.asked"] < 2 and not spent["queue.asked"]:  # the second one begins when the first has ended
            await asyncio.sleep(0.1)
            found = await lists(reached)
            spent = counted(reached) - before
        if not spent["queue.asked"]:
            return found


@pytest.mark.parametrize("adapter", ["live", "live-trixie", "live-sid"])
async def test_what_is_read_together_is_what_each_user_reads_alone(adapter: str, tmp_path: Path) -> None:
    site, folders = live_site(adapter), [tmp_path / "together", tmp_path / "alone"]
    for folder in folders:
        folder.mkdir()
    async with (
        over_live_site(folders[0], site=site) as together,
        over_live_site(folders[1], site=replace(site, shared_life=0)) as alone,
    ):
        made = []
        for user, other in (POLLERS, POLLERS[::-1]):
            scheduler = await as_user(together, user)
            array = replace(JOB, script="#!/bin/sh\n#SBATCH --array=1-4%2\n", name=f'{other}|"a, b" é', comment=other)
            made += [(scheduler, await scheduler.submit(one, soon())) for one in (array, JOB, replace(JOB, name=other))]
            await scheduler.cancel(made[-1][1], soon())
        try:
            async with asyncio.timeout(120):
                while await joint_lists(together) != await lists(alone):
                    pass
            found = await lists(alone)
            assert [{job.user for job in jobs} for jobs in found] == [{user} for user in POLLERS]
            assert all({"PENDING", "CANCELLED"} <= {job.state for job in jobs} for jobs in found)
        finally:
            for scheduler, job_id in made:
                await scheduler.cancel(job_id, soon())
