"""Contract of the Scheduler port: jobs that were submitted by other means, and jobs that are hard to list.

The tests submit them by Slurm's own commands, which they run in a job.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace

import pytest

from flamecrest.server.errors import Conflict, Invalid, NotFound
from flamecrest.server.schedulers.once.submissions import make_marker
from flamecrest.server.schedulers.values import ArrayRequest, Job, JobChange, JobSpec, Resources
from tests.contract.capabilities import needs
from tests.contract.gateways import soon

from .conftest import Place

pytestmark = pytest.mark.anyio

SBATCH = "sbatch --parsable --output=/dev/null --error=/dev/null"
# a separator, a tab, a colour of terminals, a backslash, and bytes that are no UTF-8
NAME = r"$(printf 'a|b\037c\t\033[31m\\\377\376;x')"


async def in_a_job(place: Place, script: str) -> str:
    """What the script prints as a job."""
    target = f"{place.folder}/printed"
    spec = JobSpec(place.folder, script=f"#!/bin/bash\n{script}\n", standard_output=target, standard_error=target)
    await place.ended(await place.scheduler.submit(spec, soon()))
    return (await place.disk.read(target)).strip()


async def listed(place: Place) -> dict[str, Job]:
    found = await place.scheduler.jobs(all_users=False, account=None, name=None, window=600, deadline=soon())
    assert len({job.id for job in found}) == len(found)
    return {job.id: job for job in found}


@needs("shell")
async def test_a_name_that_is_no_text_hides_no_job(place: Place):
    job_id = await in_a_job(place, f'{SBATCH} --hold --job-name="{NAME}" --wrap=true')
    other = await place.scheduler.submit(JobSpec(place.folder, script="#!/bin/sh\n", hold=True), soon())
    found = await listed(place)
    assert {job_id, other} <= set(found)
    assert found[job_id].name.startswith("a|b")
    assert (await place.job(job_id)).state == "PENDING"
    for one in (job_id, other):
        await place.scheduler.cancel(one, soon())
    assert (await place.job(job_id)).state == "CANCELLED"


@needs("shell")
async def test_what_a_job_may_use_and_has_used(place: Place):
    resources = Resources(tasks=2, memory=200)
    spec = JobSpec(place.folder, script="#!/bin/bash\nfor i in {1..100000}; do :; done\n", resources=resources)
    job_id = await place.scheduler.submit(replace(spec, comment="a, b=c", standard_output="/dev/null"), soon())
    deadline = soon()
    while (job := await place.job(job_id)).usage is None or job.usage.cpu_seconds is None:  # sacct lags
        assert deadline.left() > 0, job
        await asyncio.sleep(0.5)
    assert (job.state, job.cpus, job.memory, job.gpus, job.qos) == ("COMPLETED", 2, 200, None, "normal")
    assert job.comment == "a, b=c"
    assert job.usage.cpu_seconds > 0


@needs("shell")
async def test_heterogeneous_job(place: Place):
    job_id = await in_a_job(place, f"{SBATCH} --hold -n1 -J one : -n2 -J two --wrap='sleep 300'")
    whole = await place.job(job_id)
    assert (whole.id, whole.state) == (job_id, "PENDING")
    assert [(await place.job(f"{job_id}+{number}")).name for number in (0, 1)] == ["one", "two"]
    with pytest.raises(NotFound):
        await place.job(f"{job_id}+2")
    assert {f"{job_id}+0", f"{job_id}+1"} <= set(await listed(place))
    await place.scheduler.change(f"{job_id}+1", JobChange(comment="second"), soon())
    assert [(await place.job(f"{job_id}+{number}")).comment for number in (0, 1)] == [None, "second"]
    await place.scheduler.change(job_id, JobChange(comment="both"), soon())
    assert [(await place.job(f"{job_id}+{number}")).comment for number in (0, 1)] == ["both", "both"]
    with pytest.raises(NotFound):
        await place.scheduler.change(f"{job_id}+2", JobChange(comment="none"), soon())
    with pytest.raises(NotFound):
        await place.scheduler.cancel(f"{job_id}+2", soon())
    await place.scheduler.cancel(job_id, soon())
    assert {(await place.until(f"{job_id}+{number}", "CANCELLED")).state for number in (0, 1)} == {"CANCELLED"}


@needs("shell", "comments")
async def test_a_new_key_waits_for_no_job_that_cannot_start(place: Place):
    """Neither for one of sbatch nor for one with another key, though the accounting may not have them for long."""
    plain = await in_a_job(place, f"{SBATCH} --hold --comment=mine --wrap=true")
    waiting = JobSpec(place.folder, script="#!/bin/sh\n", comment="mine", standard_input="/dev/null", hold=True)
    keyed = [replace(waiting, idempotency_key=secrets.token_hex(8)) for _ in range(2)]
    job_ids = [await place.scheduler.submit(one, soon()) for one in keyed]
    assert len({plain, *job_ids}) == 3
    markers = [make_marker(place.user, one.idempotency_key or "", one).text for one in keyed]
    assert [await place.scheduler.find(marker, soon()) for marker in markers] == job_ids
    assert {(await place.job(one)).working_directory for one in job_ids} == {place.folder}
    for one in (plain, *job_ids):
        await place.scheduler.cancel(one, soon())


@needs("shell")
async def test_a_requeued_job_is_listed_once_and_waits_again(place: Place):
    script = '#!/bin/bash\n[ -n "$SLURM_RESTART_COUNT" ] || scontrol requeue $SLURM_JOB_ID\nsleep 300\n'
    job_id = await place.scheduler.submit(JobSpec(place.folder, script=script), soon())
    deadline = soon()
    while (job := await place.job(job_id)).reason != "BeginTime":  # Slurm lets a requeued job wait for two minutes
        assert deadline.left() > 0
        await asyncio.sleep(0.1)
    assert (job.state, job.exit_code, job.times.end) == ("PENDING", None, None)
    assert (await listed(place))[job_id].state == "PENDING"
    await place.scheduler.cancel(job_id, soon())
    await place.until(job_id, "CANCELLED")


@needs("shell", "arrays")
async def test_an_array_of_a_thousand_elements(place: Place):
    spec = JobSpec(place.folder, script="#!/bin/sh\nsleep 300\n", array=ArrayRequest("0-998,1000"), hold=True)
    job_id = await place.scheduler.submit(spec, soon())
    assert f"{job_id}_[0-998,1000]" in await listed(place)
    assert (await place.job(f"{job_id}_500")).state == "PENDING"
    with pytest.raises(NotFound):
        await place.job(f"{job_id}_999")
    await place.scheduler.cancel(f"{job_id}_[1-499]", soon())
    assert (await place.job(f"{job_id}_500")).state == "PENDING"
    assert f"{job_id}_[0,500-998,1000]" in await listed(place)
    await place.scheduler.cancel(job_id, soon())
    assert (await place.until(job_id, "CANCELLED")).id == job_id


@needs("arrays", "directives")
async def test_an_array_of_which_an_element_has_ended_is_changed_for_the_others(place: Place):
    script = "#!/bin/bash\n[ $SLURM_ARRAY_TASK_ID = 0 ] && exit\ntrap : USR1\nwhile :; do sleep 0.2; done\n"
    spec = JobSpec(place.folder, script=script, array=ArrayRequest("0-1"), time_limit=600, standard_output="/dev/null")
    job_id = await place.scheduler.submit(spec, soon())
    first, second = f"{job_id}_0", f"{job_id}_1"
    await place.ended(first)
    await place.until(second, "RUNNING")
    await place.scheduler.change(job_id, JobChange(time_limit=300), soon())
    assert [(await place.job(one)).times.limit for one in (first, second)] == [600, 300]
    await place.scheduler.signal(job_id, "USR1", soon())
    with pytest.raises((Invalid, Conflict)):
        await place.scheduler.change(job_id, JobChange(partition="nowhere"), soon())
    await place.scheduler.cancel(job_id, soon())
    await place.ended(second)
    with pytest.raises(Conflict):
        await place.scheduler.change(job_id, JobChange(time_limit=120), soon())
