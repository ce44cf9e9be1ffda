"""Contract of the Files port, with names and sizes of every kind."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncIterator

import pytest

from flamecrest.server.errors import Invalid, NotFound, TooLarge, Upstream
from flamecrest.server.files.listing_filter import ALL_ENTRIES, ListingFilter
from flamecrest.server.files.values import CompressOptions, ListOptions, TextRange

from .places import soon

pytestmark = pytest.mark.anyio

NAMES = [
    "plain.txt",
    "it's",
    'say "hi"',
    "a b  c ",
    "-rf",
    "--help",
    "x'; touch pwned; '",
    "$(touch pwned)",
    "`touch pwned`",
    "a\nb",
    "tab\there",
    "back\\slash",
    "*?[x]",
    "R&D <x>",
    "ümläut 日本語 🔥",
    "%2e%2e%2f",
    "~",
    ".hidden",
    "..almost",
    "|pipe|",
    "\x1f",
    "\x7f\x01",
    os.fsdecode(b"not utf-8 \xff\xfe"),
    "n" * 255,
]
FEW = [  # with several dangers in one name
    "x'; touch pwned; '$(touch pwned)`touch pwned`",
    'a b  "c\nd\te\\f*?[x]|R&D <x>\x1f\x7f\x01',
    os.fsdecode("ümläut 日本語 🔥%2e%2e%2f".encode() + b"\xff\xfe"),
    "-rf",
    "..almost",
    "n" * 255,
]
SOME_AT_A_TIME = [
    FEW,
    *(pytest.param(NAMES[at : at + 6], marks=pytest.mark.live) for at in range(0, len(NAMES), 6)),
]


async def send(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def fetch(place, path: str) -> bytes:
    async with place.content.download(path, soon()) as reader:
        data = b"".join([chunk async for chunk in reader.chunks()])
        assert len(data) == reader.stat.size
        return data


async def put(place, name: str, data: bytes = b"text\n") -> str:
    path: str = place.path(name)
    await place.content.upload(path, send(data), soon())
    return path


async def names(place, listing_filter: ListingFilter = ALL_ENTRIES, **options: bool) -> list[str]:
    entries = await place.queries.ls(place.folder, soon(), ListOptions(**options), listing_filter=listing_filter)
    return [entry.name for entry in entries]


# --- any name


@pytest.mark.parametrize("some", SOME_AT_A_TIME)
async def test_any_byte_sequence_is_a_valid_name(place, some):
    for name in some:
        await is_a_name(place, name)


async def is_a_name(place, name: str) -> None:
    data = b"content of \x00\xff" + os.fsencode(name)
    path = await put(place, name, data)
    assert await fetch(place, path) == data
    assert await names(place, hidden=True) == [name]
    assert (await place.queries.stat(path, soon())).size == len(data)
    assert await place.queries.checksum(path, soon()) == hashlib.sha256(data).hexdigest()
    assert await place.queries.file_type(path, soon()) == "data"
    await place.changes.chmod(path, "600", soon())
    await place.changes.chmod(path, "u+x", soon())
    entry = await place.queries.entry(path, soon())
    assert (entry.name, entry.permissions) == (path, "rwx------")
    await place.changes.chown(path, "", "", soon())
    if len(name) < 200:
        await place.changes.symlink(path, path + ".l", soon())
        assert (await place.queries.entry(path + ".l", soon())).link_target == path
        await place.changes.rm(path + ".l", soon())
        await place.changes.mkdir(path + ".d", soon())
        await place.changes.compress(path, path + ".d/x.tar", soon(), CompressOptions(compression="none"))
        await place.changes.extract(path + ".d/x.tar", path + ".d/out", soon(), compression="none")
        assert await fetch(place, f"{path}.d/out/{name}") == data
        await place.changes.rm(path + ".d", soon())
    await place.changes.rm(path, soon())
    assert await names(place, hidden=True) == []


# --- ls


@pytest.mark.without_subsystem
async def test_ls_equals_ls_of_coreutils(place):
    await put(place, "b.txt", b"12345")
    await put(place, ".hidden")
    await place.changes.mkdir(place.path("a"), soon())
    await place.changes.symlink(place.path("b.txt"), place.path("link"), soon())
    await place.changes.symlink(place.path("nowhere"), place.path("dangling"), soon())
    entries = {entry.name: entry for entry in await place.queries.ls(place.folder, soon())}
    assert list(entries) == ["a", "b.txt", "dangling", "link"]
    assert {name: entry.kind for name, entry in entries.items()} == {
        "a": "d",
        "b.txt": "-",
        "link": "l",
        "dangling": "l",
    }
    assert entries["link"].link_target == place.path("b.txt")
    assert (entries["b.txt"].user, entries["b.txt"].group) == place.owner
    assert entries["b.txt"].size == 5
    assert entries["b.txt"].permissions == "rw-r--r--"
    assert len(entries["b.txt"].modified) == len("2026-11-21T21:15:48")
    assert ".hidden" in await names(place, hidden=True)
    numeric = (await place.queries.ls(place.path("b.txt"), soon(), ListOptions(numeric=True)))[0]
    assert numeric.user.isdigit()
    assert numeric.name == place.path("b.txt")


async def test_ls_with_dereference_shows_targets_and_keeps_dangling_links(place):
    await put(place, "file", b"12345")
    await place.changes.symlink(place.path("file"), place.path("link"), soon())
    await place.changes.symlink(place.path("nowhere"), place.path("dangling"), soon())
    entries = {
        entry.name: entry for entry in await place.queries.ls(place.folder, soon(), ListOptions(dereference=True))
    }
    assert (entries["link"].kind, entries["link"].size, entries["link"].link_target) == ("-", 5, None)
    assert entries["link"].user == place.owner[0]
    assert entries["dangling"].kind == "l"
    assert entries["dangling"].link_target == place.path("nowhere")


async def test_ls_of_a_link_to_a_folder(place):
    await place.changes.mkdir(place.path("folder"), soon())
    await put(place, "folder/inside")
    await place.changes.symlink(place.path("folder"), place.path("link"), soon())
    assert [e.kind for e in await place.queries.ls(place.path("link"), soon())] == ["l"]
    assert [e.name for e in await place.queries.ls(place.path("link/"), soon())] == ["inside"]
    assert [e.name for e in await place.queries.ls(place.path("link"), soon(), ListOptions(dereference=True))] == [
        "inside"
    ]


@pytest.mark.without_subsystem
async def test_ls_recursive_joins_names_and_enters_no_link(place):
    await place.changes.mkdir(place.path("a/b/c"), soon(), parents=True)
    await put(place, "a/b/file")
    await put(place, "a.txt")
    await place.changes.symlink(place.folder, place.path("a/loop"), soon())
    found = await names(place, recursive=True)
    assert found == ["a", "a/b", "a/b/c", "a/b/file", "a/loop", "a.txt"]
    assert await names(place, recursive=True, dereference=True) == found


async def test_ls_of_many_files(place):
    await asyncio.gather(*(put(place, f"f{n:04}", b"") for n in range(350)))
    assert await names(place) == [f"f{n:04}" for n in range(350)]


# --- stat


async def test_stat_equals_os_stat(place):
    path = await put(place, "file", b"123")
    await place.changes.symlink(path, place.path("link"), soon())
    found = await place.queries.stat(path, soon())
    assert stat.S_ISREG(found.mode)
    assert (found.size, found.nlink) == (3, 1)
    assert found.ino > 0
    assert abs(found.ctime - found.mtime) <= 1
    assert stat.S_ISLNK((await place.queries.stat(place.path("link"), soon())).mode)
    assert (await place.queries.stat(place.path("link"), soon(), follow=True)).ino == found.ino


MISSING = [
    (lambda files, path: files.queries.stat(path, soon()), "cannot statx '{}': No such file or directory"),
    (lambda files, path: files.queries.ls(path, soon()), "'{}': No such file or directory"),
    (lambda files, path: files.queries.file_type(path, soon()), "No such file or directory"),
    (lambda files, path: files.queries.view(path, soon(), offset=0, size=9), "No such file or directory"),
    (lambda files, path: files.queries.checksum(path, soon()), "No such file or directory"),
    (lambda files, path: files.changes.rm(path, soon()), "No such file or directory"),
    (lambda files, path: files.changes.chmod(path, "644", soon()), "No such file or directory"),
    (lambda files, path: files.changes.chmod(path, "u+x", soon()), "No such file or directory"),
    (lambda files, path: files.changes.chown(path, "root", "", soon()), "No such file or directory"),
    (lambda files, path: files.changes.chown(path, "", "", soon()), "No such file or directory"),
    (lambda files, path: files.changes.mkdir(path + "/x", soon()), "No such file or directory"),
    (lambda files, path: files.changes.symlink("/tmp", path + "/x", soon()), "No such file or directory"),
    (lambda files, path: files.content.upload(path + "/x", send(b""), soon()), "No such file or directory"),
    (lambda files, path: files.changes.compress(path, path + ".tar", soon()), "No such file or directory"),
    (lambda files, path: files.changes.extract(path, path + ".d", soon()), "No such file or directory"),
]


async def test_missing_path_is_not_found(place):
    path = place.path("it's none")
    for operation, text in MISSING:
        said = ""
        try:
            await operation(place.files, path)
        except NotFound as error:
            said = error.public
        assert text.format(path) in said, MISSING.index((operation, text))


# --- reading


@pytest.mark.without_subsystem
async def test_head_tail_and_view(place):
    lines = [f"line {n}\n" for n in range(1, 101)]
    path = await put(place, "lines", "".join(lines).encode())

    async def head(count, unit="lines", skip=False):
        return await place.queries.head(path, soon(), TextRange(count=count, unit=unit, skip=skip, limit=10**6))

    async def tail(count, unit="lines", skip=False):
        return await place.queries.tail(path, soon(), TextRange(count=count, unit=unit, skip=skip, limit=10**6))

    assert await head(3) == "".join(lines[:3])
    assert await head(97, skip=True) == "".join(lines[:3])
    assert await head(9, "bytes") == "line 1\nli"
    assert await head(783, "bytes", skip=True) == "line 1\nli"
    assert await head(1000) == "".join(lines)
    assert await head(1000, skip=True) == ""
    assert await tail(3) == "".join(lines[-3:])
    assert await tail(98, skip=True) == "".join(lines[-3:])
    assert await tail(9, "bytes") == "line 100\n"
    assert await tail(784, "bytes", skip=True) == "line 100\n"
    assert await tail(1000) == "".join(lines)
    assert await tail(1000, skip=True) == ""
    assert await place.queries.view(path, soon(), offset=5, size=10) == "1\nline 2\nl"
    for offset in (5000, 2**31, 2**32, 2**62, 2**63 - 1):
        assert await place.queries.view(path, soon(), offset=offset, size=10) == ""


@pytest.mark.parametrize("ending", [b"", b"\n", b"\n\n"])
async def test_tail_of_long_files_equals_plain_reading(place, ending):
    data = b"\n".join(b"x" * (n % 7) for n in range(30_000)) + ending
    path = await put(place, "long", data)
    for count in (1, 2, 3, 40_000):
        await agrees(place, path, data, count)


async def agrees(place, path: str, data: bytes, count: int) -> None:
    lines = data.splitlines(keepends=True)
    assert (
        await place.queries.tail(path, soon(), TextRange(count=count, unit="lines", skip=False, limit=10**6))
        == b"".join(lines[-count:]).decode()
    )
    assert (
        await place.queries.head(path, soon(), TextRange(count=count, unit="lines", skip=False, limit=10**6))
        == b"".join(lines[:count]).decode()
    )
    assert (
        await place.queries.head(path, soon(), TextRange(count=count, unit="lines", skip=True, limit=10**6))
        == b"".join(lines[:-count]).decode()
    )
    assert (
        await place.queries.tail(path, soon(), TextRange(count=count, unit="lines", skip=True, limit=10**6))
        == b"".join(lines[count - 1 :]).decode()
    )


async def test_ranges_count_bytes_and_invalid_utf8_is_replaced(place):
    path = await put(place, "text", "aé日".encode() + b"\xff")
    assert await place.queries.view(path, soon(), offset=0, size=2) == "a\ufffd"
    assert await place.queries.view(path, soon(), offset=1, size=2) == "é"
    assert await place.queries.view(path, soon(), offset=3, size=100) == "日\ufffd"


async def test_output_size_limit(place):
    path = await put(place, "big", b"x" * 100_000)
    for unit in ("bytes", "lines"):
        for read in (place.queries.head, place.queries.tail):
            with pytest.raises(TooLarge):
                await read(path, soon(), TextRange(99_999, 50_000, unit))
    assert (
        len(await place.queries.head(path, soon(), TextRange(count=50_000, unit="bytes", skip=False, limit=50_000)))
        == 50_000
    )


@pytest.mark.without_subsystem
@pytest.mark.parametrize("size", [0, 1, 32768, 65535, 65536, 65537, 300_000, 5_000_000])
async def test_sizes_round_trip(place, size):
    data = os.urandom(size)
    path = place.path("data")
    await place.content.upload(path, send(*(data[at : at + 70_001] for at in range(0, size, 70_001))), soon())
    assert await fetch(place, path) == data


async def test_file_of_unknown_size_is_read_to_its_end(place):
    assert b"processor" in await fetch(place, "/proc/cpuinfo")


@pytest.mark.parametrize("what", ["folder", "fifo"])
async def test_only_regular_files_are_read(place, what):
    path = place.path(what)
    if what == "folder":
        await place.changes.mkdir(path, soon())
    else:
        await place.run('mkfifo "$1"', path)
    for operation in (
        place.queries.view(path, soon(), offset=0, size=1),
        place.queries.head(path, soon(), TextRange(count=1, unit="lines", skip=False, limit=9)),
        place.queries.tail(path, soon(), TextRange(count=1, unit="lines", skip=False, limit=9)),
        place.queries.checksum(path, soon()),
        place.content.upload(path, send(b"x"), soon()),
        fetch(place, path),
    ):
        with pytest.raises(Invalid):
            await operation


@pytest.mark.without_subsystem
async def test_shrinking_file_is_an_error(place):
    path = await put(place, "shrinking", b"x" * 9_000_000)
    with pytest.raises(Upstream, match="shorter"):
        async with place.content.download(path, soon()) as reader:
            chunks = reader.chunks()
            await anext(chunks)
            await put(place, "other", b"short")
            await place.run('truncate -s 100000 "$1"', path)
            async for _ in chunks:
                pass


# --- writing
