"""Contract of the operations beyond FirecREST v2: renaming, copying, space, checksums."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Conflict, Denied, Invalid, NotFound, Timeout, TooLarge

from .places import soon
from .test_files import SOME_AT_A_TIME, fetch, names, put

pytestmark = pytest.mark.anyio


# --- any name


@pytest.mark.parametrize("some", SOME_AT_A_TIME)
async def test_all_operations_accept_any_name(place, some):
    for name in some:
        if len(name) < 200:
            await through_every_operation(place, name)
            await place.changes.rm(place.folder, soon())
            await place.changes.mkdir(place.folder, soon())


async def through_every_operation(place, name: str) -> None:
    path = await put(place, name, b"twelve bytes")
    other, copy = path + ".2", path + ".3"
    await place.changes.mv(path, other, soon())
    await place.changes.cp(other, copy, soon())
    await place.changes.touch(copy, soon(), mtime=1_000_000_000)
    await place.changes.truncate(copy, 6, soon())
    await place.changes.touch(path, soon())
    assert await fetch(place, copy) == b"twelve"
    assert await fetch(place, path) == b""
    for algorithm in ("md5", "sha1", "sha256", "sha512", "blake2b"):
        expected = hashlib.new(algorithm, b"twelve bytes").hexdigest()
        assert await place.queries.checksum(other, soon(), algorithm=algorithm) == expected
    assert (await place.queries.du(other, soon())).size == 12
    assert (await place.queries.df(other, soon())).total > 0
    assert await names(place, hidden=True) == [name, name + ".2", name + ".3"]


# --- mv


async def test_mv_refuses_to_overwrite(place):
    one, two = await put(place, "one", b"1"), await put(place, "two", b"2")
    with pytest.raises(Conflict, match="File exists"):
        await place.changes.mv(one, two, soon())
    assert await fetch(place, two) == b"2"
    await place.changes.mv(one, two, soon(), overwrite=True)
    assert await fetch(place, two) == b"1"
    assert await names(place) == ["two"]


async def test_mv_does_not_follow_links(place):
    await put(place, "file", b"1")
    await place.changes.symlink(place.path("file"), place.path("link"), soon())
    await place.changes.symlink(place.path("nowhere"), place.path("dangling"), soon())
    with pytest.raises(Conflict, match="File exists"):
        await place.changes.mv(place.path("file"), place.path("dangling"), soon())
    await place.changes.mv(place.path("link"), place.path("moved"), soon())
    assert (await place.queries.entry(place.path("moved"), soon())).link_target == place.path("file")
    await place.changes.mv(place.path("file"), place.path("dangling"), soon(), overwrite=True)
    assert await fetch(place, place.path("dangling")) == b"1"
    assert await names(place) == ["dangling", "moved"]


async def test_mv_of_folders(place):
    await place.changes.mkdir(place.path("a/b"), soon(), parents=True)
    await place.changes.mkdir(place.path("empty"), soon())
    file = await put(place, "file")
    with pytest.raises(Conflict, match="File exists"):
        await place.changes.mv(place.path("a"), place.path("empty"), soon())
    with pytest.raises(Invalid, match="Not a directory"):
        await place.changes.mv(place.path("a"), file, soon(), overwrite=True)
    with pytest.raises(Invalid, match="Is a directory"):
        await place.changes.mv(file, place.path("empty"), soon(), overwrite=True)
    with pytest.raises(Invalid, match="into itself"):
        await place.changes.mv(place.path("a"), place.path("a/b/c"), soon())
    with pytest.raises(Conflict, match="not empty"):
        await place.changes.mv(place.path("empty"), place.path("a"), soon(), overwrite=True)
    await place.changes.mv(place.path("a/"), place.path("empty/"), soon(), overwrite=True)
    assert await names(place, recursive=True) == ["empty", "empty/b", "file"]


async def test_mv_names_the_missing_path(place):
    file = await put(place, "file")
    with pytest.raises(NotFound, match=r"cannot stat.*No such file"):
        await place.changes.mv(place.path("nothing"), place.path("x"), soon())
    with pytest.raises(NotFound, match="No such file"):
        await place.changes.mv(file, place.path("nothing/x"), soon())
    with pytest.raises((Invalid, NotFound)):  # OpenSSH reports the same error for both
        await place.changes.mv(file, file + "/x", soon())
    assert await names(place) == ["file"]


async def test_mv_to_another_file_system(place):
    file = await put(place, "file")
    here, there = await place.queries.stat(file, soon()), await place.queries.stat("/dev/shm", soon())
    if here.dev == there.dev:
        pytest.skip("only one file system")
    target = f"/dev/shm/flamecrest-{place.folder.rpartition('/')[2]}"
    with pytest.raises(Invalid, match=r"different file systems.*transfer/mv") as caught:
        await place.changes.mv(file, target, soon())
    assert "cannot move" in caught.value.public
    assert await names(place) == ["file"]


@pytest.mark.needs("accounts")
async def test_mv_without_permission(place):
    file = await put(place, "file")
    await place.changes.mkdir(place.path("closed"), soon())
    await place.changes.chmod(place.path("closed"), "500", soon())
    try:
        with pytest.raises(Denied):
            await place.changes.mv(file, place.path("closed/x"), soon())
    finally:
        await place.changes.chmod(place.path("closed"), "700", soon())


# --- cp


async def test_cp_keeps_attributes(place):
    file = await put(place, "file", b"x" * 100_000)
    await place.changes.chmod(file, "640", soon())
    await place.changes.touch(file, soon(), mtime=1_000_000_000)
    await place.changes.cp(file, place.path("copy"), soon())
    found = await place.queries.stat(place.path("copy"), soon())
    assert (stat.S_IMODE(found.mode), found.mtime, found.size) == (0o640, 1_000_000_000, 100_000)
    assert await names(place, hidden=True) == ["copy", "file"]


async def test_cp_of_a_tree(place):
    await place.changes.mkdir(place.path("tree/deep"), soon(), parents=True)
    await put(place, "tree/deep/file", b"1")
    await place.changes.symlink("file", place.path("tree/deep/link"), soon())
    await place.run('mkfifo "$1/fifo"', place.path("tree"))
    await place.changes.cp(place.path("tree/"), place.path("copy"), soon())
    assert await names(place, recursive=True, hidden=True) == [
        "copy", "copy/deep", "copy/deep/file", "copy/deep/link", "copy/fifo",
        "tree", "tree/deep", "tree/deep/file", "tree/deep/link", "tree/fifo",
    ]  # fmt: skip
    assert (await place.queries.entry(place.path("copy/deep/link"), soon())).link_target == "file"
    await place.changes.cp(place.path("tree/deep"), place.path("followed"), soon(), dereference=True)
    assert (await place.queries.entry(place.path("followed/link"), soon())).kind == "-"


async def test_cp_overwrites_only_with_the_option(place):
    one, two = await put(place, "one", b"1"), await put(place, "two", b"2")
    with pytest.raises(Conflict, match="File exists"):
        await place.changes.cp(one, two, soon())
    assert await fetch(place, two) == b"2"
    await place.changes.cp(one, two, soon(), overwrite=True)
    assert await fetch(place, two) == b"1"
    await place.changes.symlink(place.path("nowhere"), place.path("dangling"), soon())
    with pytest.raises(Conflict, match="File exists"):
        await place.changes.cp(one, place.path("dangling"), soon())
    with pytest.raises(Invalid):
        await place.changes.cp(one, one, soon(), overwrite=True)
    assert await names(place, hidden=True) == ["dangling", "one", "two"]


@pytest.mark.needs("deadlines")
async def test_extract_opens_only_a_regular_file(place):
    """To open a FIFO would block until the time limit."""
    await place.run('mkfifo "$1"', place.path("fifo"))
    with pytest.raises(Invalid, match="Not a regular file"):
        await place.changes.extract(place.path("fifo"), place.folder, soon())


async def test_cp_merges_folders_only_with_the_option(place):
    for path in ("a/x", "b/x", "b/y"):
        await place.changes.mkdir(place.path(path.rpartition("/")[0]), soon(), parents=True)
        await put(place, path, path.encode())
    file = await put(place, "file")
    with pytest.raises(Conflict, match="File exists"):
        await place.changes.cp(place.path("a"), place.path("b"), soon())
    await place.changes.cp(place.path("a"), place.path("b"), soon(), overwrite=True)
    assert await fetch(place, place.path("b/x")) == b"a/x"
    assert await fetch(place, place.path("b/y")) == b"b/y"
    with pytest.raises(Invalid, match="Is a directory"):
        await place.changes.cp(file, place.path("b"), soon(), overwrite=True)
    with pytest.raises(Invalid, match="Not a directory"):
        await place.changes.cp(place.path("b"), file, soon(), overwrite=True)
    with pytest.raises(Invalid, match="into itself"):
        await place.changes.cp(place.path("a"), place.path("a/c"), soon())
    assert await names(place, hidden=True, recursive=True) == ["a", "a/x", "b", "b/x", "b/y", "file"]


async def test_cp_names_the_missing_path(place):
    file = await put(place, "file")
    with pytest.raises(NotFound, match="No such file"):
        await place.changes.cp(place.path("nothing"), place.path("x"), soon())
    with pytest.raises(NotFound, match="No such file"):
        await place.changes.cp(file, place.path("nothing/x"), soon())
    assert await names(place, hidden=True) == ["file"]


class EndlessCopy:
    """A `cp` that copies and then blocks on a pipe without a writer."""

    def __init__(self, root: Path) -> None:
        os.mkfifo(root / "gate")
        self._pid = root / "waits"
        program = root / "bin" / "cp"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n/bin/cp \"$@\" && echo $$ > '{self._pid}.new' || exit\n")
        with program.open("a") as script:
            script.write(f"mv '{self._pid}.new' '{self._pid}'\nread line < '{root}/gate'\n")
        program.chmod(0o755)

    @property
    def waits(self) -> bool:
        """Whether a copy has reached the pipe."""
        return self._pid.exists()

    @property
    def ended(self) -> bool:
        return not Path("/proc", self._pid.read_text().strip()).exists()


@pytest.fixture
def endless(tmp_path: Path) -> EndlessCopy:
    return EndlessCopy(tmp_path)


async def left_over(place, endless: EndlessCopy) -> list[str]:
    """The names once the copy has ended and its temporary files are gone, or after 30 seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(30):
            while (
                not endless.ended or len(await names(place, hidden=True)) > 1
            ):  # the program removes its files on exit
                await asyncio.sleep(0.01)
    assert endless.ended
    return await names(place, hidden=True)


