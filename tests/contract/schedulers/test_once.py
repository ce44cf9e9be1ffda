"""Submissions are made once over each scheduler of the sandbox, by two gateways that know nothing of each other."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from flamecrest.sandbox.centre import Centre
from flamecrest.server.auth.port import Identity, Verb
from flamecrest.server.cluster import Gateway
from flamecrest.server.errors import GatewayError, InProgress, Invalid, KeyReused, Unavailable
from flamecrest.server.schedulers.once.submissions import make_marker
from flamecrest.server.schedulers.port import Scheduler
from flamecrest.server.schedulers.values import JobSpec
from flamecrest.server.settings import load
from flamecrest.server.wiring.gateway import open_gateway
from tests.contract.gateways import soon

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Replicas:
    """A centre and two gateways to it."""

    centre: Centre
    gateways: tuple[Gateway, Gateway]

    async def scheduler(self, replica: int = 0, user: str = "fireuser") -> Scheduler:
        cluster = self.gateways[replica].cluster(self.centre.system)
        return (await cluster.allow(Identity(user), Verb.JOBS_SUBMIT, soon())).scheduler()

    def spec(self, key: str | None = None, user: str = "fireuser") -> JobSpec:
        """A job that writes a line into a file of its key's name."""
        script = f"#!/bin/sh\necho $$ >> {key or 'without'}.ran\n"
        return JobSpec(str(self.centre.home(user)), script=script, idempotency_key=key)

    def jobs(self, name: str) -> int:
        """The number of Slurm's jobs with this name."""
        return len([job for job in self.centre.slurm.jobs() if job.name == name])


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """As for all tests; the module shares its centres."""
    return "asyncio"


async def started(folder: pytest.TempPathFactory, scheduler: str) -> AsyncIterator[Replicas]:
    root = folder.mktemp(scheduler)
    async with Centre(root / "centre", scheduler=scheduler) as centre, AsyncExitStack() as stack:
        config = await asyncio.to_thread(centre.write_config, root / "flamecrest.yaml")
        settings = await asyncio.to_thread(load, config, {})
        first, second = [await stack.enter_async_context(open_gateway(settings)) for _ in range(2)]
        yield Replicas(centre, (first, second))


@pytest.fixture(scope="module", params=["slurm", "pbs", "local"])
async def replicas(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Replicas]:
    async for found in started(tmp_path_factory, request.param):
        yield found


@pytest.fixture(scope="module")
async def slurm(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Replicas]:
    async for found in started(tmp_path_factory, "slurm"):
        yield found


async def test_a_key_is_one_job_at_all_replicas(replicas: Replicas):
    first, second, other = [await replicas.scheduler(*one) for one in ((0,), (1,), (1, "user01"))]
    spec = replicas.spec("key-1")
    job_id = await first.submit(spec, soon())
    assert await first.submit(spec, soon()) == job_id
    assert await second.submit(spec, soon()) == job_id
    others = await other.submit(replicas.spec("key-1", "user01"), soon())
    assert (await other.job(others, soon()))[0].user == "user01"
    for scheduler in (first, second):
        with pytest.raises(KeyReused):
            await scheduler.submit(replace(spec, name="another"), soon())
    assert await second.submit(replace(spec, idempotency_key="key-2"), soon()) != job_id


async def test_a_batch_with_keys_is_one_set_of_jobs_at_all_replicas(replicas: Replicas):
    specs = [replace(replicas.spec(f"batch-{number}"), name=f"b{number}") for number in range(4)]
    found = []
    for replica in (0, 1, 0):
        scheduler = await replicas.scheduler(replica)
        async with scheduler.batch(specs, 60) as kept:
            ids = await asyncio.gather(*(scheduler.submit(spec, soon()) for spec in specs))
        assert kept == {}
        found.append(ids)
    assert len(set(found[0])) == 4
    assert found[0] == found[1] == found[2]


async def test_a_batch_takes_few_channels(slurm: Replicas):
    scheduler = await slurm.scheduler()
    spec = replace(slurm.spec(), name="few", env={"ONE": "a 'b'\n"}, script="#!/bin/sh\necho $$ >> few.ran\n")
    await scheduler.submit(spec, soon())
    before = slurm.centre.ssh.counts.channels_opened
    async with scheduler.batch([spec] * 10, 60):
        ids = [await scheduler.submit(spec, soon()) for _ in range(8)]
        refused = await asyncio.gather(
            scheduler.submit(replace(spec, partition="none"), soon()), return_exceptions=True
        )
        ids.append(await scheduler.submit(replace(spec, script=f"#!/bin/sh\n#{'x' * 30_000}\n"), soon()))
    assert slurm.centre.ssh.counts.channels_opened - before <= 4, "and one is opened ahead"
    assert len({*ids}) == 9
    assert slurm.jobs("few") == 10
    assert isinstance(refused[0], Invalid)
    assert "none" in refused[0].public or "partition" in refused[0].public


