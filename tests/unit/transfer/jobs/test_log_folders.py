"""The folder of a user's transfer logs is made before a job is submitted that writes there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from flamecrest.sandbox.centre import Centre
from flamecrest.server.auth.port import Identity, Verb
from flamecrest.server.cluster import Cluster
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Invalid, NotFound
from flamecrest.server.settings import load
from flamecrest.server.transfer.port import SubmittedTransfer, TransferRequest
from flamecrest.server.wiring.gateway import open_gateway

pytestmark = pytest.mark.anyio


@dataclass
class World:
    """A cluster whose default work directory is `work`, and a path outside of it that exists."""

    cluster: Cluster
    work: Path
    file: Path

    async def rm(self, user: str, path: Path) -> SubmittedTransfer:
        deadline = Deadline.after(60)
        allowed = await self.cluster.allow(Identity(user), Verb.TRANSFER, deadline)
        return await allowed.transfers(path=str(path)).rm(str(path), deadline, account=None)

    async def ended(self, user: str, transfer: SubmittedTransfer) -> str:
        deadline = Deadline.after(60)
        allowed = await self.cluster.allow(Identity(user), Verb.JOBS_READ, deadline)
        while True:
            (job,) = await allowed.scheduler().job(transfer.job_id, deadline)
            if job.state in ("COMPLETED", "FAILED"):
                return job.state
            await asyncio.sleep(0.05)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with Centre(tmp_path / "centre", scheduler="pbs") as centre:
        work = centre.scratch("fireuser").parent
        work.chmod(0o777)
        centre.scratch("fireuser").rmdir()
        config = centre.config()
        config["clusters"][0]["file_systems"] = [
            {"path": str(work), "data_type": "scratch", "default_work_dir": True},
            {"path": str(centre.root / "home"), "data_type": "users"},
        ]
        path = tmp_path / "flamecrest.yaml"
        path.write_text(yaml.safe_dump(config))
        settings = await asyncio.to_thread(load, path, {})
        async with open_gateway(settings) as gateway:
            yield World(gateway.cluster(centre.system), work, centre.home("fireuser") / "file")


async def test_folder_is_made(world: World) -> None:
    world.file.write_text("x")
    transfer = await world.rm("fireuser", world.file)
    assert transfer.working_directory == f"{world.work}/fireuser"
    assert (world.work / "fireuser").stat().st_mode & 0o7777 == 0o700
    assert await world.ended("fireuser", transfer) == "COMPLETED"
    assert "Files were successfully deleted." in Path(transfer.output_log).read_text()
    assert not world.file.exists()
    script = json.loads((world.work.parent / "pbs" / "state.json").read_text())["jobs"][transfer.job_id]["_script"]
    assert "\n#PBS -S /bin/bash\n#PBS -r n\n#PBS -l select=1:ncpus=1\n" in script
    again = await world.rm("fireuser", world.file)  # the folder is there already
    assert await world.ended("fireuser", again) == "FAILED"
    assert "No such file" in Path(again.error_log).read_text()


async def test_folder_is_made_for_records(world: World) -> None:
    deadline = Deadline.after(60)
    allowed = await world.cluster.allow(Identity("fireuser"), Verb.TRANSFER, deadline)
    transfers = allowed.transfers(path=str(world.file))
    request = TransferRequest("s3", file_size=1)
    started = await transfers.upload(str(world.file), deadline, account=None, request=request)
    assert Path(started.job.output_log).is_file()
    assert (world.work / "fireuser").stat().st_mode & 0o7777 == 0o700
    world.work.rename(world.work.parent / "gone")
    with pytest.raises(NotFound, match="Records of transfers are kept there"):
        await transfers.upload(str(world.file), deadline, account=None, request=request)


async def test_job_is_not_submitted_without_its_folder(world: World) -> None:
    place = world.work / "fireuser"
    place.write_text("a file")
    with pytest.raises(Invalid, match=r"/scratch/fireuser' for the logs of transfer jobs: Not a directory$"):
        await world.rm("fireuser", world.file)
    place.unlink()
    place.symlink_to("nowhere")
    with pytest.raises(NotFound, match="No such file or directory"):
        await world.rm("fireuser", world.file)
    place.unlink()
    world.work.rename(world.work.parent / "gone")
    with pytest.raises(NotFound, match="for the logs of transfer jobs: No such file or directory"):
        await world.rm("fireuser", world.file)
