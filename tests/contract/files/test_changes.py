"""Contract of changes to files: uploads, folders, links, modes, archives."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Conflict, Denied, GatewayError, Invalid, NotFound
from flamecrest.server.files.values import CompressOptions, ListOptions

from .places import soon
from .test_files import fetch, names, put

pytestmark = pytest.mark.anyio


@pytest.mark.without_subsystem
async def test_an_upload_replaces_atomically_and_keeps_the_mode(place):
    path = await put(place, "file", b"old")
    await place.changes.chmod(path, "640", soon())
    started, go = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"ne"
        started.set()
        await go.wait()
        yield b"w"

    task = asyncio.create_task(place.content.upload(path, slowly(), soon()))
    await started.wait()
    assert await fetch(place, path) == b"old"
    go.set()
    await task
    assert await fetch(place, path) == b"new"
    assert (await place.queries.entry(path, soon())).permissions == "rw-r-----"
    assert await names(place, hidden=True) == ["file"]


@pytest.mark.without_subsystem
@pytest.mark.parametrize("how", ["fails", "is cancelled"])
async def test_failed_upload_changes_nothing(place, how):
    path = await put(place, "file", b"old")
    started = asyncio.Event()

    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        started.set()
        if how == "fails":
            raise Invalid("the client went away")
        await asyncio.Event().wait()

    task = asyncio.create_task(place.content.upload(path, broken(), soon()))
    await started.wait()
    if how == "is cancelled":
        task.cancel()
    with pytest.raises((Invalid, asyncio.CancelledError)):
        await task
    async with asyncio.timeout(30):
        while await names(place, hidden=True) != ["file"]:
            await asyncio.sleep(0.01)
    assert await fetch(place, path) == b"old"


async def test_upload_to_a_symlink_replaces_its_target(place):
    path = await put(place, "file", b"old")
    await place.changes.symlink(path, place.path("link"), soon())
    await put(place, "link", b"new")
    assert await fetch(place, path) == b"new"
    assert (await place.queries.entry(place.path("link"), soon())).kind == "l"
    await place.changes.symlink(place.path("nowhere"), place.path("dangling"), soon())
    with pytest.raises(Conflict):
        await put(place, "dangling")


async def test_mkdir(place):
    path = place.path("a/b/c")
    await place.changes.mkdir(path, soon(), parents=True)
    await place.changes.mkdir(path, soon(), parents=True)
    await place.changes.mkdir(place.path("d") + "/", soon())
    with pytest.raises(Conflict, match="File exists"):
        await place.changes.mkdir(path, soon())
    file = await put(place, "file")
    with pytest.raises(Conflict, match="File exists"):
        await place.changes.mkdir(file, soon(), parents=True)
    with pytest.raises(GatewayError):
        await place.changes.mkdir(file + "/below", soon(), parents=True)


async def test_symlink_refuses_existing_path(place):
    path = await put(place, "file")
    with pytest.raises(Conflict, match="File exists"):
        await place.changes.symlink("/tmp", path, soon())


@pytest.mark.without_subsystem
async def test_rm_removes_trees_and_links_but_not_link_targets(place):
    await place.changes.mkdir(place.path("tree/x/y"), soon(), parents=True)
    kept = await put(place, "kept")
    await place.changes.symlink(kept, place.path("tree/x/link"), soon())
    await place.changes.symlink(place.path("tree"), place.path("link"), soon())
    await place.changes.rm(place.path("link"), soon())
    await place.changes.rm(place.path("tree"), soon())
    assert await names(place) == ["kept"]


BAD_MODES = ["", "8", "999", "77777", "u+y", "a=b=c", "-x -y", "644; id", "+", "u+x,", "x" * 1000]


async def test_invalid_mode_is_refused(place):
    path = await put(place, "file")
    before = await place.queries.stat(path, soon())
    taken = []
    for mode in BAD_MODES:
        try:
            await place.changes.chmod(path, mode, soon())
        except Invalid:
            continue
        taken.append(mode)
    assert taken == ["+"]  # valid for chmod: adds no permission
    assert (await place.queries.stat(path, soon())).mode == before.mode


@pytest.mark.parametrize(
    ("mode", "expected"), [("0750", 0o750), ("4755", 0o4755), ("u=rw,go=", 0o600), ("a+X,o-r", 0o640)]
)
async def test_modes(place, mode, expected):
    path = await put(place, "file")
    await place.changes.chmod(path, mode, soon())
    assert stat.S_IMODE((await place.queries.stat(path, soon())).mode) == expected


@pytest.mark.parametrize("owner", ["nosuchuser", "a:b", "a b", "$(id)", "-x", "x" * 200, "a\nb"])
async def test_invalid_owner_is_refused(place, owner):
    path = await put(place, "file")
    for who in ({"owner": owner, "group": ""}, {"owner": "", "group": owner}):
        with pytest.raises(Invalid):
            await place.changes.chown(path, deadline=soon(), **who)


# --- archives


@pytest.mark.parametrize("source", ["file", "link"])
async def test_a_file_is_not_packed_into_itself(place, source):
    """The archive would take the place of its own content; that of a link has none of it."""
    await put(place, "file", b"content")
    await place.changes.symlink(place.path("file"), place.path("link"), soon())
    with pytest.raises(Invalid, match="are the same file"):
        await place.changes.compress(place.path(source), place.path("file"), soon())
    assert await fetch(place, place.path("file")) == b"content"
    assert await names(place) == ["file", "link"]


@pytest.mark.parametrize("compression", ["none", "gzip", "bzip2", "xz"])
async def test_archives_keep_the_top_folder(place, compression):
    await place.changes.mkdir(place.path("top/sub"), soon(), parents=True)
    await put(place, "top/sub/file", b"data")
    archive = place.path("archive")
    await place.changes.compress(place.path("top"), archive, soon(), CompressOptions(compression=compression))
    await place.changes.extract(archive, place.path("out"), soon(), compression=compression)
    assert await fetch(place, place.path("out/top/sub/file")) == b"data"


async def test_archive_patterns_and_invalid_archives(place):
    await place.changes.mkdir(place.path("top"), soon())
    await put(place, "top/a.txt")
    await put(place, "top/b.dat")
    await put(place, "sibling.txt")
    await place.changes.compress(place.path("top"), place.path("x.tgz"), soon(), CompressOptions(pattern=r".*\.txt"))
    await place.changes.extract(place.path("x.tgz"), place.path("out"), soon())
    assert [e.name for e in await place.queries.ls(place.path("out"), soon(), ListOptions(recursive=True))] == [
        "top",
        "top/a.txt",
    ]
    with pytest.raises(Invalid):
        await place.changes.extract(await put(place, "no archive"), place.path("out2"), soon())
    with pytest.raises(NotFound, match="pattern"):
        await place.changes.compress(place.path("top"), place.path("y.tgz"), soon(), CompressOptions(pattern="nothing"))


# --- limits


@pytest.mark.needs("deadlines")
async def test_expired_deadline_is_a_timeout(place):
    from flamecrest.server.errors import Busy, Timeout

    await place.queries.stat(place.folder, soon())
    for operation in (place.queries.checksum, place.queries.stat, place.queries.ls):
        with pytest.raises((Timeout, Busy)):
            await operation(place.folder, Deadline.after(0))


@pytest.mark.needs("accounts")
async def test_files_of_other_users_are_denied(place):
    if place.ssh.server is not None:
        bob = place.folder.replace("/ann/", "/bob/").rpartition("/")[0]
        secret = f"{bob}/secret"
        Path(secret).write_text("secret")
        paths = [secret]
    else:
        paths = ["/etc/shadow"]
    for path in paths:
        for operation in (
            place.queries.view(path, soon(), offset=0, size=9),
            fetch(place, path),
            put(place, "../../bob/x"),
        ):
            with pytest.raises((Denied, NotFound)) as caught:
                await operation
            assert caught.type is Denied or place.ssh.server is None
