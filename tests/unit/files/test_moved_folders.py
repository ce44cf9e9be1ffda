"""Uploads into a folder that is renamed meanwhile leave nothing in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from flamecrest.server.errors import NotFound
from flamecrest.server.files.remote.writing import IN_FLIGHT_BYTES
from flamecrest.server.files.values import WriteOptions
from tests.contract.files.places import Place, on_sandbox, soon

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the system does not show the paths of open files"),
]
PIECE = bytes(256 * 1024)


class Disconnected(Exception):
    """The client has disconnected."""


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """A cluster without the SFTP subsystem: the SFTP server of the sandbox does not show /proc, the program does."""
    async with on_sandbox(tmp_path, subsystem=False) as found:
        yield found


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(40):
        while not await asyncio.to_thread(happened):
            await asyncio.sleep(0.01)


async def upload(place: Place, renames: Path, *, breaks: bool) -> None:
    """Upload into a folder that gets another name when some of the file has arrived."""
    folder = Path(place.path("folder"))

    async def body() -> AsyncIterator[bytes]:
        yield PIECE
        await until(lambda: any(name.startswith(".flamecrest-upload-") for name in names(folder)))
        await asyncio.to_thread(folder.rename, renames)
        for _ in range(IN_FLIGHT_BYTES // len(PIECE)):
            yield PIECE
        if breaks:
            raise Disconnected

    await place.content.upload(f"{folder}/file", body(), soon(), WriteOptions(exclusive=True))


@pytest.mark.parametrize("breaks", [True, False])
@pytest.mark.parametrize("other", [True, False])
async def test_the_temporary_file_is_removed(place: Place, breaks: bool, other: bool) -> None:
    """Also if the folder was moved into another one."""
    folder, renamed = Path(place.path("folder")), Path(place.path("above/renamed" if other else "renamed"))
    for made in {folder, renamed.parent}:
        await asyncio.to_thread(made.mkdir, exist_ok=True)
    await asyncio.to_thread((folder / "kept").touch)
    with pytest.raises(Disconnected if breaks else NotFound):
        await upload(place, renamed, breaks=breaks)
    await until(lambda: names(renamed) == ["kept"])
    assert not await asyncio.to_thread(folder.exists)


async def test_a_broken_upload_removes_its_file_where_it_is(place: Place) -> None:
    folder = Path(place.path("folder"))
    await asyncio.to_thread(folder.mkdir)
    with pytest.raises(Disconnected):
        await upload(place, folder, breaks=True)
    await until(lambda: names(folder) == [])
