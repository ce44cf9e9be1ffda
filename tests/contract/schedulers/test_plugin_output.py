"""Lines of plug-ins and wrappers before and after what the scheduler's programs print, with exit status 0."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flamecrest.sandbox.centre import Centre
from flamecrest.server.auth.port import Identity, Verb
from flamecrest.server.cluster import Gateway
from flamecrest.server.errors import NotFound, Upstream
from flamecrest.server.schedulers.capabilities import Operation
from flamecrest.server.schedulers.port import Scheduler
from flamecrest.server.schedulers.values import Job, JobChange, JobSpec
from flamecrest.server.settings import load
from flamecrest.server.wiring.gateway import open_gateway
from tests.contract.gateways import soon

pytestmark = pytest.mark.anyio

SCRIPT = "#!/bin/sh\nsleep 300\n"
WRAPPER = """#!/bin/sh
echo "plug-in loaded: 17 | 18"
echo
'{program}' "$@"
status=$?
printf '\\nplug-in: warning: the cache is old\\n'
exit $status
"""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", params=["slurm", "pbs"])
async def wrapped(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Centre, Gateway]]:
    root = tmp_path_factory.mktemp(request.param)
    async with Centre(root / "centre", scheduler=request.param) as centre:
        programs = centre.slurm.bin_dir if request.param == "slurm" else centre.pbs.bin_dir
        await asyncio.to_thread(wrap, programs, WRAPPER)
        config = await asyncio.to_thread(centre.write_config, root / "flamecrest.yaml")
        settings = await asyncio.to_thread(load, config, {})
        async with open_gateway(settings) as gateway:
            yield centre, gateway


def wrap(programs: Path, wrapper: str) -> None:
    """Replace each of the programs by one that runs it."""
    real = programs.rename(programs.with_name("real"))
    programs.mkdir()
    for program in real.iterdir():
        (programs / program.name).write_text(wrapper.replace("{program}", str(program)))
        (programs / program.name).chmod(0o755)


async def scheduler_of(wrapped: tuple[Centre, Gateway], user: str) -> Scheduler:
    centre, gateway = wrapped
    return (await gateway.cluster(centre.system).allow(Identity(user), Verb.JOBS_SUBMIT, soon())).scheduler()


async def listed(scheduler: Scheduler) -> list[Job]:
    return await scheduler.jobs(all_users=False, account=None, name=None, window=3600, deadline=soon())


async def test_every_answer_is_found_among_other_lines(wrapped: tuple[Centre, Gateway]):
    scheduler = await scheduler_of(wrapped, "fireuser")
    folder = str(wrapped[0].home("fireuser"))
    spec = JobSpec(folder, script=SCRIPT, name="framed", idempotency_key="framed", standard_output=f"{folder}/out")
    job_id = await scheduler.submit(spec, soon())
    (found,) = await scheduler.job(job_id, soon())
    assert (found.name, [one.id for one in await listed(scheduler)]) == ("framed", [job_id])
    (metadata,) = await scheduler.metadata(job_id, soon())
    assert metadata.standard_output == f"{folder}/out"
    assert (metadata.script or SCRIPT).startswith(SCRIPT)  # a line that follows is like one of the script
    assert await scheduler.nodes(soon())
    assert await scheduler.partitions(soon(), hidden=False)
    await scheduler.reservations(soon())
    if Operation.ACCOUNTS in scheduler.capabilities.operations:
        assert {one.name for one in await scheduler.accounts(soon()) or ()} == {"test", "other"}
    await scheduler.ping(soon())
    await scheduler.change(job_id, JobChange(name="renamed"), soon())
    await scheduler.cancel(job_id, soon())
    with pytest.raises(NotFound):
        await scheduler.job("99999", soon())


async def test_a_user_without_jobs_has_an_empty_list(wrapped: tuple[Centre, Gateway]):
    scheduler = await scheduler_of(wrapped, "user01")
    assert await listed(scheduler) == []
    with pytest.raises(NotFound):
        await scheduler.job("99998", soon())


async def test_text_in_place_of_a_list_hides_no_jobs(tmp_path: Path):
    """A program that only says that it is not available, with exit status 0, has not said that there are no jobs."""
    async with Centre(tmp_path / "centre") as centre:
        await asyncio.to_thread(wrap, centre.slurm.bin_dir, "#!/bin/sh\necho 'Slurm is being updated'\n")
        config = await asyncio.to_thread(centre.write_config, tmp_path / "flamecrest.yaml")
        settings = await asyncio.to_thread(load, config, {})
        async with open_gateway(settings) as gateway:
            scheduler = await scheduler_of((centre, gateway), "fireuser")
            for _ in range(2):
                with pytest.raises(Upstream, match="Slurm is being updated"):
                    await listed(scheduler)
