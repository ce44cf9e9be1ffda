"""What users' requests do to the breakers of a cluster's services, and what a closed door says."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from flamecrest.server.errors import Timeout
from flamecrest.server.health.board import Service
from flamecrest.server.health.maintenance import MaintenanceWindow
from flamecrest.server.ssh.errors import Unreachable

from .local_files import LocalFiles, LocalReader
from .world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files.remote.reading.download import UnopenedReader
    from flamecrest.server.files.values import Stat

pytestmark = pytest.mark.anyio

LS, JOBS = "/filesystem/toy/ops/ls", "/compute/toy/jobs"


class Broken(LocalFiles):
    """Files that raise an error, if one is set."""

    error: Exception | None = None

    async def file_type(self, path: str, deadline: Deadline) -> str:
        if self.error is not None:
            raise self.error
        return await super().file_type(path, deadline)

    @asynccontextmanager
    async def download(
        self, path: str, deadline: Deadline, *, choose_start: Callable[[Stat], int | None] | None = None
    ) -> AsyncIterator[LocalReader | UnopenedReader]:
        if self.error is not None:
            raise self.error
        async with super().download(path, deadline, choose_start=choose_start) as reader:
            yield reader


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (Unreachable("SSH to login failed: connection refused"), 424, "The SSH service of the cluster has been down"),
        (Timeout("file did not finish in time"), 408, "has been down since"),
    ],
)
async def test_failures_of_several_users_close_the_door_and_one_that_is_served_opens_it(
    tmp_path: Path, error: Exception, status: int, says: str
):
    files = Broken()
    world = World(str(tmp_path), files=files)
    files.error = error
    where = {"path": str(tmp_path)}
    async with world.client() as client:
        for user in ("fireuser", "bob", "fireuser", "bob"):
            headers = {"Authorization": f"Bearer token-of-{user}"}
            found = await client.get("/filesystem/toy/ops/file", headers=headers, params=where)
            assert found.status_code == status
        refused = await client.get(LS, params=where)
        assert refused.status_code == 503
        assert says in refused.json()["message"]
        assert refused.json()["data"]["reason"] == "down"
        assert 1 <= int(refused.headers["retry-after"]) <= 5
        files.error = None
        world.passed += 6
        assert (await client.get(LS, params=where)).status_code == 200  # the trial
        assert (await client.get(LS, params=where)).status_code == 200
    assert not world.board.watching


async def test_a_download_is_served_when_its_response_begins(tmp_path: Path):
    """A download is opened after its handler has returned."""
    (tmp_path / "data").write_bytes(b"data")
    files = Broken()
    world = World(str(tmp_path), files=files)
    where = {"path": str(tmp_path / "data")}
    async with world.client() as client:

        async def status(user: str = "fireuser") -> int:
            headers = {"Authorization": f"Bearer token-of-{user}"}
            return (await client.get("/filesystem/toy/ops/download", headers=headers, params=where)).status_code

        files.error = Unreachable("SSH to login failed: connection refused")
        assert [await status(user) for user in ("fireuser", "bob", "fireuser", "bob", "bob")] == [424] * 4 + [503]
        world.passed += 6
        assert [await status(), await status()] == [424, 503]  # the trial closes no breaker
        files.error = None
        world.passed += 6
        assert [await status(), await status()] == [200, 200]
    assert not world.board.watching


async def test_one_user_closes_no_door(tmp_path: Path):
    files = Broken()
    files.error = Unreachable("SSH to login failed: connection refused")
    world = World(str(tmp_path), files=files)
    async with world.client() as client:
        for _ in range(9):
            found = await client.get("/filesystem/toy/ops/file", params={"path": str(tmp_path)})
            assert found.status_code == 424
        assert (await client.get(LS, params={"path": str(tmp_path)})).status_code == 200
    assert not world.board.refused


async def test_an_answer_that_was_not_asked_for_opens_no_scheduler(tmp_path: Path):
    world = World(str(tmp_path))
    for user in ("ann", "bob", "ann", "bob"):
        world.board.failed(user, "The scheduler does not answer", Service.SCHEDULER)
    world.passed += 6
    async with world.client() as client:
        assert (await client.get("/status/toy/capabilities")).status_code == 200  # the trial, which asks nothing
        assert world.board.refused
        assert (await client.get(JOBS)).status_code == 503


async def test_maintenance_of_one_service_leaves_the_others(tmp_path: Path):
    end = datetime.now(UTC) + timedelta(hours=1)
    window = MaintenanceWindow(None, end, frozenset({Service.SCHEDULER}), message="Slurm is updated")
    world = World(str(tmp_path), windows=[window])
    async with world.client() as client:
        refused = await client.get(JOBS)
        assert refused.status_code == 503
        assert "Slurm is updated" in refused.json()["message"]
        assert refused.json()["data"]["reason"] == "maintenance"
        assert 3500 < int(refused.headers["retry-after"]) <= 3600
        assert (await client.get(LS, params={"path": str(tmp_path)})).status_code == 200
