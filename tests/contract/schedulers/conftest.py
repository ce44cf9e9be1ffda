"""The Scheduler port over every adapter, each with the capabilities that it declares.

`slurm` is the CLI scheduler with Slurm's dialect over the sandbox's toy Slurm, `live` the same over the live site,
`live-variables` there with variables in the users' environment that would change what Slurm's commands do, `live-rest`
and `live-hybrid` the adapters of slurmrestd. `live-trixie`, `live-sid` and so on are those of other versions of Slurm
(SUITES in tests/live/site.py). `local` is the local scheduler over the sandbox's SSH server, `live-local`
over that of the live site, `pbs` the CLI scheduler with the dialect of OpenPBS over the sandbox's toy PBS, `tinyq`
that with the dialect of example_scheduler.
`memory` is the stand-in of the HTTP tests.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest

from flamecrest.server.auth.port import Identity, Verb
from flamecrest.server.schedulers.port import Scheduler
from flamecrest.server.schedulers.values import Job
from tests.contract.capabilities import parametrize
from tests.contract.disks import Disk, LocalDisk, RemoteDisk
from tests.contract.gateways import Reached, live_site, over_live_site, over_sandbox, soon
from tests.unit.http.toy_ports import Queue

from .example_scheduler.place import over_tinyq

FULL = frozenset(
    {
        "jobs",  # finds, lists and cancels jobs
        "runs",  # runs the scripts
        "refuses",  # refuses submissions that cannot work
        "script_path",
        "filters",  # lists by user, account, name and window
        "names",  # jobs have any text as their names
        "interpreters",  # refuses scripts without `#!`
        "metadata",
        "scripts",  # the metadata has the script
        "comments",  # a job with a comment of its own can have an idempotency key
        "directives",  # reads `#SBATCH` lines
        "attach",
        "arrays",
        "waits",  # its submission program can be made to wait for the job
        "patterns",  # file names have patterns
        "users",  # jobs belong to users
        "cluster",  # knows nodes and partitions
        "reservations",
        "accounts",
    }
)
REST = FULL - {"scripts", "attach", "waits"}
LOCAL = FULL - {"directives", "waits", "users", "reservations", "accounts"}
PBS = FULL - {
    "directives", "waits", "reservations", "accounts", "attach", "scripts", "patterns", "names", "interpreters",
}  # fmt: skip
SHELL = {"shell"}  # jobs can run commands of Slurm
ADAPTERS = {
    "slurm": FULL | {"hidden_partitions", "clusters"},
    "memory": frozenset({"jobs", "metadata", "scripts", "cluster", "reservations", "accounts", "hidden_partitions"}),
    "local": LOCAL,
    "pbs": PBS,
    "tinyq": PBS - {"arrays"} | {"names", "interpreters"},
    "live": FULL | SHELL,
    "live-variables": FULL - {"waits", "attach", "patterns", "filters", "refuses", "arrays"},
    "live-rest": REST | SHELL,
    "live-hybrid": FULL,
    "live-trixie": FULL,
    "live-trixie-rest": REST,
    "live-sid": FULL | SHELL,
    "live-sid-rest": REST | SHELL,
    "live-local": LOCAL,
}
# What users' start-up files may set, and what must change no answer.
VARIABLES = {
    **dict.fromkeys(("SQUEUE_PARTITION", "SINFO_PARTITION", "SCANCEL_PARTITION"), "long"),
    **dict.fromkeys(("SQUEUE_STATES", "SCANCEL_STATE"), "SUSPENDED"),
    **dict.fromkeys(("SQUEUE_ACCOUNT", "SQUEUE_QOS", "SQUEUE_NAMES", "SQUEUE_USERS", "SQUEUE_LICENSES"), "nobody"),
    **dict.fromkeys(("SCANCEL_ACCOUNT", "SCANCEL_NAME", "SCANCEL_QOS", "SCANCEL_USER", "SCANCEL_WCKEY"), "nobody"),
    **dict.fromkeys(("SCANCEL_INTERACTIVE", "SCANCEL_BATCH", "SCANCEL_VERBOSE", "SCANCEL_CTLD"), "1"),
    **dict.fromkeys(("SQUEUE_FEDERATION", "SQUEUE_ARRAY", "SQUEUE_ARRAY_UNIQUE", "SQUEUE_SIBLING"), "1"),
    **dict.fromkeys(("SACCT_FEDERATION", "SINFO_FEDERATION", "SCONTROL_FEDERATION", "SCONTROL_FUTURE"), "1"),
    **dict.fromkeys(("SCONTROL_SIBLING", "SCONTROL_LOCAL", "SQUEUE_LOCAL", "SACCT_LOCAL", "SINFO_LOCAL"), "1"),
    **dict.fromkeys(("SQUEUE_FORMAT", "SQUEUE_FORMAT2", "SINFO_FORMAT"), "%i"),
    **dict.fromkeys(("SLURM_CLUSTERS", "SBATCH_CLUSTERS", "SLURM_WORKING_CLUSTER"), "west"),
    **dict.fromkeys(("SBATCH_WAIT", "SBATCH_DEBUG", "SLURM_DEBUG", "SRUN_DEBUG", "SLURM_EXIT_ERROR"), "2"),
    "SACCT_FORMAT": "JobName",
    "SLURM_TIME_FORMAT": "relative",
    "SLURM_BITSTR_LEN": "2",
    "SBATCH_ARRAY_INX": "1-3",
    "TZ": "Asia/Tokyo",
    "LC_ALL": "C.UTF-8",
}
FINAL = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")


@dataclass(frozen=True)
class Place:
    """An adapter, its user, and an empty folder to work in. `other` is the scheduler as another user."""

    scheduler: Scheduler
    folder: str
    disk: Disk
    user: str = "fireuser"
    other: Scheduler | None = None
    adapter: str = ""

    def can(self, capability: str) -> bool:
        """Whether the adapter declares this capability."""
        return capability in ADAPTERS[self.adapter]

    async def job(self, job_id: str) -> Job:
        (found,) = await self.scheduler.job(job_id, soon())
        return found

    async def until(self, job_id: str, *states: str) -> Job:
        """Wait until the job is in one of the states."""
        deadline, pause = soon(), 0.05
        while True:
            job = await self.job(job_id)
            if job.state in states:
                return job
            assert deadline.left() > 0, f"{job_id} is {job.state}, not one of {states}"
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, 0.5)  # seconds; each look starts programs

    def element(self, job_id: str, index: int) -> str:
        """The id of an element of an array."""
        return job_id.replace("[]", f"[{index}]") if "[]" in job_id else f"{job_id}_{index}"

    async def ended(self, job_id: str) -> None:
        await self.until(job_id, *FINAL)


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
        case "memory":
            yield Place(Queue(), str(folder), LocalDisk(), adapter=request.param)
        case "slurm" | "pbs" | "local" as name:
            options = {"clusters": ("west",)} if name == "slurm" else {"scheduler": name}
            async with over_sandbox(folder, **options) as reached:
                async for found in _reached(reached, name):
                    yield found
        case "tinyq":
            async with over_tinyq(folder) as (reached, choice):
                made = [choice.make(Identity(user)) for user in reached.users]
                async for found in _reached(reached, request.param, made):
                    yield found
        case live:
            variables = VARIABLES if live == "live-variables" else None
            async with over_live_site(folder, site=live_site(live), variables=variables) as reached:
                async for found in _reached(reached, request.param):
                    yield found


async def _reached(
    reached: Reached, adapter: str = "slurm", made: Sequence[Scheduler] | None = None
) -> AsyncIterator[Place]:
    user, other = reached.users
    folder = f"{reached.home(user)}/contract-{secrets.token_hex(4)}"
    files = (await reached.allowed(user, Verb.FILES_WRITE)).files(path=folder)
    scheduler, others = made or [(await reached.allowed(one, Verb.JOBS_SUBMIT)).scheduler() for one in (user, other)]
    await files.changes.mkdir(folder, soon())
    yield Place(scheduler, folder, RemoteDisk(files), user, others, adapter)
    await files.changes.rm(folder, soon())