@pytest.mark.needs("faults")
async def test_cancelled_copy_leaves_nothing(place, endless):
    await place.changes.mkdir(place.path("tree/deep"), soon(), parents=True)
    copying = asyncio.create_task(place.changes.cp(place.path("tree"), place.path("copy"), Deadline.after(60)))
    async with asyncio.timeout(30):
        while not endless.waits:
            await asyncio.sleep(0.01)
    assert len(await names(place, hidden=True)) == 2
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    assert await left_over(place, endless) == ["tree"]


@pytest.mark.needs("faults")
async def test_copy_ends_at_its_deadline(place, endless):
    await place.changes.mkdir(place.path("tree/deep"), soon(), parents=True)
    seconds = 0.25
    while not endless.waits:  # repeat if the deadline expired before the copy began
        seconds *= 2
        with pytest.raises(Timeout):
            await place.changes.cp(place.path("tree"), place.path("copy"), Deadline.after(seconds))
    assert await left_over(place, endless) == ["tree"]


# --- touch, truncate, mkdir, links


async def test_touch(place):
    await place.changes.touch(place.path("new"), soon(), mtime=1_234_567_890)
    assert (await place.queries.stat(place.path("new"), soon())).mtime == 1_234_567_890
    path = await put(place, "old", b"kept")
    await place.changes.touch(path, soon(), mtime=5)
    assert (await place.queries.stat(path, soon())).mtime == 5
    await place.changes.touch(path, soon())
    assert (await place.queries.stat(path, soon())).mtime > 1_700_000_000
    assert await fetch(place, path) == b"kept"
    await place.run('mkfifo "$1"', place.path("fifo"))
    await place.changes.touch(place.path("fifo"), soon())
    await place.changes.touch(place.path("fifo"), soon(), mtime=7)
    assert (await place.queries.stat(place.path("fifo"), soon())).mtime == 7
    with pytest.raises(NotFound, match="No such file"):
        await place.changes.touch(place.path("none/x"), soon())


