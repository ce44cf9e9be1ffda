"""Contract of changes at links to folders, trailing slashes, `.` and `..`: nothing behind a link is touched."""

from __future__ import annotations

import asyncio
import stat

import pytest

from flamecrest.server.errors import GatewayError, Invalid

from .places import soon
from .test_files import fetch, names, put

pytestmark = pytest.mark.anyio


@pytest.fixture
async def linked(place):
    """A folder `real` with a file in it, a link `link` to it, and a file."""
    await place.changes.mkdir(place.path("real/sub"), soon(), parents=True)
    await put(place, "real/kept", b"kept")
    await place.changes.symlink("real", place.path("link"), soon())
    await put(place, "file", b"file")
    return place


UNCHANGED = ["file", "link", "real", "real/kept", "real/sub"]


@pytest.mark.without_subsystem
@pytest.mark.parametrize(
    "path", ["link/", "link//", "link/.", "file/", "real/.", "real/..", "real/sub/./", "real/./.."]
)
async def test_rm_that_is_refused_removes_nothing(linked, path):
    with pytest.raises(Invalid):
        await linked.changes.rm(linked.path(path), soon())
    assert await names(linked, recursive=True) == UNCHANGED


async def test_rm_of_a_folder_with_a_trailing_slash(linked):
    await linked.changes.rm(linked.path("real/"), soon())
    assert await names(linked) == ["file", "link"]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("file", "new/"),
        ("file/", "new"),
        ("link/", "new"),
        ("link", "new/"),
        ("file", "link/"),
        ("real/sub", "link/"),
        ("file", "real/."),
        ("real/.", "new"),
        ("real/sub/..", "new"),
        ("real", "real"),
        ("file", "./file"),
    ],
)
async def test_mv_that_fails_moves_nothing(linked, source, target):
    with pytest.raises(GatewayError):
        await linked.changes.mv(linked.path(source), linked.path(target), soon(), overwrite=True)
    assert await names(linked, recursive=True) == UNCHANGED


async def test_mv_onto_a_hard_link_of_the_file_is_refused(linked):
    await linked.run('ln "$1" "$2"', linked.path("file"), linked.path("same"))
    with pytest.raises(Invalid, match="same file"):
        await linked.changes.mv(linked.path("file"), linked.path("same"), soon(), overwrite=True)
    assert await names(linked) == ["file", "link", "real", "same"]


async def test_mv_of_a_link_onto_what_it_leads_to_is_refused(linked):
    for name, target in (("one", "file"), ("two", "one"), ("none", "nowhere")):
        await linked.changes.symlink(target, linked.path(name), soon())
    for name in ("one", "two"):
        with pytest.raises(Invalid, match="same file"):
            await linked.changes.mv(linked.path(name), linked.path("file"), soon(), overwrite=True)
    await linked.changes.mv(linked.path("two"), linked.path("one"), soon(), overwrite=True)
    await linked.changes.mv(linked.path("none"), linked.path("one"), soon(), overwrite=True)
    assert await names(linked) == ["file", "link", "one", "real"]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("file", "new/"),
        ("file", "link/"),
        ("real/sub", "link/"),
        ("file/", "new"),
        ("real", "real/sub"),
        ("real", "link/."),
    ],
)
async def test_cp_that_fails_copies_nothing(linked, source, target):
    with pytest.raises(GatewayError):
        await linked.changes.cp(linked.path(source), linked.path(target), soon(), overwrite=True)
    assert await names(linked, recursive=True, hidden=True) == UNCHANGED
    assert await fetch(linked, linked.path("real/kept")) == b"kept"


@pytest.mark.without_subsystem
async def test_cp_writes_through_no_link_in_the_target(linked):
    await linked.changes.mkdir(linked.path("new/deep"), soon(), parents=True)
    await put(linked, "new/kept", b"new")
    await put(linked, "new/deep/kept", b"new")
    await linked.changes.mkdir(linked.path("old/deep"), soon(), parents=True)
    for name in ("old/kept", "old/deep/kept"):
        await linked.changes.symlink(linked.path("real/kept"), linked.path(name), soon())
    await linked.changes.cp(linked.path("new"), linked.path("old"), soon(), overwrite=True)
    assert await fetch(linked, linked.path("real/kept")) == b"kept"
    for name in ("old/kept", "old/deep/kept"):
        assert (await linked.queries.entry(linked.path(name), soon())).kind == "-"
        assert await fetch(linked, linked.path(name)) == b"new"
    # a link to a folder is no folder to merge into: refused before anything is copied
    await put(linked, "old/kept", b"old")
    await linked.changes.rm(linked.path("old/deep"), soon())
    await linked.changes.symlink(linked.path("real"), linked.path("old/deep"), soon())
    with pytest.raises(Invalid, match="Not a directory"):
        await linked.changes.cp(linked.path("new"), linked.path("old"), soon(), overwrite=True)
    assert await fetch(linked, linked.path("old/kept")) == b"old"
    assert await names(linked, recursive=True, hidden=True) == [
        *UNCHANGED[:2], "new", "new/deep", "new/deep/kept", "new/kept", "old", "old/deep", "old/kept", *UNCHANGED[2:],
    ]  # fmt: skip


async def test_cp_merges_write_protected_folders_with_their_modes(place):
    await place.run(
        'cd "$1" && mkdir -p from/closed from/both to/both && touch from/closed/a from/both/b', place.folder
    )
    await place.run('cd "$1" && chmod 555 from/closed from/both && chmod 700 to', place.folder)
    for target in ("to", "whole"):
        await place.changes.cp(place.path("from"), place.path(target), soon(), overwrite=True)
        for name, mode in (("", 0o755), ("/closed", 0o555), ("/both", 0o555)):
            found = await place.queries.stat(place.path(target + name), soon())
            assert stat.S_IMODE(found.mode) == mode
    await place.changes.cp(place.path("from/closed"), place.path("alone"), soon())
    assert stat.S_IMODE((await place.queries.stat(place.path("alone"), soon())).mode) == 0o555
    assert await names(place, hidden=True) == ["alone", "from", "to", "whole"]
    await place.run('chmod -R u+w "$1"', place.folder)


@pytest.mark.needs("deadlines")
async def test_copies_cancelled_at_any_moment_leave_nothing(place):
    await place.run('mkdir "$1/tree" && cd "$1/tree" && seq 500 | xargs touch', place.folder)
    for moment in range(10):
        copying = asyncio.create_task(place.changes.cp(place.path("tree"), place.path("copy"), soon(), overwrite=True))
        await asyncio.sleep(moment * 0.02)
        copying.cancel()
        await asyncio.wait([copying])
    async with asyncio.timeout(20):
        while b".f7t" in await place.run('ls -A "$1"', place.folder):
            await asyncio.sleep(0.05)
