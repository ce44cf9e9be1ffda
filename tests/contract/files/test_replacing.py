"""Contract of writes to an existing file: what it keeps, and what is refused (docs/users/files/replacing.md)."""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from flamecrest.server.errors import Conflict, Denied, Invalid
from flamecrest.server.files.remote.agent_requests import SMALL
from flamecrest.server.files.resumable.remote import RemoteUploads
from flamecrest.server.files.values import ListOptions, WriteOptions

from .places import Place, soon

pytestmark = [pytest.mark.anyio, pytest.mark.needs("ssh")]

LARGE = os.urandom(SMALL + 1)  # by SFTP; less goes through the agent
CONTENTS = pytest.mark.parametrize("data", [b"new", LARGE], ids=["small", "large"])


async def send(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def upload(place: Place, name: str, data: bytes, options: WriteOptions | None = None) -> None:
    await place.content.upload(place.path(name), send(data), soon(), options or WriteOptions())


async def resumable(place: Place, name: str, data: bytes) -> None:
    uploads = RemoteUploads(place.session)
    key = (await uploads.create(place.path(name), len(data), "", soon())).key
    assert (await uploads.append(key, 0, send(data), soon())).complete


async def content(place: Place, name: str) -> bytes:
    async with place.content.download(place.path(name), soon()) as reader:
        return b"".join([chunk async for chunk in reader.chunks()])


async def names(place: Place, folder: str) -> list[str]:
    """The names in a folder, without state files of resumable uploads: one stays if it alone shows the completion."""
    found = [entry.name for entry in await place.queries.ls(folder, soon(), ListOptions(hidden=True))]
    return [name for name in found if not re.fullmatch(r"\.flamecrest-upload-[0-9a-f]{32}\.json", name)]


async def holds(place: Place, folder: str, *expected: str) -> bool:
    """Whether the folder holds these names soon: a resumable upload does not wait until its lock is removed."""
    with suppress(TimeoutError):
        async with asyncio.timeout(20):
            while await names(place, folder) != list(expected):
                await asyncio.sleep(0.02)
    return await names(place, folder) == list(expected)


async def mode(place: Place, name: str) -> int:
    return stat.S_IMODE((await place.queries.stat(place.path(name), soon())).mode)


@pytest.mark.needs("accounts")
@pytest.mark.parametrize("write", [upload, resumable])
@CONTENTS
async def test_a_write_protected_file_is_refused(place: Place, write, data: bytes) -> None:
    await place.run('echo old >"$1/f" && chmod 444 "$1/f"', place.folder)
    with pytest.raises(Denied, match="Permission denied"):
        await write(place, "f", data)
    assert (await content(place, "f"), await mode(place, "f")) == (b"old\n", 0o444)
    assert await holds(place, place.folder, "f")


@pytest.mark.needs("accounts")
@CONTENTS
async def test_a_folder_that_takes_no_new_file(place: Place, data: bytes) -> None:
    """The file itself can be written, as by a shell."""
    await place.run('mkdir "$1/ro" && echo old >"$1/ro/f" && chmod 555 "$1/ro"', place.folder)
    home = os.path.dirname(place.folder)  # noqa: PTH120
    before = set(await names(place, home))  # others may have left unfinished resumable uploads here
    try:
        await upload(place, "ro/f", data)
        assert await content(place, "ro/f") == data
        assert await names(place, place.path("ro")) == ["f"]
        new = set(await names(place, home)) - before
        assert not [name for name in new if name.startswith(".flamecrest-")]
        with pytest.raises(Denied):
            await upload(place, "ro/new", data)
    finally:
        await place.changes.chmod(place.path("ro"), "755", soon())


@pytest.mark.parametrize("write", [upload, resumable])
@CONTENTS
@pytest.mark.parametrize("old", [b"", LARGE * 2], ids=["grows", "shrinks"])
async def test_hard_links_stay_linked(place: Place, write, data: bytes, old: bytes) -> None:
    await upload(place, "f", old)
    await place.run('chmod 640 "$1/f" && ln "$1/f" "$1/g"', place.folder)
    before = await place.queries.stat(place.path("g"), soon())
    await write(place, "f", data)
    assert await content(place, "g") == data
    after = await place.queries.stat(place.path("f"), soon())
    assert (after.ino, after.nlink, after.mode) == (before.ino, 2, before.mode)
    assert await holds(place, place.folder, "f", "g")


@CONTENTS
async def test_mode_and_time_are_set_on_a_file_that_is_written_in_place(place: Place, data: bytes) -> None:
    await place.run('echo old >"$1/f" && ln "$1/f" "$1/g"', place.folder)
    await upload(place, "f", data, WriteOptions(mode=0o604, mtime=1_700_000_000, sync=True, report_stat=True))
    found = await place.queries.stat(place.path("g"), soon())
    assert (stat.S_IMODE(found.mode), found.mtime, found.size) == (0o604, 1_700_000_000, len(data))


@pytest.mark.parametrize("write", [upload, resumable])
@CONTENTS
@pytest.mark.parametrize(("old", "new"), [(0o4755, 0o755), (0o2755, 0o755), (0o2640, 0o2640), (0o1606, 0o1606)])
async def test_the_mode_is_that_after_a_write(place: Place, write, data: bytes, old: int, new: int) -> None:
    await place.run('echo old >"$1/f" && chmod "$2" "$1/f"', place.folder, f"{old:o}")
    await write(place, "f", data)
    assert (await mode(place, "f"), await content(place, "f")) == (new, data)


@CONTENTS
async def test_links_as_targets(place: Place, data: bytes) -> None:
    await place.run(
        'mkdir "$1/d" "$1/e" && echo old >"$1/e/f" && ln -s ../e/f "$1/d/l" && ln -s d/l "$1/chain" '
        '&& ln -s none "$1/nowhere" && ln -s loop "$1/loop" && ln -s d "$1/folder"',
        place.folder,
    )
    await upload(place, "chain", data)
    assert await content(place, "e/f") == data
    assert [await names(place, place.path(folder)) for folder in "de"] == [["l"], ["f"]]
    for name, error in (("nowhere", Conflict), ("loop", Conflict), ("folder", Invalid)):
        with pytest.raises(error):
            await upload(place, name, data)
    assert await names(place, place.folder) == ["chain", "d", "e", "folder", "loop", "nowhere"]


@pytest.mark.needs("disk", "faults")
@pytest.mark.parametrize("exists", [True, False])
async def test_nobody_else_can_open_the_data_of_a_resumable_upload(place: Place, exists: bool) -> None:
    """Not even while it is empty: an open file can be read later, too."""
    if exists:
        await place.run('echo old >"$1/f" && chmod 600 "$1/f"', place.folder)
    place.server.faults.slow = 0.02
    seen: set[int] = set()

    def look() -> None:
        for path in Path(place.folder).glob(".flamecrest-upload-*"):
            with suppress(FileNotFoundError):
                seen.add(stat.S_IMODE(path.stat().st_mode))

    creating = asyncio.create_task(RemoteUploads(place.session).create(place.path("f"), 3, "", soon()))
    while not creating.done():
        await asyncio.to_thread(look)
        await asyncio.sleep(0.002)
    await creating
    assert seen == {0o600}
