"""Contract of downloads and uploads: parts, files that change while they are read, atomic replacement."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from flamecrest.server.errors import Denied, Invalid, NotFound, PreconditionFailed, Upstream
from flamecrest.server.files.port import Files
from flamecrest.server.files.remote.agent_requests import SMALL
from flamecrest.server.files.values import ListOptions, Stat, WriteOptions
from flamecrest.server.http.headers.conditions import Validators
from flamecrest.server.ssh.errors import Lost

from .places import Place, soon

pytestmark = pytest.mark.anyio

BIG = os.urandom(1_000_003) * 3


async def send(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def put(place: Place, name: str, data: bytes = b"text\n", landing: WriteOptions | None = None) -> str:
    path = place.path(name)
    await place.content.upload(path, send(data), soon(), landing or WriteOptions())
    return path


async def part(files: Files, path: str, start: int, end: int | None) -> bytes:
    async with files.content.download(path, soon(), choose_start=lambda _: start) as reader:
        return b"".join([chunk async for chunk in reader.chunks(start, end)])


# --- downloads


@pytest.mark.parametrize("data", [b"0123456789", BIG], ids=["small", "big"])
async def test_byte_ranges(place, data):
    path = await put(place, "f", data)
    size = len(data)
    for start, end in ((0, None), (0, 1), (3, 7), (size - 1, size), (5, 5), (size, None), (size // 2, size - 2)):
        assert await part(place.files, path, start, end) == data[start:end]


async def test_several_ranges_of_one_open_file(place):
    path = await put(place, "f", BIG)
    async with place.content.download(path, soon()) as reader:
        for start, end in ((2_000_000, 2_500_000), (0, 10), (10, 300_000)):
            assert b"".join([chunk async for chunk in reader.chunks(start, end)]) == BIG[start:end]


async def test_no_start_means_the_file_is_not_opened(place):
    path = await put(place, "f")
    await place.changes.chmod(path, "000", soon())
    seen: list[Stat] = []

    def nothing(found: Stat) -> None:
        seen.append(found)

    async with place.content.download(path, soon(), choose_start=nothing) as reader:
        assert (reader.stat.size, [chunk async for chunk in reader.chunks()]) == (5, [])
    assert len(seen) == 1


async def test_error_of_choose_start_propagates(place):
    path = await put(place, "f")

    def refuse(_: Stat) -> int:
        raise PreconditionFailed("no")

    with pytest.raises(PreconditionFailed):
        async with place.content.download(path, soon(), choose_start=refuse):
            raise AssertionError("must not be opened")


def without_clocks(stat: Stat) -> Stat:
    """The attributes without atime, which a read changes, and without the time at which they were read."""
    return stat._replace(atime=0, clock=0)


async def test_attributes_identify_a_file_version(place):
    path = await put(place, "f")
    async with place.content.download(path, soon()) as reader:
        assert without_clocks(reader.stat) == without_clocks(await place.queries.stat(path, soon()))
        assert reader.stat.ino > 0
        assert reader.stat.mtime_ns // 10**9 == reader.stat.mtime
    landed = await place.content.upload(path, send(b"text\n"), soon(), WriteOptions(report_stat=True))
    after = await place.queries.stat(path, soon())
    assert without_clocks(landed.stat) == without_clocks(after)
    assert (after.ino, after.mtime_ns) != (reader.stat.ino, reader.stat.mtime_ns)


def shorten(file: Path) -> None:
    os.truncate(file, 600_000)


def write_over(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(2_900_000)
        opened.write(b"other")


def write_longer(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(b"longer" * 600_000)


def truncate_and_write_longer(file: Path) -> None:
    file.write_bytes(b"longer" * 600_000)


def write_over_and_restore_times(file: Path) -> None:
    before = file.stat()
    write_over(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(b"other")
    other.rename(file)


def append(file: Path) -> None:
    with file.open("ab") as opened:
        opened.write(b"more")


@pytest.mark.parametrize(
    ("change", "whole"),
    [
        (shorten, False),
        (write_over, False),
        (write_longer, False),
        (truncate_and_write_longer, False),
        (append, False),  # nothing proves that the old part is unchanged
        (replace, True),
        (Path.unlink, True),
    ],
)
@pytest.mark.needs("disk")
async def test_file_changed_during_a_download(place, change, whole):
    """A download fails if the content may no longer be that of the opened file."""
    path = await put(place, "f", BIG)
    os.utime(path, (1, 1))
    got = bytearray()

    async def read() -> None:
        async with place.content.download(path, soon()) as reader:
            async for chunk in reader.chunks():
                if not got:
                    change(Path(path))
                got.extend(chunk)

    if whole:
        await read()
        assert bytes(got) == BIG
    else:
        with pytest.raises(Upstream, match=r"shorter|changed|grew"):
            await read()
        assert len(got) < len(BIG)


@pytest.mark.needs("disk", "ssh")
async def test_modification_time_set_back_during_a_download(place):
    path = await put(place, "f", BIG)
    with pytest.raises(Upstream, match="changed"):
        async with place.content.download(path, soon()) as reader:
            async for _ in reader.chunks():
                write_over_and_restore_times(Path(path))


@pytest.mark.parametrize("path", ["/proc/self/status", "/proc/version", "/sys/kernel/mm/transparent_hugepage/enabled"])
async def test_files_of_unknown_size(place, path):
    if not Path(path).exists():
        pytest.skip("not on this machine")
    async with place.content.download(path, soon()) as reader:
        data = b"".join([chunk async for chunk in reader.chunks()])
        assert 0 < len(data) == reader.stat.size
        assert reader.stat.ino == 0


async def test_only_regular_files_are_opened(place):
    for path in ("/dev/null", place.folder):
        with pytest.raises(Invalid):
            await part(place.files, path, 0, None)
    with pytest.raises(NotFound):
        await part(place.files, place.path("none"), 0, None)
    await place.run('mkfifo "$1"', place.path("pipe"))
    with pytest.raises(Invalid):
        await part(place.files, place.path("pipe"), 0, None)
    with pytest.raises(Invalid):
        await put(place, "pipe")


# --- uploads


async def test_write_options(place):
    path = place.path("a/b/c/f")
    with pytest.raises(NotFound):
        await put(place, "a/b/c/f")
    how = WriteOptions(mode=0o640, mtime=1_700_000_000, parents=True, report_stat=True)
    landed = await place.content.upload(path, send(b"x"), soon(), how)
    assert landed.created
    found = await place.queries.stat(path, soon())
    assert without_clocks(landed.stat) == without_clocks(found)
    assert (stat.S_IMODE(found.mode), found.mtime, found.mtime_ns) == (0o640, 1_700_000_000, None)
    again = await place.content.upload(path, send(b"xy"), soon(), WriteOptions(parents=True, sync=True))
    assert (again.created, again.stat) == (False, None)
    assert stat.S_IMODE((await place.queries.stat(path, soon())).mode) == 0o640


async def test_parent_is_a_file(place):
    await put(place, "file")
    with pytest.raises(Invalid):
        await put(place, "file/a/f", landing=WriteOptions(parents=True))


@pytest.mark.needs("accounts")
async def test_parent_is_not_writable(place):
    await place.changes.mkdir(place.path("closed"), soon())
    await place.changes.chmod(place.path("closed"), "555", soon())
    with pytest.raises(Denied):
        await put(place, "closed/a/f", landing=WriteOptions(parents=True))
    await place.changes.chmod(place.path("closed"), "755", soon())


async def test_exclusive_upload(place):
    path = await put(place, "f", b"first", WriteOptions(exclusive=True))
    with pytest.raises(PreconditionFailed):
        await put(place, "f", b"second", WriteOptions(exclusive=True))
    await place.changes.symlink("/nowhere", place.path("link"), soon())
    with pytest.raises(PreconditionFailed):
        await put(place, "link", b"second", WriteOptions(exclusive=True))
    assert await part(place.files, path, 0, None) == b"first"
    assert await listed(place) == ["f", "link"]


SECOND = b"second" * SMALL  # more than one round trip


@pytest.mark.parametrize("stage", range(6))
@pytest.mark.needs("faults")
async def test_cancelled_upload_leaves_no_temporary_file(place, stage):
    """The upload is cancelled at each of its round trips; `stage` counts the slowed requests."""
    await put(place, "f", b"first")
    place.server.faults.slow = 0.04
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.02 + 0.04 * stage):
                await put(place, "f", SECOND)
    finally:
        place.server.faults.slow = 0
    async with asyncio.timeout(30):
        while await listed(place) != ["f"]:
            await asyncio.sleep(0.01)
    assert await part(place.files, place.path("f"), 0, None) in {b"first", SECOND}


@pytest.mark.needs("faults")
async def test_lost_connection_leaves_no_temporary_file(place):
    server = place.server

    async def cut() -> AsyncIterator[bytes]:
        yield b"x" * (SMALL + 1)  # more than one write
        while len(await listed(place)) == 1:
            await asyncio.sleep(0.01)
        server.drop()
        yield b"y"

    await put(place, "f", b"first")
    with pytest.raises(Lost):
        await place.content.upload(place.path("f"), cut(), soon())
    assert await listed(place) == ["f"]
    assert await part(place.files, place.path("f"), 0, None) == b"first"


async def listed(place) -> list[str]:
    return [entry.name for entry in await place.queries.ls(place.folder, soon(), ListOptions(hidden=True))]


async def test_one_of_concurrent_exclusive_uploads_wins(place):
    """All uploads check for the file before any of them writes."""
    barrier = asyncio.Barrier(5)

    async def slow(data: bytes) -> AsyncIterator[bytes]:
        await barrier.wait()
        yield data

    uploads = (
        place.content.upload(place.path("f"), slow(b"%d" % number), soon(), WriteOptions(exclusive=True))
        for number in range(5)
    )
    results = await asyncio.gather(*uploads, return_exceptions=True)
    assert sum(isinstance(result, PreconditionFailed) for result in results) == 4
    winner = next(number for number, result in enumerate(results) if not isinstance(result, PreconditionFailed))
    assert await part(place.files, place.path("f"), 0, None) == b"%d" % winner
    assert await listed(place) == ["f"]


async def test_precondition_is_checked_before_and_after_the_transfer(place):
    path = await put(place, "f", b"first")
    known = await place.queries.stat(path, soon())
    seen: list[Stat | None] = []

    def admit(there: Stat | None) -> None:
        seen.append(there)
        if there is None or there.version != known.version:
            raise PreconditionFailed("changed")

    async def meanwhile() -> AsyncIterator[bytes]:
        yield b"mine"
        await put(place, "f", b"theirs")

    with pytest.raises(PreconditionFailed):
        await place.content.upload(path, meanwhile(), soon(), WriteOptions(precondition=admit))
    assert seen[0] is not None
    assert seen[0].version == known.version
    assert len(seen) == 2
    with pytest.raises(PreconditionFailed):
        await place.content.upload(path, send(b"mine"), soon(), WriteOptions(precondition=admit))
    with pytest.raises(PreconditionFailed):
        await place.content.upload(place.path("none"), send(b"mine"), soon(), WriteOptions(precondition=admit))
    assert seen[-1] is None
    assert await part(place.files, path, 0, None) == b"theirs"
    assert await listed(place) == ["f"]


@pytest.mark.needs("ssh")
async def test_one_of_two_conditional_writers_wins(place):
    path = await put(place, "f", b"0")
    for number in range(6):
        known = await place.queries.stat(path, soon())
        both = asyncio.Barrier(2)

        def admit(there: Stat | None, known: Stat = known) -> None:
            if there is None or there.version != known.version:
                raise PreconditionFailed("changed")

        async def mine(data: bytes, both: asyncio.Barrier = both) -> AsyncIterator[bytes]:
            yield data
            await both.wait()

        how = WriteOptions(precondition=admit, report_stat=True)
        writes = (place.content.upload(path, mine(b"%d %d" % (number, one)), soon(), how) for one in range(2))
        done = await asyncio.gather(*writes, return_exceptions=True)
        won = [one for one, result in enumerate(done) if not isinstance(result, PreconditionFailed)]
        assert len(won) == 1, done
        assert await part(place.files, path, 0, None) == b"%d %d" % (number, won[0])
    assert await listed(place) == ["f"]


@pytest.mark.needs("ssh")
async def test_files_that_are_put_one_after_the_other_with_one_time_have_different_tags(place):
    how = WriteOptions(mtime=1_700_000_000, report_stat=True)
    tags = set()
    for number in range(6):
        done = await place.content.upload(place.path("f"), send(b"%d" % number), soon(), how)
        tags.add(Validators.of(done.stat, time.time(), written=True).etag)
    tags.add(Validators.of(await place.queries.stat(place.path("f"), soon()), time.time() + 9, written=True).etag)
    assert len(tags) == 6  # the last one is that of the file as it is now
    assert None not in tags


async def test_the_tag_of_a_new_file_is_that_of_the_file(place):
    how = WriteOptions(exclusive=True, report_stat=True)
    done = await place.content.upload(place.path("f"), send(b"new"), soon(), how)
    assert done.stat.version == (await place.queries.stat(place.path("f"), soon())).version


@pytest.mark.parametrize("name", ["", ".", "..", "sub/", "sub/."])
async def test_directory_is_not_a_target(place, name):
    await place.changes.mkdir(place.path("sub"), soon())
    with pytest.raises(Invalid):
        await put(place, name)
    assert await listed(place) == ["sub"]
