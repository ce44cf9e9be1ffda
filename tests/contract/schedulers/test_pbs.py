"""The PBS dialect from the gateway over SSH to the programs of the sandbox's toy PBS, which runs the jobs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from flamecrest.server.errors import Conflict, Denied, Invalid, NotFound, Unsupported
from flamecrest.server.schedulers.values import (
    ArrayRequest,
    Dependency,
    DependencyKind,
    JobAction,
    JobChange,
    JobSpec,
    Resources,
)
from tests.contract.gateways import over_sandbox, soon

from .conftest import FINAL, Place, _reached

pytestmark = pytest.mark.anyio
SLEEP = "#!/bin/bash\nsleep 300\n"
HOSTILE = {
    "QUOTES": 'it\'s "x" `id` $(id) $HOME \\n %s !!',
    "LINES": "one\ntwo\n\n",
    "EMPTY": "",
    "COMMA": "a,b=c",
    "UNICODE": "é 漢",
}


@pytest.fixture(scope="module")
async def pbs(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    async with over_sandbox(tmp_path_factory.mktemp("pbs"), scheduler="pbs") as reached:
        async for found in _reached(reached):
            yield found


def spec(pbs: Place, script: str = "#!/bin/bash\ntrue\n", **more) -> JobSpec:
    return JobSpec(pbs.folder, script=None if "script_path" in more else script, **more)


async def listed(pbs: Place) -> list[str]:
    jobs = await pbs.scheduler.jobs(all_users=False, account=None, name=None, window=3600, deadline=soon())
    return [job.id for job in jobs]


async def test_a_submitted_job_is_found_and_cancelled(pbs: Place):
    job_id = await pbs.scheduler.submit(spec(pbs, SLEEP, name="x1", resources=Resources(nodes=2, gpus=2)), soon())
    job = await pbs.until(job_id, "RUNNING")
    assert (job.id, job.name, job.user, job.working_directory) == (job_id, "x1", pbs.user, pbs.folder)
    assert (job.cpus, job.gpus, job.nodes, job.times.end) == (2, 2, "node1", None)
    assert (await pbs.job(job_id.partition(".")[0])).id == job_id
    assert job_id in await listed(pbs)
    await pbs.scheduler.cancel(job_id, soon())
    await pbs.until(job_id, "CANCELLED")
    await pbs.scheduler.cancel(job_id, soon())


async def test_a_job_over_its_time_limit(pbs: Place):
    job_id = await pbs.scheduler.submit(spec(pbs, SLEEP, time_limit=1), soon())
    assert (await pbs.until(job_id, *FINAL)).state == "TIMEOUT"


@pytest.mark.parametrize("shell", ["#!/bin/bash\n", "#!/bin/sh\n#PBS -N directive\n"])
async def test_environment_directory_and_output(pbs: Place, shell: str):
    names = " ".join(f'"${name}"' for name in HOSTILE)
    target = f"{pbs.folder}/it's out, here"
    script = f"{shell}pwd; printf '<%s>' {names}\n"
    job_id = await pbs.scheduler.submit(spec(pbs, script, env=HOSTILE, standard_output=target), soon())
    await pbs.ended(job_id)
    assert await pbs.disk.read(target) == f"{pbs.folder}\n" + "".join(f"<{value}>" for value in HOSTILE.values())
    metadata = (await pbs.scheduler.metadata(job_id, soon()))[0]
    assert (metadata.standard_output, metadata.script) == (target, None)


async def test_the_request_wins_over_directives(pbs: Place):
    script = "#!/bin/sh\n#PBS -N directive -A acct\n#PBS -l walltime=60\nsleep 300\n"
    job_id = await pbs.scheduler.submit(spec(pbs, script, name="request"), soon())
    job = await pbs.job(job_id)
    assert (job.name, job.account, job.times.limit) == ("request", "acct", 60)
    await pbs.scheduler.cancel(job_id, soon())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"partition": "nosuch"}, "Unknown queue"), ({"partition": "closed"}, "Queue is not enabled"),
        ({"name": "it's"}, "illegal -N value"), ({"priority": 5000}, "illegal -p value"),
        ({"working_directory": "/no/such/folder"}, "workingDirectory"),
        ({"native": ("-lnosuch=1",)}, "Unknown resource"),
        ({"script": None, "script_path": "/no/such/script"}, "No such file"),
        ({"script": "#!/bin/sh\n#PBS --wrong\n"}, "directive error"),
    ],
)  # fmt: skip
async def test_refused_submissions(pbs: Place, wrong: dict, message: str):
    fields = {"working_directory": pbs.folder, "script": "#!/bin/sh\n", "name": "n"} | wrong
    with pytest.raises(Invalid, match=message) as caught:
        await pbs.scheduler.submit(JobSpec(**fields), soon())
    assert "may have been submitted" not in caught.value.public


async def test_a_script_that_hides_the_id_of_its_job(pbs: Place):
    job_id = await pbs.scheduler.submit(spec(pbs, "#!/bin/sh\n#PBS -z\n"), soon())
    assert (await pbs.until(job_id, *FINAL)).state == "COMPLETED"


async def test_an_array(pbs: Place):
    script = '#!/bin/bash\ntest "$PBS_ARRAY_INDEX" != 3 && sleep 0.1\n'
    job_id = await pbs.scheduler.submit(spec(pbs, script, array=ArrayRequest("1-5:2")), soon())
    assert job_id.endswith("[].pbs")
    assert (await pbs.until(job_id, *FINAL)).state == "FAILED"
    number = job_id.partition("[")[0]
    states = [(await pbs.job(f"{number}[{index}]")).state for index in (1, 3, 5)]
    assert states == ["COMPLETED", "FAILED", "COMPLETED"]
    ids = [one for one in await listed(pbs) if one.startswith(f"{number}[")]
    assert len(ids) == len(set(ids)) == 4
    with pytest.raises(NotFound, match="Job not found"):
        await pbs.job(f"{number}[2]")


async def test_holding_releasing_and_waiting(pbs: Place):
    held = await pbs.scheduler.submit(spec(pbs, hold=True), soon())
    after = Dependency(DependencyKind.AFTER_OK, (held,))
    dependent = await pbs.scheduler.submit(spec(pbs, dependencies=(after,)), soon())
    late = await pbs.scheduler.submit(spec(pbs, begin=int(time.time()) + 3600), soon())
    await asyncio.sleep(0.2)
    assert [(await pbs.job(one)).state for one in (held, dependent, late)] == ["PENDING"] * 3
    await pbs.scheduler.act(held, JobAction.RELEASE, soon())
    await pbs.scheduler.act(held, JobAction.RELEASE, soon())
    assert (await pbs.until(dependent, *FINAL)).state == "COMPLETED"
    await pbs.scheduler.act(late, JobAction.HOLD, soon())
    await pbs.scheduler.change(late, JobChange(name="later", time_limit=60), soon())
    job = await pbs.job(late)
    assert (job.name, job.times.limit) == ("later", 60)
    await pbs.scheduler.cancel(late, soon())
    assert (await pbs.job(late)).state == "CANCELLED"


async def test_signals(pbs: Place):
    script = "#!/bin/bash\ntrap 'exit 7' USR1\ntouch ready\nwhile :; do sleep 0.05; done\n"
    job_id = await pbs.scheduler.submit(spec(pbs, script), soon())
    deadline = soon()
    while "ready" not in (await pbs.disk.names(pbs.folder) or ()):
        assert deadline.left() > 0
        await asyncio.sleep(0.05)
    await pbs.scheduler.signal(job_id, "USR1", soon())
    assert (await pbs.until(job_id, *FINAL)).exit_code == 7
    with pytest.raises(Conflict):
        await pbs.scheduler.signal(job_id, "USR1", soon())


async def test_other_users_jobs(pbs: Place):
    assert pbs.other is not None
    job_id = await pbs.scheduler.submit(spec(pbs, SLEEP), soon())
    for refused in (pbs.other.cancel(job_id, soon()), pbs.other.act(job_id, JobAction.HOLD, soon())):
        with pytest.raises(Denied, match="Unauthorized"):
            await refused
    everyone = await pbs.other.jobs(all_users=True, account=None, name=None, window=3600, deadline=soon())
    assert job_id in [job.id for job in everyone]
    own = await pbs.other.jobs(all_users=False, account=None, name=None, window=3600, deadline=soon())
    assert job_id not in [job.id for job in own]
    await pbs.scheduler.cancel(job_id, soon())


async def test_unknown_jobs(pbs: Place):
    scheduler = pbs.scheduler
    for asked in (
        scheduler.job("4000000", soon()),
        scheduler.metadata("4000000.pbs", soon()),
        scheduler.cancel("4000000", soon()),
    ):
        with pytest.raises(NotFound, match="Job not found"):
            await asked
    with pytest.raises(Unsupported, match="attach"):
        await scheduler.attach("1", "true", soon())


async def test_a_marked_job_is_found_again(pbs: Place):
    job_id = await pbs.scheduler.submit(spec(pbs, marker="m-1", env={"EMPTY": ""}), soon())
    assert await pbs.scheduler.find("m-1", soon()) == job_id
    assert await pbs.scheduler.find("m-2", soon()) is None
    script = "#!/bin/sh\n#PBS -v A=b\n"
    with_variables = await pbs.scheduler.submit(spec(pbs, script, marker="m-3"), soon())
    assert await pbs.scheduler.find("m-3", soon()) == with_variables


async def test_the_cluster(pbs: Place):
    scheduler = pbs.scheduler
    [node] = await scheduler.nodes(soon())
    assert (node.name, node.cpus) == ("node1", 8)
    queues = await scheduler.partitions(soon(), hidden=False)
    assert {one.name: one.state for one in queues} == {"workq": "UP", "express": "UP", "closed": "INACTIVE"}
    assert await scheduler.reservations(soon()) == []
    assert await scheduler.accounts(soon()) is None
    await scheduler.ping(soon())
