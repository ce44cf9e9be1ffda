"""Shared reads over the toy Slurm: how many of its commands many requests take, and whose jobs they show."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from flamecrest.server.auth.port import Verb
from flamecrest.server.errors import NotFound
from flamecrest.server.schedulers.port import Scheduler
from flamecrest.server.schedulers.values import JobAction, JobSpec
from tests.contract.gateways import Reached, over_sandbox, soon

pytestmark = pytest.mark.anyio

SLEEP = "#!/bin/bash\nsleep 300\n"
ALL_LISTS: tuple[dict[str, Any], ...] = ({}, {"name": "fresh"}, {"all_users": True})


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def reached(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Reached]:
    async with over_sandbox(tmp_path_factory.mktemp("shared"), change=with_long_life) as found:
        yield found


def with_long_life(config: dict[str, Any]) -> None:
    """Answers last for the whole test, so that only changes make the gateway ask again."""
    config["clusters"][0]["scheduler"]["shared_reads"] = {"life": 600}


async def as_user(reached: Reached, user: str) -> Scheduler:
    return (await reached.allowed(user, Verb.JOBS_SUBMIT)).scheduler()


async def listed(scheduler: Scheduler, *, all_users: bool = False, name: str | None = None) -> dict[str, str]:
    found = await scheduler.jobs(all_users=all_users, account=None, name=name, window=3600, deadline=soon())
    return {job.id: job.state for job in found}


def asked(reached: Reached) -> Counter[str]:
    (source,) = [source for source in reached.gateway.counters if source.component == "scheduler"]
    return Counter({name: number for name, number in source.read().items() if name.endswith(".asked")})


async def test_pollers_of_one_user_take_one_command(reached: Reached):
    scheduler = await as_user(reached, "fireuser")
    job_id = await scheduler.submit(JobSpec(str(reached.home("fireuser")), script=SLEEP), soon())
    before = asked(reached)
    schedulers = [await as_user(reached, "fireuser") for _ in range(100)]
    lists = await asyncio.gather(*(listed(one) for one in schedulers))
    assert all(job_id in one for one in lists)
    jobs = await asyncio.gather(*(scheduler.job(job_id, soon()) for _ in range(100)))
    assert {job.id for (job,) in jobs} == {job_id}
    spent = asked(reached) - before
    assert spent["queue.asked"] + spent["job.asked"] <= 3  # each life of an answer takes one
    assert spent["history.asked"] <= 2
    assert scheduler.age < 60
    await scheduler.cancel(job_id, soon())


async def test_what_a_user_changes_shows_at_once_and_everywhere(reached: Reached):
    scheduler = await as_user(reached, "fireuser")
    await listed(scheduler)
    await listed(scheduler, all_users=True)
    spec = JobSpec(str(reached.home("fireuser")), script=SLEEP, name="fresh", hold=True)
    job_id = await scheduler.submit(spec, soon())
    for found in (
        await listed(scheduler),
        await listed(scheduler, name="fresh"),
        await listed(scheduler, all_users=True),
    ):
        assert found[job_id] == "PENDING"
    await scheduler.act(job_id, JobAction.RELEASE, soon())
    assert [job.reason for job in await scheduler.job(job_id, soon())] != ["JobHeldUser"]
    await scheduler.cancel(job_id, soon())
    for found in (
        await listed(scheduler),
        await listed(scheduler, name="fresh"),
        await listed(scheduler, all_users=True),
    ):
        assert found[job_id] == "CANCELLED"
    assert {one.state for one in await scheduler.job(job_id, soon())} == {"CANCELLED"}


async def test_users_do_not_see_each_others_lists(reached: Reached):
    mine, other = await as_user(reached, "fireuser"), await as_user(reached, "user01")
    job_id = await mine.submit(JobSpec(str(reached.home("fireuser")), script=SLEEP), soon())
    assert job_id in await listed(mine)
    assert job_id not in await listed(other)
    assert job_id in await listed(other, all_users=True)
    await mine.cancel(job_id, soon())


async def test_many_jobs_take_one_question(reached: Reached):
    scheduler = await as_user(reached, "fireuser")
    spec = JobSpec(str(reached.home("fireuser")), script=SLEEP, hold=True)
    job_ids = [await scheduler.submit(spec, soon()) for _ in range(3)]
    before = asked(reached)
    found = await scheduler.jobs_by_id([*job_ids, "4000000", "4000001", "1;rm"], soon())
    assert [getattr(found[job_id], "state", None) for job_id in job_ids] == ["PENDING"] * 3
    assert [isinstance(found[job_id], NotFound) for job_id in ("4000000", "4000001")] == [True, True]
    assert asked(reached) - before == Counter({"queue.asked": 1, "job.asked": 1, "history.asked": 1})
    for job_id in job_ids:
        await scheduler.cancel(job_id, soon())


async def polled(reached: Reached, users: tuple[str, ...], name: str, more: int = 2) -> list[dict[str, str]]:
    """The lists of users who poll, once that counter has grown so much."""
    before = counts(reached)[name]
    async with asyncio.timeout(50):
        while counts(reached)[name] < before + more:
            found = await asyncio.gather(*[listed(await as_user(reached, user)) for user in users])
            await asyncio.sleep(0.05)
    return found


def counts(reached: Reached) -> Counter[str]:
    (source,) = [source for source in reached.gateway.counters if source.component == "scheduler"]
    return Counter(source.read())


async def test_users_who_poll_are_asked_for_by_one_command_of_the_service_account(tmp_path: Path):
    users = ("fireuser", "user01", "user02")
    async with over_sandbox(tmp_path, probing={}) as reached:
        own = {}
        for user in users:
            spec = JobSpec(str(reached.home(user)), script=SLEEP, hold=True)
            own[user] = await (await as_user(reached, user)).submit(spec, soon())
        found = await polled(reached, users, "queues.asked")
        assert found == [{own[user]: "PENDING"} for user in users]
        assert counts(reached)["queues.failures"] == 0
        for user in users:
            await (await as_user(reached, user)).cancel(own[user], soon())


async def test_a_service_account_that_cannot_log_in_keeps_no_user_from_anything(tmp_path: Path):
    def with_another_key(config: dict[str, Any]) -> None:
        keys = config["ssh_credentials"]["keys"]
        keys["firesrv"] = keys["user03"]

    users = ("fireuser", "user01")
    async with over_sandbox(tmp_path, probing={}, change=with_another_key) as reached:
        mine = await as_user(reached, "fireuser")
        job_id = await mine.submit(JobSpec(str(reached.home("fireuser")), script=SLEEP, hold=True), soon())
        assert await polled(reached, users, "privacy.failures", 1) == [{job_id: "PENDING"}, {}]
        assert await polled(reached, users, "queue.asked") == [{job_id: "PENDING"}, {}]
        assert counts(reached)["queues.asked"] == 0
        await mine.cancel(job_id, soon())
