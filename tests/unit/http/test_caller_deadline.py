"""The header Request-Timeout on routes of every kind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from .local_files import LocalFiles
from .world import World, fields

if TYPE_CHECKING:
    from pathlib import Path

    from flamecrest.server.deadline import Deadline

pytestmark = pytest.mark.anyio

FILE = "/filesystem/toy/ops/file"


class Hanging(LocalFiles):
    """Files whose type is not found before the deadline."""

    async def file_type(self, path: str, deadline: Deadline) -> str:
        assert deadline.left() < 1
        async with deadline.enforce("file"):
            await asyncio.Event().wait()
        return path


async def test_a_caller_shortens_the_time_and_blames_no_service(tmp_path: Path):
    world = World(str(tmp_path), files=Hanging())
    async with world.client() as client:
        for user in ("fireuser", "bob", "fireuser", "bob"):
            headers = {"Authorization": f"Bearer token-of-{user}", "Request-Timeout": "0.05"}
            found = await client.get(FILE, params={"path": str(tmp_path)}, headers=headers)
            assert found.status_code == 408
    assert not world.board.watching


async def test_a_caller_cannot_lengthen_it_and_invalid_values_are_refused(tmp_path: Path):
    async with World(str(tmp_path)).client() as client:
        for value in ("9999", "5", "1.5"):
            found = await client.get(FILE, params={"path": str(tmp_path)}, headers={"Request-Timeout": value})
            assert found.status_code == 200
        for path in (FILE, "/status/systems", "/compute/toy/jobs"):
            for value in ("0", "-1", "nan", "inf", "1e400", "x", "1" * 40):
                found = await client.get(path, params={"path": str(tmp_path)}, headers={"Request-Timeout": value})
                assert fields(found) == [("header", "Request-Timeout")]
