"""The local scheduler as two users of a real machine: a full disk, unreadable folders, other users' files.

It runs as root, which mounts a small file system and changes modes.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from flamecrest.server.auth.port import Verb
from flamecrest.server.errors import Denied, GatewayError, NotFound, Upstream
from flamecrest.server.schedulers.port import Scheduler
from flamecrest.server.schedulers.values import Job, JobSpec
from tests.contract.gateways import over_live_site, soon
from tests.live.site import Site

pytestmark = [pytest.mark.anyio, pytest.mark.live]
WAITS = "#!/bin/sh\necho started\nwhile ! test -e go; do sleep 0.05; done\nid -un\n"


@dataclass(frozen=True)
class Account:
    """A user's scheduler, and an empty folder in the user's home. The queue is in `state`, in that folder."""

    scheduler: Scheduler
    user: str
    folder: Path

    async def submit(self, script: str) -> str:
        return await self.scheduler.submit(JobSpec(str(self.folder), script=script, standard_output="out"), soon())

    async def until(self, job_id: str, *states: str) -> Job:
        deadline = soon()
        while True:
            (job,) = await self.scheduler.job(job_id, soon())
            if job.state in states:
                return job
            assert deadline.left() > 0, job
            await asyncio.sleep(0.05)


@pytest.fixture
async def accounts(tmp_path: Path) -> AsyncIterator[Sequence[Account]]:
    site = Site.from_environment()
    if reason := site.why_not():
        (pytest.fail if os.environ.get("FLAMECREST_LIVE") else pytest.skip)(reason)
    name = f"local-{secrets.token_hex(4)}"
    limits = {"cpus": 4, "kill_wait": 2, "remember": 20, "time_limit": 120, "state_folder": f"{name}/state"}
    async with over_live_site(tmp_path, site=replace(site, local=limits)) as reached:
        found = []
        for user in reached.users:
            permission = await reached.allowed(user, Verb.JOBS_SUBMIT)
            folder = Path(site.home(user)) / name
            subprocess.run(["install", "-d", "-m", "700", "-o", user, folder], check=True)
            found.append(Account(permission.scheduler(), user, folder))
        yield found
        for one in found:
            subprocess.run(["umount", "--lazy", one.folder / "state"], check=False, capture_output=True)
            subprocess.run(["rm", "-rf", one.folder], check=True)


async def test_each_user_has_a_queue(accounts: Sequence[Account]):
    mine, other = accounts
    job_id = await mine.submit(WAITS)
    await mine.until(job_id, "RUNNING")
    for asked in (other.scheduler.job(job_id, soon()), other.scheduler.cancel(job_id, soon())):
        with pytest.raises(NotFound):
            await asked
    (mine.folder / "go").touch()
    await mine.until(job_id, "COMPLETED")
    output = mine.folder / "out"
    assert (output.read_text(), output.owner()) == (f"started\n{mine.user}\n", mine.user)
    assert await other.scheduler.jobs(all_users=True, account=None, name=None, window=60, deadline=soon()) == []


async def test_a_full_disk(accounts: Sequence[Account]):
    """Nothing is submitted, and the end of a job is written down as soon as there is room."""
    account, _ = accounts
    state = account.folder / "state"
    subprocess.run(["install", "-d", "-m", "700", "-o", account.user, state], check=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size=256k,mode=700,uid={state.stat().st_uid}", "none", state], check=True
    )
    job_id = await account.submit(WAITS)
    await account.until(job_id, "RUNNING")
    filler = state / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    with pytest.raises(Upstream, match="No space left on device") as caught:
        await account.submit("#!/bin/sh\n" + "#" * 8192 + "\n")
    assert "may have been submitted" not in caught.value.public
    (account.folder / "go").touch()
    listed = await account.scheduler.jobs(all_users=False, account=None, name=None, window=60, deadline=soon())
    assert [job.id for job in listed] == [job_id]
    filler.unlink()
    assert (await account.until(job_id, "COMPLETED")).exit_code == 0


@pytest.mark.parametrize("wrong", ["unreadable", "of root", "link to another user's"])
async def test_a_folder_that_cannot_be_used(accounts: Sequence[Account], wrong: str):
    account, other = accounts
    state = account.folder / "state"
    if wrong == "link to another user's":
        await other.submit("#!/bin/sh\n")
        state.symlink_to(other.folder / "state")
    else:
        state.mkdir(mode=0o755 if wrong == "of root" else 0)
        if wrong == "unreadable":
            subprocess.run(["chown", account.user, state], check=True)
    asked = account.scheduler.jobs(all_users=False, account=None, name=None, window=60, deadline=soon())
    if wrong == "of root":
        assert await asked == []
    for failing in (account.submit("#!/bin/sh\n"), *([] if wrong == "of root" else [asked])):
        with pytest.raises(GatewayError) as caught:
            await failing
        assert isinstance(caught.value, Denied), caught.value
        assert "state folder" in caught.value.public
