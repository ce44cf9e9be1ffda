"""What the hybrid scheduler does by REST and what by commands."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import NotFound
from flamecrest.server.schedulers.capabilities import Operation
from flamecrest.server.schedulers.reading.sharing import Kind
from flamecrest.server.schedulers.slurm.hybrid import HybridScheduler
from flamecrest.server.schedulers.values import JobAction, JobChange, JobSpec, Resources
from tests.unit.http.toy_ports import Queue

from .toy_slurmrestd import client_of, recorded, scheduler_of, shared_schedulers, slurmrestd, soon

pytestmark = pytest.mark.anyio

SCRIPT = "#!/bin/bash\ntrue\n"


@pytest.mark.parametrize(
    ("version", "spec", "by_rest"),
    [
        ("v0.0.42", JobSpec("/tmp", script=SCRIPT, resources=Resources(gpus=1)), True),
        ("v0.0.38", JobSpec("/tmp", script=SCRIPT, resources=Resources(gpus=1)), False),
        ("v0.0.42", JobSpec("/tmp", script="#!/bin/bash\n#SBATCH --nodes=2\n"), False),
        ("v0.0.42", JobSpec("/tmp", script_path="/tmp/script"), False),
        ("v0.0.42", JobSpec("/tmp", script=SCRIPT, idempotency_key="key"), False),
        ("v0.0.42", JobSpec("/tmp", script=SCRIPT, native=("--exclusive",)), False),
    ],
)
async def test_submission(version: str, spec: JobSpec, by_rest: bool) -> None:
    commands = Queue()
    async with slurmrestd() as toy, client_of(toy, version) as client:
        toy.answers[f"POST /slurm/{version}/job/submit"] = recorded(version, "job-submit")
        job_id = await HybridScheduler(scheduler_of(client), commands).submit(spec, soon())
        assert [asked.method for asked in toy.asked] == (["POST"] if by_rest else [])
        if not by_rest:
            assert (await commands.job(job_id, soon()))[0].id == job_id


async def test_reads_are_by_rest_and_what_is_missing_by_commands(tmp_path: Path) -> None:
    commands = Queue()
    async with slurmrestd(tmp_path / "socket") as toy, client_of(toy, "v0.0.42") as client:
        hybrid = HybridScheduler(scheduler_of(client), commands)
        assert hybrid.capabilities.operations >= commands.capabilities.operations | {Operation.HOLD}
        toy.play("v0.0.42", "nodes", "partitions", "job-update", "slurmdb-job", "job")
        assert len(await hybrid.nodes(soon())) == 4
        assert len(await hybrid.partitions(soon(), hidden=True)) == 2
        assert (await hybrid.job("231", soon()))[0].state == "RUNNING"
        await hybrid.act("231", JobAction.HOLD, soon())
        assert len(toy.asked) == 6
        job_id = await commands.submit(JobSpec("/tmp", script=SCRIPT), soon())
        assert (await hybrid.metadata(job_id, soon()))[0].id == job_id
        assert len(toy.asked) == 6


async def test_the_version_is_found_before_it_is_decided_who_submits() -> None:
    commands = Queue()
    async with slurmrestd() as toy, client_of(toy, None) as client:
        toy.answers["GET /openapi/v3"] = 200, b'{"paths": {"/slurm/v0.0.38/ping": {}}}'
        spec = JobSpec("/tmp", script=SCRIPT, resources=Resources(gpus=1))
        job_id = await HybridScheduler(scheduler_of(client), commands).submit(spec, soon())
        assert (await commands.job(job_id, soon()))[0].id == job_id
        assert [asked.target for asked in toy.asked] == ["/openapi/v3"]


async def test_everything_is_by_commands_while_slurmrestd_cannot_be_reached(tmp_path: Path) -> None:
    commands = Queue()
    async with slurmrestd() as toy:
        toy.url = f"unix:{tmp_path}/nobody"
        async with client_of(toy, "v0.0.45") as client:
            hybrid = HybridScheduler(scheduler_of(client), commands)
            job_id = await hybrid.submit(JobSpec("/tmp", script=SCRIPT, hold=True), soon())
            await hybrid.act(job_id, JobAction.RELEASE, soon())
            await hybrid.change(job_id, JobChange(name="new"), soon())
            assert (await hybrid.job(job_id, soon()))[0].name == "new"
            found = await hybrid.jobs_by_id([job_id, "4000000"], soon())
            assert getattr(found[job_id], "id", None) == job_id
            assert isinstance(found["4000000"], NotFound)
            listed = await hybrid.jobs(all_users=False, account=None, name=None, window=60, deadline=soon())
            assert [job.id for job in listed] == [job_id]
            assert await hybrid.nodes(soon()) == await commands.nodes(soon())
            assert await hybrid.accounts(soon()) == await commands.accounts(soon())
            await hybrid.ping(soon())
            await hybrid.cancel(job_id, soon())


async def test_each_first_question_finds_out_that_slurmrestd_cannot_be_reached(tmp_path: Path) -> None:
    for question in ("nodes", "reservations", "accounts", "ping"):
        async with slurmrestd() as toy:
            toy.url = f"unix:{tmp_path}/nobody"
            async with client_of(toy, None) as client:
                await getattr(HybridScheduler(scheduler_of(client), Queue()), question)(soon())


async def test_nodes_are_shared_where_the_commands_say_that_nothing_is_private() -> None:
    async with slurmrestd() as toy, client_of(toy, "v0.0.42") as client:
        toy.play("v0.0.42", "nodes", "partitions")
        for private, lists in ((frozenset[Kind](), 1), (frozenset({Kind.NODES}), 3)):
            toy.asked.clear()
            users = shared_schedulers(client, ("ann", "bob", "cleo"), private)
            for _ in range(2):  # each user's first question is the user's own
                for one in users:
                    assert len(await one.nodes(soon())) == 4
            before = len(toy.asked)
            await users[0].nodes(soon())
            assert len(toy.asked) == before
            assert len({id(await one.nodes(soon())) for one in users}) == lists


async def test_lists_are_by_commands_where_the_cluster_has_many_jobs() -> None:
    commands = Queue()
    mine = await commands.submit(JobSpec("/tmp", script=SCRIPT), soon())
    row = json.loads(recorded("v0.0.42", "job")[1])["jobs"][0]
    rows = [row | {"job_id": number} for number in range(1, 301)]
    async with slurmrestd() as toy, client_of(toy, "v0.0.42") as client:
        toy.answers["GET /slurm/v0.0.42/jobs"] = 200, json.dumps({"jobs": rows}).encode()
        toy.answers["GET /slurmdb/v0.0.42/jobs?start_time=uts1795850200&users=fireuser"] = 200, b'{"jobs": []}'
        toy.play("v0.0.42", "job")
        hybrid = HybridScheduler(scheduler_of(client), commands)
        for expected in (300, 1, 1):
            found = await hybrid.jobs(all_users=False, account=None, name=None, window=3600, deadline=soon())
            assert len(found) == expected
        assert [job.id for job in found] == [mine]
        asked = len(toy.asked)
        await hybrid.job("231", soon())  # one job is not a list
        assert len(toy.asked) > asked


async def test_a_list_that_slurmrestd_does_not_finish_is_by_commands() -> None:
    commands = Queue()
    mine = await commands.submit(JobSpec("/tmp", script=SCRIPT), soon())
    released = asyncio.Event()

    async def slow(_: asyncio.StreamWriter) -> None:
        await released.wait()

    async with slurmrestd() as toy, client_of(toy, "v0.0.42") as client:
        toy.answers["GET /slurm/v0.0.42/jobs"] = slow
        toy.answers["GET /slurmdb/v0.0.42/jobs?start_time=uts1795850200&users=fireuser"] = slow
        hybrid = HybridScheduler(scheduler_of(client), commands)
        deadline = Deadline.after(2)
        found = await hybrid.jobs(all_users=False, account=None, name=None, window=3600, deadline=deadline)
        assert [job.id for job in found] == [mine]
        released.set()
