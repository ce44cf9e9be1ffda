"""The folder of records is swept beside tickets, at most once a minute."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flamecrest.server.auth.port import Identity
from flamecrest.server.deadline import Deadline
from flamecrest.server.ssh.channels.sftp import Sftp
from flamecrest.server.ssh.port import Session
from flamecrest.server.ssh.session import PooledSessions
from flamecrest.server.transfer.direct.links import LinkSigner
from flamecrest.server.transfer.direct.methods import DirectOptions, DirectTransfers
from flamecrest.server.transfer.port import TransferRequest
from flamecrest.server.transfer.records import names, storage
from flamecrest.server.transfer.records.names import RecordFiles, WorkFolder
from flamecrest.server.transfer.records.sweeping import BATCHES, INTERVAL, MOST_EXPIRED, Sweeps
from tests.unit.ssh.conftest import World, accelerate, world  # noqa: F401 -- fixtures

pytestmark = pytest.mark.anyio
SIGNER = LinkSigner(b"k" * 32)
OLD = 1_600_000_000  # seconds since the epoch


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Place:
    """A user of the sandbox's SSH server, and what the gateway's process keeps for the folder of records."""

    session: Session
    home: Path
    clock: Clock
    sweeps: Sweeps

    @property
    def work(self) -> WorkFolder:
        return WorkFolder(str(self.home), "cluster")

    @property
    def records(self) -> Path:
        return Path(self.work.records.decode())

    async def ticket(self, lifetime: float = 3600) -> str:
        """Start an upload; its id."""
        options = DirectOptions(SIGNER, lifetime, 100)
        transfers = DirectTransfers(self.session, "ann", self.work, options, self.sweeps)
        request = TransferRequest("direct", 1000)
        started = await transfers.upload(str(self.home / "file"), Deadline.after(60), account=None, request=request)
        assert isinstance(started.job.transfer_id, str)
        return started.job.transfer_id

    async def requests(self) -> int:
        """The number of SFTP requests so far."""

        async def use(sftp: Sftp) -> int:
            return sftp.requests

        return await self.session.sftp(use, Deadline.after(60))

    def old(self, count: int = 1) -> list[Path]:
        """The records of transfers that have expired more than a month ago."""
        paths = [self.records / f"{names.new_id(OLD)}.json" for _ in range(count)]
        for path in paths:
            path.touch()
        return paths

    async def swept(self) -> None:
        """The sweeps that were begun have ended, and their last requests were answered."""
        async with asyncio.timeout(50):
            await asyncio.gather(*self.sweeps.tasks())

        async def use(sftp: Sftp) -> None:
            await sftp.lstat(b"/")  # the server answers in order

        await self.session.sftp(use, Deadline.after(60))


@pytest.fixture
async def place(world: World) -> AsyncIterator[Place]:  # noqa: F811 -- the fixture
    clock = Clock()
    sweeps = Sweeps(clock)
    async with world.pool(per_user=1) as pool:
        session = PooledSessions(pool).of(Identity("ann"))
        yield Place(session, world.root / "home/ann", clock, sweeps)
        await sweeps.close()


async def test_a_folder_is_swept_once_a_minute(place: Place) -> None:
    await place.ticket()
    await place.swept()
    (old,) = place.old()
    await place.ticket()
    assert not place.sweeps.tasks()
    assert old.exists()
    place.clock.now += INTERVAL
    await place.ticket()
    await place.swept()
    assert not old.exists()


async def test_a_ticket_costs_the_same_in_a_large_folder(place: Place) -> None:
    """Its requests are counted: none of them reads the folder."""
    costs = []
    await place.ticket()
    await place.swept()
    for more in (0, 500):
        place.old(more)
        before = await place.requests()
        await place.ticket()
        costs.append(await place.requests() - before)
    assert costs[0] == costs[1] > 0


async def test_a_large_folder_is_swept_at_once(place: Place) -> None:
    await place.ticket()
    await place.swept()
    old = place.old(300)
    assert len(old) < 100 * BATCHES
    place.clock.now += INTERVAL
    kept = await place.ticket()
    await place.swept()
    assert not any(path.exists() for path in old)
    assert (place.records / f"{kept}.json").exists()


async def test_the_data_of_expired_uploads_goes(place: Place) -> None:
    expired = [await place.ticket(lifetime=-1) for _ in range(6)]
    assert len(expired) < MOST_EXPIRED
    await place.swept()
    place.clock.now += INTERVAL
    kept = await place.ticket()
    await place.swept()
    assert len(list(place.home.glob(".flamecrest-upload-*"))) == 1

    async def use(sftp: Sftp) -> list[str | None]:
        folder = place.work.records
        ends = [await storage.read_end(sftp, RecordFiles(folder, one)) for one in (*expired, kept)]
        return [None if end is None else end.state for end in ends]

    assert await place.session.sftp(use, Deadline.after(60)) == ["TIMEOUT"] * 6 + [None]


async def test_a_folder_is_swept_also_after_a_failure(place: Place) -> None:
    """What has expired may fill the disk."""
    place.records.mkdir(parents=True)
    (old,) = place.old()
    with pytest.raises(ZeroDivisionError), place.sweeps.after(place.session, place.work.records):
        raise ZeroDivisionError
    await place.swept()
    assert not old.exists()


async def test_folders_are_swept_independently(place: Place) -> None:
    place.records.mkdir(parents=True)
    (old,) = place.old()
    place.sweeps.begin(place.session, place.work.records + b"-of-another-cluster")  # there is none
    place.sweeps.begin(place.session, place.work.records)
    await place.swept()
    assert not old.exists()


async def test_sweeps_end_with_the_gateway(place: Place) -> None:
    place.records.mkdir(parents=True)
    place.sweeps.begin(place.session, place.work.records)
    assert len(place.sweeps.tasks()) == 1
    await place.sweeps.close()
    assert not place.sweeps.tasks()