async def test_truncate(place):
    path = await put(place, "file", b"0123456789")
    await place.changes.truncate(path, 4, soon())
    assert await fetch(place, path) == b"0123"
    await place.changes.truncate(path, 6, soon())
    assert await fetch(place, path) == b"0123\0\0"
    if not await place.run('truncate -s 4E "$1" 2> "$1.said" && echo "it does" || true', place.path("takes any size")):
        with pytest.raises(TooLarge, match="more than the file system or your quota takes"):
            await place.changes.truncate(path, 2**62, soon())
        assert await fetch(place, path) == b"0123\0\0"
    with pytest.raises(NotFound, match="No such file"):
        await place.changes.truncate(place.path("none"), 4, soon())
    with pytest.raises(Invalid, match="Is a directory"):
        await place.changes.truncate(place.folder, 4, soon())
    await place.run('mkfifo "$1"', place.path("fifo"))
    with pytest.raises(Invalid, match="Not a regular file"):
        await place.changes.truncate(place.path("fifo"), 4, soon())


async def test_mkdir_of_what_exists(place):
    await place.changes.mkdir(place.path("d"), soon(), exist_ok=True)
    await place.changes.mkdir(place.path("d"), soon(), exist_ok=True)
    file = await put(place, "file")
    for path in (file, place.path("file/x")):
        with pytest.raises((Conflict, Invalid, NotFound)):
            await place.changes.mkdir(path, soon(), exist_ok=True)
    with pytest.raises(NotFound):
        await place.changes.mkdir(place.path("none/x"), soon(), exist_ok=True)


