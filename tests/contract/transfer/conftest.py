"""The Transfers port over every adapter, each with the capabilities that it declares.

`slurm`, `pbs` and `local` are transfer jobs over the schedulers of the sandbox, `bash` over a scheduler that runs
scripts at once; `live` and so on over the schedulers that tests/contract/schedulers/conftest.py names. `recorder` is
the stand-in of the HTTP tests, which runs nothing.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from flamecrest.server.auth.port import Verb
from flamecrest.server.deadline import Deadline
from flamecrest.server.schedulers.port import Submitter
from flamecrest.server.transfer.jobs.operations import SchedulerTransfers
from flamecrest.server.transfer.jobs.submission import TransferSubmitter
from flamecrest.server.transfer.port import SubmittedTransfer, Transfers
from tests.contract.capabilities import parametrize
from tests.contract.disks import Disk, LocalDisk, RemoteDisk
from tests.contract.gateways import Reached, live_site, over_live_site, over_sandbox, soon
from tests.unit.http.toy_ports import Movers
from tests.unit.transfer.local_bash import LocalBash

JOBS = frozenset({"runs", "refuses_methods", "once"})  # runs the operations; refuses transfer methods; knows keys
SLURM = JOBS | {"accounts"}  # refuses unknown accounts
ADAPTERS = {
    "slurm": SLURM,
    "bash": JOBS - {"once"} | {"fast"},  # runs a job in no time: for all names and compressions
    "recorder": frozenset({"starts_methods"}),  # starts uploads and downloads
    "pbs": JOBS,
    "local": JOBS,
    "live": SLURM,
    "live-rest": SLURM,
    "live-hybrid": SLURM,
    "live-trixie": SLURM,
    "live-trixie-rest": SLURM,
    "live-sid": SLURM,
    "live-sid-rest": SLURM,
    "live-local": JOBS,
}


@dataclass(frozen=True)
class Place:
    """An adapter, an empty folder to work in, and `ended`, which waits for a transfer and returns its exit status."""

    transfers: Transfers
    folder: str
    account: str | None
    disk: Disk
    ended: Callable[[SubmittedTransfer], Awaitable[int | None]]

    async def worked(self, transfer: SubmittedTransfer, done: str) -> None:
        """Assert that the job succeeded, by its exit status and the success line in its log."""
        assert await self.ended(transfer) == 0, await self.disk.read(transfer.error_log)
        assert f"Files were successfully {done}." in await self.disk.read(transfer.output_log)

    async def failed(self, transfer: SubmittedTransfer, reason: str) -> None:
        """Assert that the job failed, by its exit status and its logs."""
        assert await self.ended(transfer) not in (None, 0)
        assert "successfully" not in await self.disk.read(transfer.output_log)
        assert reason in await self.disk.read(transfer.error_log)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize(metafunc, ADAPTERS)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """As for all tests; a module shares its centre."""
    return "asyncio"


@pytest.fixture(scope="module")
async def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    folder = tmp_path_factory.mktemp(request.param)
    match request.param:
        case "recorder":
            yield Place(Movers(), str(folder), None, LocalDisk(), _never)
        case "bash":
            yield _on_bash(folder)
        case "slurm" | "pbs" | "local" as name:
            async with over_sandbox(folder, scheduler=name) as reached, _reached(reached, _account(name)) as found:
                yield found
        case live:
            async with (
                over_live_site(folder, site=live_site(live)) as reached,
                _reached(reached, _account(live)) as found,
            ):
                yield found


def _account(adapter: str) -> str | None:
    """The account of the jobs; the local scheduler has none."""
    return None if "local" in adapter else "test"


async def _never(transfer: SubmittedTransfer) -> int:
    raise AssertionError(f"no job runs here: {transfer}")


def _on_bash(root: Path) -> Place:
    for name in ("fireuser", "spool", "work"):
        (root / name).mkdir()
    scheduler = LocalBash(root / "spool")
    port: Submitter = scheduler

    async def ended(transfer: SubmittedTransfer) -> int | None:
        return scheduler.statuses[transfer.job_id]

    transfers = SchedulerTransfers(TransferSubmitter(port, "fireuser", work_root=str(root)), cluster="bash")
    return Place(transfers, str(root / "work"), None, LocalDisk(), ended)


@asynccontextmanager
async def _reached(reached: Reached, account: str | None) -> AsyncIterator[Place]:
    user = reached.users[0]
    folder = f"{reached.home(user)}/contract-{secrets.token_hex(4)}"
    files = (await reached.allowed(user, Verb.FILES_WRITE)).files(path=folder)
    scheduler = (await reached.allowed(user, Verb.JOBS_READ)).scheduler()
    transfers = (await reached.allowed(user, Verb.TRANSFER)).transfers(path=folder)
    await files.changes.mkdir(folder, soon())

    async def ended(transfer: SubmittedTransfer) -> int | None:
        deadline = Deadline.after(150)
        while True:
            (job,) = await scheduler.job(transfer.job_id, soon())
            if job.state in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"):
                return job.exit_code
            assert deadline.left() > 0, f"{transfer} is {job.state}"
            await asyncio.sleep(0.05)

    yield Place(transfers, folder, account, RemoteDisk(files), ended)
    await files.changes.rm(folder, soon())
