"""Contract of the Scheduler port: `#SBATCH` lines mean the same by slurmrestd as by sbatch."""

from __future__ import annotations

import asyncio

import pytest

from flamecrest.server.schedulers.values import JobSpec, Resources
from tests.contract.capabilities import needs
from tests.contract.gateways import soon

from .conftest import Place

pytestmark = pytest.mark.anyio

LINES = """#!/bin/bash
#SBATCH --job-name="a name"   # with a comment
#SBATCH -N 2 --ntasks=4 --ntasks-per-node 2 -c 2
#SBATCH --mem=300M
#SBATCH -t 0-01:30:00 --partition=long
#SBATCH --comment='it''s' --hold
#SBATCH --output=lines-%j.out
sleep 300
#SBATCH --qos=nosuch
"""


@needs("directives")
async def test_lines_of_the_script_and_fields_of_the_request(place: Place):
    # without a comment of its own: the accounting gets held jobs late, and a search for a key waits for such jobs
    held = LINES.replace("--comment='it''s' ", "")
    job_id = await place.scheduler.submit(JobSpec(place.folder, script=held), soon())
    deadline = soon()
    while (job := await place.job(job_id)).node_count != 2:  # unknown while only the accounting answers
        assert deadline.left() > 0, job
        await asyncio.sleep(0.2)
    assert (job.name, job.state, job.partition, job.times.limit) == ("a name", "PENDING", "long", 5400)
    await place.scheduler.cancel(job_id, soon())
    lines = LINES.replace(" --hold", "")  # sbatch has no option against it
    resources = Resources(nodes=1, tasks=2)
    job_id = await place.scheduler.submit(
        JobSpec(place.folder, script=lines, name="mine", time_limit=600, resources=resources), soon()
    )
    job = await place.until(job_id, "RUNNING")
    assert (job.name, job.partition, job.times.limit, job.node_count) == ("mine", "long", 600, 1)
    (files,) = await place.scheduler.metadata(job_id, soon())
    assert files.standard_output == f"{place.folder}/lines-{job_id}.out"
    await place.scheduler.cancel(job_id, soon())
