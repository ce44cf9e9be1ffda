"""What no scheduler can do is refused with the field of the request: all schedulers of the sandbox, and slurmrestd."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest

from flamecrest.server.auth.port import Verb
from flamecrest.server.errors import GatewayError, Invalid, NotFound, TooLarge
from flamecrest.server.schedulers.capabilities import Operation
from flamecrest.server.schedulers.port import Scheduler
from flamecrest.server.schedulers.values import ArrayRequest, Dependency, DependencyKind, JobAction, JobSpec
from tests.contract.gateways import live_site, over_live_site, over_sandbox, soon

pytestmark = pytest.mark.anyio

SCRIPT = "#!/bin/sh\ntrue\n"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


LIVE = ("live", "live-rest", "live-trixie-rest", "live-sid-rest", "live-hybrid")  # see conftest.py


@pytest.fixture(
    scope="module",
    params=["slurm", "pbs", "local", *(pytest.param(name, marks=pytest.mark.live) for name in LIVE)],
)
async def sandbox(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Scheduler, JobSpec]]:
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    place = over_live_site(folder, site=live_site(name)) if name in LIVE else over_sandbox(folder, scheduler=name)
    async with place as reached:
        user = reached.users[0]
        scheduler = (await reached.allowed(user, Verb.JOBS_SUBMIT)).scheduler()
        yield scheduler, JobSpec(reached.home(user), script=SCRIPT)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"array": ArrayRequest("0-999999")}, "array"),
        ({"array": ArrayRequest("1;rm")}, "array"),
        ({"array": ArrayRequest("5-1")}, "array"),
        ({"dependencies": (Dependency(DependencyKind.AFTER_OK, ("1;rm",)),)}, "dependencies"),
        ({"dependencies": (Dependency(DependencyKind.AFTER_OK, ("1 -x",)),)}, "dependencies"),
        ({"script": "#!/bin/sh\r\ntrue\r\n"}, "script"),
        ({"script": "#!/bin/sh\necho a\0b\n"}, "script"),
        ({"script": "#!/bin/sh\necho \ud800\n"}, "script"),
        ({"partition": "nosuch"}, "partition"),
        ({"name": "a\nb"}, "name"),
        ({"working_directory": "not/absolute"}, "workingDirectory"),
        ({"env": {"A-B": "1"}}, "env"),
    ],
)
async def test_a_job_that_cannot_be(sandbox: tuple[Scheduler, JobSpec], wrong: dict[str, Any], field: str):
    scheduler, spec = sandbox
    with pytest.raises(Invalid) as caught:
        await scheduler.submit(replace(spec, **wrong), soon())
    assert [(one.location, one.name) for one in caught.value.fields] == [("body", field)]


async def test_a_script_path_that_is_no_file_of_text(sandbox: tuple[Scheduler, JobSpec]):
    """Programs would read a device without end, and wait at a FIFO."""
    scheduler, spec = sandbox
    for path, reason in (
        ("/dev/zero", "regular file"),
        ("/nosuch/job.sh", "No such|Unable to open"),
        ("/", "irectory|regular"),
    ):
        with pytest.raises(Invalid, match=reason) as caught:
            await scheduler.submit(replace(spec, script=None, script_path=path), soon())
        assert [one.name for one in caught.value.fields] == ["scriptPath"]


async def test_a_script_without_an_interpreter(sandbox: tuple[Scheduler, JobSpec], request: pytest.FixtureRequest):
    scheduler, spec = sandbox
    refused = request.node.callspec.params["sandbox"] != "pbs"  # OpenPBS runs it with the user's shell
    with pytest.raises(Invalid, match="#!") if refused else nullcontext() as caught:
        await scheduler.cancel(await scheduler.submit(replace(spec, script="true\n"), soon()), soon())
    assert caught is None or [one.name for one in caught.value.fields] == ["script"]


async def test_a_script_over_slurms_limit(sandbox: tuple[Scheduler, JobSpec], request: pytest.FixtureRequest):
    if request.node.callspec.params["sandbox"] not in LIVE:
        pytest.skip("its limit is that of the request")
    scheduler, spec = sandbox
    with pytest.raises(TooLarge, match="Slurm takes 4194304 unless"):
        await scheduler.submit(replace(spec, script=SCRIPT + "#\n" * 2_100_000), soon())


@pytest.mark.parametrize(
    "job_id", ["1;rm", "-1", "--help", "1 2", "1,2", "all", "*", "1\0", "1_", "\u00b2", "", "9" * 200]
)
async def test_ids_that_are_none(sandbox: tuple[Scheduler, JobSpec], job_id: str):
    scheduler, _ = sandbox
    for ask in (
        scheduler.job(job_id, soon()),
        scheduler.metadata(job_id, soon()),
        scheduler.cancel(job_id, soon()),
        scheduler.signal(job_id, "USR1", soon()),
        scheduler.act(job_id, JobAction.HOLD, soon()),
    ):
        with pytest.raises((Invalid, NotFound)):
            await ask
    (found,) = (await scheduler.jobs_by_id([job_id], soon())).values()
    assert isinstance(found, GatewayError)


async def test_actions_on_a_job_that_is_not_there(sandbox: tuple[Scheduler, JobSpec], request: pytest.FixtureRequest):
    scheduler, _ = sandbox
    if request.node.callspec.params["sandbox"] == "slurm":
        pytest.skip("the toy suspends no jobs")
    for action in JobAction:
        if Operation(action) in scheduler.capabilities.operations:
            with pytest.raises(NotFound):
                await scheduler.act("400000", action, soon())