async def test_relative_links(place):
    await put(place, "file", b"1")
    await place.changes.symlink("file", place.path("link"), soon())
    assert (await place.queries.entry(place.path("link"), soon())).link_target == "file"
    assert await fetch(place, place.path("link")) == b"1"


# --- space


async def test_df(place):
    space = await place.queries.df(place.folder, soon())
    assert 0 < space.available <= space.free <= space.total
    assert 0 <= space.files_free <= space.files
    assert space.read_only in {False, None}
    assert space.quota is None or space.quota.user or space.quota.group  # according to `quota` on the cluster
    with pytest.raises(NotFound, match="No such file"):
        await place.queries.df(place.path("none"), soon())


async def test_du(place):
    await place.changes.mkdir(place.path("tree/deep"), soon(), parents=True)
    await put(place, "tree/deep/file", b"x" * 10_000)
    empty = await place.queries.du(place.path("tree"), soon())
    await place.run('cd "$1" && ln file other && ln -s file link && mkfifo fifo', place.path("tree/deep"))
    usage = await place.queries.du(place.path("tree"), soon())
    assert usage.entries == empty.entries + 2 == 5  # a hard link takes no space
    assert 10_000 <= empty.size < usage.size
    assert usage.allocated >= 8192
    assert usage.complete
    assert (await place.queries.du(place.path("tree/deep/link"), soon())).entries == 1
    with pytest.raises(NotFound, match="No such file"):
        await place.queries.du(place.path("none"), soon())


async def test_checksum_of_other_file_types(place):
    await place.run('mkfifo "$1"', place.path("fifo"))
    for algorithm in ("md5", "blake2b"):
        with pytest.raises(Invalid, match="Not a regular file"):
            await place.queries.checksum(place.path("fifo"), soon(), algorithm=algorithm)
        with pytest.raises(Invalid, match="Is a directory"):
            await place.queries.checksum(place.folder, soon(), algorithm=algorithm)


# --- ls
