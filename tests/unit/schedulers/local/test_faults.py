"""What breaks around the local scheduler: processes that are killed, restarts, folders, hostile input."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from flamecrest.server.errors import Denied, Invalid, NotFound
from flamecrest.server.schedulers.values import (
    ArrayRequest,
    Dependency,
    DependencyKind,
    JobAction,
    JobChange,
    Mail,
    MailEvent,
    Resources,
)

from .conftest import FINAL, SLEEP, Machine, soon

pytestmark = pytest.mark.anyio
PID = "#!/bin/sh\necho $$ > pid\nexec sleep 300\n"
HOSTILE = ["a b", "it's", '"$(id)`id`;', "a\\b%j", "é 漢", "=%0A x=1 .", "-rf", "x" * 4096]


def named(machine: Machine, name: str) -> list[int]:
    """The processes of the state folder with this name."""
    return [int(one.name) for one in Path("/proc").glob("[0-9]*") if _is(one, machine.state, name)]


def _is(process: Path, folder: Path, name: str) -> bool:
    try:
        return process.joinpath("cwd").readlink() == folder and process.joinpath("comm").read_text() == f"{name}\n"
    except OSError:
        return False


async def kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    deadline = soon()
    while any(_runs(pid) for pid in pids):
        assert deadline.left() > 0
        await asyncio.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def edit(machine: Machine, old: str, new: str) -> None:
    journal = machine.state / "journal"
    text = journal.read_text()
    assert old in text
    journal.write_text(text.replace(old, new))


def value_of(machine: Machine, key: str) -> str:
    """The last value of a key in the journal."""
    return (machine.state / "journal").read_text().rpartition(f" {key}=")[2].split()[0]


async def until_one_runner(machine: Machine) -> None:
    """Those that have lost the race for the lock end."""
    deadline = soon()
    while len(found := named(machine, "fc-runner")) != 1:
        assert deadline.left() > 0, found
        await asyncio.sleep(0.05)


async def until_empty(folder: Path) -> None:
    deadline = soon()
    while found := await asyncio.to_thread(os.listdir, folder):
        assert deadline.left() > 0, found
        await asyncio.sleep(0.05)


async def test_one_runner_whoever_submits(machine: Machine):
    spec = machine.spec(hold=True)
    ids = await asyncio.gather(*(machine.scheduler.submit(spec, soon()) for _ in range(8)))
    assert sorted(ids, key=int) == [str(n + 1) for n in range(8)]
    await until_one_runner(machine)


async def test_a_marked_job_is_submitted_once(machine: Machine):
    spec = machine.spec(hold=True, marker="m-1")
    assert set(await asyncio.gather(*(machine.scheduler.submit(spec, soon()) for _ in range(5)))) == {"1"}
    assert await machine.scheduler.find("m-1", soon()) == "1"
    assert await machine.scheduler.find("m-2", soon()) is None
    assert list(await machine.jobs()) == ["1"]


async def test_a_killed_runner_is_replaced(machine: Machine):
    """The job goes on without it. Its end starts another runner, which starts what waits."""
    first = await machine.submit("#!/bin/sh\nwhile ! test -e go; do sleep 0.05; done\n", resources=Resources(tasks=4))
    second = await machine.submit()
    await machine.until(first, "RUNNING")
    await kill(*named(machine, "fc-runner"))
    (machine.home / "go").touch()
    deadline = soon()
    while not (machine.home / f"job-{second}.out").exists():  # nothing is asked: a question would start a runner, too
        assert deadline.left() > 0
        await asyncio.sleep(0.05)
    assert [(await machine.until(one)).state for one in (first, second)] == ["COMPLETED"] * 2


async def test_a_request_starts_a_runner_for_waiting_jobs(machine: Machine):
    job_id = await machine.submit(SLEEP, resources=Resources(tasks=4))
    waiting = await machine.submit()
    await machine.until(job_id, "RUNNING")
    await kill(*named(machine, "fc-runner"), *named(machine, f"fc-job-{job_id}"))
    assert (await machine.until(waiting)).state == "COMPLETED"


async def test_a_killed_supervisor_is_told_and_its_processes_end(machine: Machine):
    job_id = await machine.submit(PID)
    pid = int(await machine.until_file("pid"))
    await kill(*named(machine, f"fc-job-{job_id}"))
    job = await machine.until(job_id)
    assert (job.state, job.exit_code) == ("FAILED", None)
    assert "supervisor of the job was killed" in (job.reason or "")
    assert not _runs(pid)


async def stopped_machine(machine: Machine, **fields: Any) -> str:
    """A job that runs, and whose processes have all been killed."""
    job_id = await machine.submit(PID, **fields)
    pid = int(await machine.until_file("pid"))
    await kill(*named(machine, "fc-runner"), *named(machine, f"fc-job-{job_id}"), pid)
    (machine.home / "pid").unlink()
    return job_id


async def test_a_restart_of_the_machine_ends_running_jobs(machine: Machine):
    job_id = await stopped_machine(machine)
    edit(machine, f"boot={value_of(machine, 'boot')}", "boot=another")
    job = await machine.job(job_id)
    assert (job.state, job.reason, job.exit_code) == ("NODE_FAIL", "NodeDown", None)
    assert job.times.end is not None
    assert job.times.start is not None
    assert job.times.start <= job.times.end


async def test_a_job_that_may_run_again_does_after_a_restart(machine: Machine):
    job_id = await stopped_machine(machine, requeue=True)
    edit(machine, f"boot={value_of(machine, 'boot')}", "boot=another")
    assert (await machine.job(job_id)).state == "PENDING"
    await machine.until_file("pid")
    assert (await machine.job(job_id)).state == "RUNNING"


async def test_a_process_with_the_same_number_is_not_the_job(machine: Machine):
    job_id = await stopped_machine(machine)
    edit(machine, f"sup={value_of(machine, 'sup')}", f"sup={os.getpid()}:12")
    assert (await machine.job(job_id)).state == "FAILED"
    assert _runs(os.getpid())


async def test_a_shutdown_is_no_failure_of_the_script(machine: Machine):
    job_id = await machine.submit(PID)
    await machine.until_file("pid")
    os.kill(named(machine, f"fc-job-{job_id}")[0], signal.SIGTERM)
    assert (await machine.until(job_id)).state == "NODE_FAIL"


async def test_a_gateway_with_other_limits_replaces_the_runner(machine: Machine):
    first = await machine.submit(SLEEP, resources=Resources(tasks=4))
    await machine.until(first, "RUNNING")
    more = machine.with_limits(cpus=5)
    second = await more.submit(SLEEP)
    await more.until(second, "RUNNING")
    assert (await more.job(first)).state == "RUNNING"
    await until_one_runner(more)


async def test_a_job_that_no_longer_fits_holds_up_no_others(machine: Machine):
    large = await machine.submit(resources=Resources(tasks=4), hold=True)
    less = machine.with_limits(cpus=2)
    await less.scheduler.act(large, JobAction.RELEASE, soon())
    assert (await less.until(await less.submit())).state == "COMPLETED"
    assert (await less.job(large)).reason == "BadConstraints"


async def test_what_was_torn_is_not_believed(machine: Machine):
    job_id = await machine.submit(SLEEP, hold=True)
    with (machine.state / "journal").open("a") as journal:
        journal.write(f"unit end=1 id={job_id} state=COMPLE")
    assert (await machine.job(job_id)).state == "PENDING"
    await machine.scheduler.change(job_id, JobChange(name="after"), soon())
    assert (await machine.job(job_id)).name == "after"


async def test_old_jobs_leave_nothing(machine: Machine):
    old = await machine.submit("#!/bin/sh\ntest $SECRET = x\n", env={"SECRET": "x"})
    assert (await machine.until(old)).state == "COMPLETED"
    (machine.state / "files" / "9.env").touch()  # of a submission that was killed
    short = machine.with_limits(remember=1)
    last = await short.submit(hold=True)
    await short.scheduler.cancel(last, soon())
    deadline = soon()
    while await short.jobs():
        assert deadline.left() > 0
        await asyncio.sleep(0.1)
    while named(short, "fc-runner"):
        assert deadline.left() > 0
        await asyncio.sleep(0.05)
    assert sorted(one.name for one in short.state.iterdir()) == ["files", "journal", "lock", "run", "runner", "wake"]
    await until_empty(short.state / "run")
    assert list((short.state / "files").iterdir()) == []
    assert (short.state / "journal").read_text() == f"last id={last} .\n"
    assert await short.submit(hold=True) == str(int(last) + 1)


async def test_the_environment_is_private_and_removed(machine: Machine):
    job_id = await machine.submit("#!/bin/sh\nwhile ! test -e go; do sleep 0.05; done\n", env={"SECRET": "x"})
    kept = machine.state / "files" / f"{job_id}.env"
    assert b"SECRET=x\0" in kept.read_bytes()
    assert (kept.stat().st_mode & 0o777, machine.state.stat().st_mode & 0o777) == (0o600, 0o700)
    (machine.home / "go").touch()
    await machine.until(job_id)
    await until_empty(machine.state / "run")  # the last that a job's supervisor does
    assert not kept.exists()


@pytest.mark.parametrize("wrong", ["link", "file", "open"])
async def test_a_state_folder_that_is_not_the_users_own(machine: Machine, wrong: str):
    await machine.submit(hold=True)
    folder = machine.state
    if wrong == "open":
        folder.chmod(0o777)
    else:
        folder.rename(machine.home / "moved")
        folder.symlink_to(machine.home / "moved") if wrong == "link" else folder.touch()
    for asked in (machine.submit(), machine.jobs(), machine.job("1")):
        with pytest.raises(Denied, match="The state folder"):
            await asked


@pytest.mark.parametrize("name", HOSTILE)
async def test_names(machine: Machine, name: str):
    job_id = await machine.submit(hold=True, name=name, comment=name)
    job = await machine.job(job_id)
    assert (job.name, job.comment) == (name, name)


def refusals() -> Iterator[tuple[dict[str, Any], str]]:
    for field in ("account", "reservation", "constraints", "qos", "licenses", "container"):
        yield {field: "x"}, field
    yield {"deadline": 1}, "deadline"
    yield {"native": ("--x",)}, "native"
    yield {"mail": Mail((MailEvent.END,))}, "mail"
    yield {"resources": Resources(gpus=2)}, "resources.gpus"
    yield {"resources": Resources(gpus_per_node=2)}, "resources.gpusPerNode"
    yield {"resources": Resources(nodes=2)}, "resources.nodes"
    yield {"resources": Resources(gpu_type="a")}, "resources.gpuType"
    yield {"resources": Resources(features="a")}, "resources.features"
    yield {"resources": Resources(memory=5000)}, "resources.memory"
    yield {"resources": Resources(memory=5, memory_per_cpu=5)}, "resources.memory"
    yield {"resources": Resources(tasks=5)}, "resources.tasks"
    yield {"resources": Resources(cpus_per_task=5)}, "resources.cpusPerTask"
    yield {"partition": "nosuch"}, "partition"
    yield {"name": "a\nb"}, "name"
    yield {"array": ArrayRequest("5-1")}, "array"
    yield {"array": ArrayRequest("0-1000000")}, "array"
    yield {"env": {"A": "\0"}}, "env"
    for script in ("no interpreter", "#!/bin/sh\r\ntrue\r\n", "#!/bin/sh\n\0", "", "#!/bin/sh\n" + "#" * 2**24):
        yield {"script": script}, "script"
    for path in ("relative", "/no/such", "/tmp", "/dev/null"):
        yield {"script": None, "script_path": path}, "scriptPath"
    for folder in ("relative", "/no/such", "/dev/null"):
        yield {"working_directory": folder}, "workingDirectory"
    for job_id in ("1;id", "0", "99"):
        yield {"dependencies": [Dependency(DependencyKind.AFTER_OK, (job_id,))]}, "job"


@pytest.mark.parametrize(("wrong", "field"), list(refusals()))
async def test_refusals(machine: Machine, wrong: dict[str, Any], field: str):
    fields = {"working_directory": str(machine.home), "script": "#!/bin/sh\n"} | wrong
    spec = type(machine.spec())(**fields)
    with pytest.raises((Invalid, NotFound)) as caught:
        await machine.scheduler.submit(spec, soon())
    assert field in caught.value.public.lower() if field == "job" else caught.value.public.startswith(f"{field}:")
    assert "may have been submitted" not in caught.value.public
    assert await machine.jobs() == {}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"script": "#!/no/such/interpreter\n"}, "Cannot execute the script: No such file"),
        ({"standard_output": "/no/such/folder/out"}, "Cannot open /no/such/folder/out: No such file"),
        ({"standard_input": "nosuch"}, "nosuch: No such file"),
    ],
)
async def test_a_job_that_cannot_start_says_why(machine: Machine, fields: dict[str, Any], reason: str):
    job = await machine.until(await machine.submit(**fields))
    assert (job.state, job.exit_code) == ("FAILED", 127)
    assert reason in (job.reason or "")


async def test_an_output_that_blocks_does_not_keep_a_job_from_being_cancelled(machine: Machine):
    os.mkfifo(machine.home / "fifo")
    job_id = await machine.submit(standard_output="fifo")
    await machine.until(job_id, "RUNNING")
    await machine.scheduler.cancel(job_id, soon())
    assert (await machine.until(job_id, *FINAL)).state == "CANCELLED"


async def test_killed_submissions_are_made_once(machine: Machine):
    """The program is killed at a random moment of each submission, which is then repeated with its marker."""
    for number in range(10):
        spec = machine.spec(hold=True, marker=f"m-{number}")
        command = machine.dialect.submit(spec)
        process = await machine.shell.start(command)
        exchange = asyncio.ensure_future(process.communicate(command.stdin))
        await asyncio.sleep(random.random() / 10)
        if process.returncode is None:
            with suppress(ProcessLookupError):  # it has ended, and the event loop has not been told yet
                os.killpg(process.pid, signal.SIGKILL)
        await exchange
        found = await machine.scheduler.find(f"m-{number}", soon())
        assert found in (None, await machine.scheduler.submit(spec, soon()))
    markers = [job.marker or "" for job in (await machine.jobs()).values()]
    assert sorted(markers) == [f"m-{number}" for number in range(10)]