async def test_a_batch_whose_connections_break_is_one_set_of_jobs(slurm: Replicas):
    """Twice while it is under way; then the other replica completes it."""
    specs = [replace(slurm.spec(f"cut-{number}"), name=f"cut-{number}") for number in range(12)]

    def made() -> set[str]:
        return {job.name for job in slurm.centre.slurm.jobs() if job.name.startswith("cut-")}

    async def submitted(replica: int) -> list[Any]:
        scheduler, room = await slurm.scheduler(replica), asyncio.Semaphore(4)

        async def one(spec: JobSpec) -> str:
            async with room:
                return await scheduler.submit(spec, soon())

        async with scheduler.batch(specs, 60):
            return await asyncio.gather(*map(one, specs), return_exceptions=True)

    running = asyncio.create_task(submitted(0))
    for count in (2, 6):
        while len(made()) < count and not running.done():
            await asyncio.sleep(0.01)
        slurm.centre.ssh.drop()
    first, second = await running, await submitted(1)
    assert all(isinstance(one, (str, GatewayError)) for one in first)
    assert len({*second}) == 12
    assert all(isinstance(one, GatewayError) or one == two for one, two in zip(first, second, strict=True))
    assert {str(job.id): job.name for job in slurm.centre.slurm.jobs() if job.name in made()} == {
        job_id: spec.name for job_id, spec in zip(second, specs, strict=True)
    }


async def test_requests_at_the_same_moment_are_one_job(replicas: Replicas):
    schedulers = [await replicas.scheduler(one) for one in (0, 1, 0, 1)]
    spec = replicas.spec("at-once")
    found = await asyncio.gather(*(one.submit(spec, soon()) for one in schedulers), return_exceptions=True)
    ids = {one for one in found if isinstance(one, str)}
    assert len(ids) == 1
    assert all(isinstance(one, (str, InProgress)) for one in found)
    for scheduler in schedulers[:2]:
        assert {await scheduler.submit(spec, soon())} == ids


async def test_a_job_is_found_whose_answer_slurm_has_lost(slurm: Replicas):
    scheduler = await slurm.scheduler()
    places = [
        replace(slurm.spec(), name="lost-1"),
        replace(slurm.spec(), name="lost-2", comment="mine"),
        replace(slurm.spec(), name="lost-3", script="#!/bin/sh\n#SBATCH --comment=mine\ntrue\n"),
        replace(slurm.spec("lost-4"), name="lost-4"),
    ]
    slurm.centre.slurm.set(lost_answers=1)
    try:
        for place, spec in enumerate(places, start=1):
            job_id = await scheduler.submit(spec, soon())
            assert (await scheduler.job(job_id, soon()))[0].name == f"lost-{place}"
            assert slurm.jobs(f"lost-{place}") == 1
    finally:
        slurm.centre.slurm.set(lost_answers=0)
    comments = {job.name: job.comment for job in slurm.centre.slurm.jobs()}
    assert (comments["lost-2"], comments["lost-3"]) == ("mine", "mine")


async def test_a_key_finds_a_job_that_only_the_accounting_knows(slurm: Replicas):
    spec = replace(slurm.spec("past"), name="past", comment="mine")
    job_id = await (await slurm.scheduler(0)).submit(spec, soon())
    slurm.centre.slurm.set(min_job_age=0)
    try:
        while (await (await slurm.scheduler(0)).job(job_id, soon()))[0].state != "COMPLETED":
            await asyncio.sleep(0.05)
        assert await (await slurm.scheduler(1)).submit(spec, soon()) == job_id
        slurm.centre.slurm.set(records_down=1)
        with pytest.raises(Unavailable, match="Nothing was submitted"):
            await (await slurm.scheduler(1)).submit(replace(spec, idempotency_key="new"), soon())
    finally:
        slurm.centre.slurm.set(min_job_age=300, records_down=0)
    assert slurm.jobs("past") == 1


async def test_a_controller_that_is_down_submits_nothing(slurm: Replicas):
    spec, scheduler = replace(slurm.spec("down"), name="down"), await slurm.scheduler()
    slurm.centre.slurm.set(controller_down=1)
    try:
        for key in ("down", None):
            with pytest.raises(Unavailable) as caught:
                await scheduler.submit(replace(spec, idempotency_key=key), soon())
            assert "may have been submitted" not in caught.value.public
    finally:
        slurm.centre.slurm.set(controller_down=0)
    await scheduler.submit(spec, soon())
    assert slurm.jobs("down") == 1


@pytest.mark.parametrize(
    "job",
    [
        {"script": "#!/bin/sh\n#SBATCH --clusters=west\n"},
        {"env": {"SLURM_CLUSTERS": "west"}},
        {"native": ("--clusters=west",)},
        {"native": ("-Mwest",)},
    ],
)
async def test_a_job_of_another_cluster_takes_no_key(slurm: Replicas, job: dict[str, Any]):
    with pytest.raises(Invalid, match="Idempotency-Key"):
        await (await slurm.scheduler()).submit(replace(slurm.spec("west"), **job), soon())


async def test_a_submission_that_still_runs_on_the_login_node_is_waited_for(slurm: Replicas):
    """Its gateway is gone; the program goes on."""
    spec = replace(slurm.spec("slow"), name="slow")
    first, second = await slurm.scheduler(0), await slurm.scheduler(1)
    marker = make_marker("fireuser", "slow", spec).text.encode()
    slurm.centre.slurm.set(slow=1)
    try:
        running = asyncio.create_task(first.submit(spec, soon()))
        while not any(marker in line for line in await asyncio.to_thread(command_lines)):
            assert not running.done()
            await asyncio.sleep(0.01)
        running.cancel()
        job_id = await second.submit(spec, soon())
    finally:
        slurm.centre.slurm.set(slow=0)
    assert [str(job.id) for job in slurm.centre.slurm.jobs() if job.name == "slow"] == [job_id]


def command_lines() -> list[bytes]:
    """The arguments of all processes."""
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - a process may end meanwhile
        with suppress(OSError):
            found.append(Path(f"/proc/{name}/cmdline").read_bytes())
    return found
