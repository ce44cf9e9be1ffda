"""The Transfers port over every adapter, each with the capabilities that it declares.

`slurm` is transfer jobs over the sandbox's toy Slurm, `live` the same over the live site, `bash` over a scheduler
that runs scripts at once. `recorder` is the stand-in of the HTTP tests, which runs nothing.
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
from flamecrest.server.schedulers.port import Scheduler
from flamecrest.server.transfer.jobs import SchedulerTransfers
from flamecrest.server.transfer.port import SubmittedTransfer, Transfers
from tests.contract.capabilities import parametrize
from tests.contract.disks import Disk, LocalDisk, RemoteDisk
from tests.contract.gateways import Reached, over_live_site, over_sandbox, soon
from tests.unit.http.toy_ports import Movers
from tests.unit.transfer.local_bash import LocalBash

JOBS = frozenset({"runs", "refuses_methods"})  # runs the operations; refuses transfer methods
ADAPTERS = {
    "slurm": JOBS,
    "bash": JOBS,
    "recorder": frozenset({"starts_methods"}),  # starts uploads and downloads
    "live": JOBS,
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
        case "slurm":
            async with over_sandbox(folder) as reached, _reached(reached, "test") as found:
                yield found
        case _:
            async with over_live_site(folder) as reached, _reached(reached, "test") as found:
                yield found


async def _never(transfer: SubmittedTransfer) -> int:
    raise AssertionError(f"no job runs here: {transfer}")


def _on_bash(root: Path) -> Place:
    for name in ("fireuser", "spool", "work"):
        (root / name).mkdir()
    scheduler = LocalBash(root / "spool")
    port: Scheduler = scheduler

    async def ended(transfer: SubmittedTransfer) -> int | None:
        return scheduler.statuses[transfer.job_id]

    transfers = SchedulerTransfers(port, "fireuser", cluster="bash", work_root=str(root))
    return Place(transfers, str(root / "work"), None, LocalDisk(), ended)


@asynccontextmanager
async def _reached(reached: Reached, account: str) -> AsyncIterator[Place]:
    user = reached.users[0]
    folder = f"{reached.home(user)}/contract-{secrets.token_hex(4)}"
    files = (await reached.allowed(user, Verb.FILES_WRITE)).files(path=folder)
    scheduler = (await reached.allowed(user, Verb.JOBS_READ)).scheduler()
    transfers = (await reached.allowed(user, Verb.TRANSFER)).transfers(path=folder)
    await files.changes.mkdir(folder, soon())

    async def ended(transfer: SubmittedTransfer) -> int | None:
        deadline = soon()
        while True:
            (job,) = await scheduler.job(transfer.job_id, soon())
            if job.state in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"):
                return job.exit_code
            assert deadline.left() > 0, f"{transfer} is {job.state}"
            await asyncio.sleep(0.05)

    yield Place(transfers, folder, account, RemoteDisk(files), ended)
    await files.changes.rm(folder, soon())
