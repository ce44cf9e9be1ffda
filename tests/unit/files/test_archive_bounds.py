"""Archives made to exhaust the gateway: memory and time for each header are bounded, and other tasks run meanwhile."""

from __future__ import annotations

import asyncio
import tarfile
import tracemalloc
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.errors import TooLarge
from flamecrest.server.files.archives.port import UnpackResult
from flamecrest.server.files.archives.selection import (
    MAX_BYTES,
    MAX_ENTRIES,
    MAX_FOLDERS,
    Budget,
    check_size,
    uncovered,
)
from flamecrest.server.files.archives.untar import (
    MAX_RECORDS,
    MAX_SEGMENTS,
    ByteReader,
    DamagedArchive,
    Member,
    members,
    pax_records,
)
from flamecrest.server.files.paths import PATH_MAX

pytestmark = pytest.mark.anyio

END = bytes(1024)


def entry(kind: bytes, content: bytes = b"", name: str = "x") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)


def records(*pairs: tuple[bytes, bytes]) -> bytes:
    made = bytearray()
    for name, value in pairs:
        rest = b" %b=%b\n" % (name, value)
        size = len(rest) + len(str(len(rest)))
        size = len(rest) + len(str(size))
        made += b"%d%b" % (size, rest)
    return bytes(made)


async def at_once(data: bytes) -> AsyncIterator[bytes]:
    """A stream that never waits, as a decompressed one."""
    for start in range(0, len(data), 4096):
        yield data[start : start + 4096]


async def read(data: bytes) -> list[Member]:
    return [member async for member in members(ByteReader(at_once(data)))]


async def test_other_tasks_run_while_entries_are_read() -> None:
    reading = asyncio.create_task(read(entry(tarfile.CHRTYPE) * 800 + END))  # 100 chunks
    runs = 0
    while not reading.done():
        runs += 1
        await asyncio.sleep(0)
    assert len(await reading) == 800
    assert runs >= 100


async def test_unknown_records_are_not_kept() -> None:
    def header(number: int, kind: bytes) -> bytes:
        return entry(kind, records(*((b"key-%d-%d" % (number, n), b"v" * 20) for n in range(1000))))

    data = b"".join(header(n, kind) for n in range(10) for kind in (b"g", b"x")) + entry(b"0") + END
    tracemalloc.start()
    try:
        assert len(await read(data)) == 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5 * 1000 * 300  # of one header, not of twenty


async def test_a_header_for_all_entries_describes_no_sparse_file() -> None:
    shared = records((b"GNU.sparse.map", b"0,1"), (b"GNU.sparse.size", b"9"), (b"mtime", b"7"))
    (found,) = await read(entry(b"g", shared) + entry(b"0", b"abc") + END)
    assert (found.segments, found.size, found.mtime) == (None, 3, 7)


@pytest.mark.parametrize(
    "described",
    [
        entry(b"x", records((b"GNU.sparse.map", b",".join([b"1"] * (2 * MAX_SEGMENTS + 2))))),
        entry(b"x", records(*((b"%d" % n, b"") for n in range(MAX_RECORDS + 1)))),
    ],
)
async def test_headers_with_too_much_are_refused(described: bytes) -> None:
    with pytest.raises(DamagedArchive):
        await read(described + entry(b"0") + END)


@pytest.mark.parametrize("leading", [b"9" * 2048, b"%d\n" % (MAX_SEGMENTS + 1) + b"0\n" * 1000, b"1\n" + b"7" * 2046])
async def test_leading_maps_that_are_none_are_refused_at_once(leading: bytes) -> None:
    described = entry(b"x", records((b"GNU.sparse.major", b"1"), (b"GNU.sparse.realsize", b"9")))
    blocks = ByteReader(at_once(described + entry(b"0", leading + bytes(100_000)) + END))
    with pytest.raises(DamagedArchive):
        await anext(members(blocks))
    assert blocks.position < 4096


def test_segments_in_single_records_are_joined() -> None:
    pairs = [(b"GNU.sparse.offset", b"0"), (b"GNU.sparse.numbytes", b"5")] * 3
    assert pax_records(records(*pairs)) == {b"GNU.sparse.map": b"0,5,0,5,0,5"}


def test_long_names_are_cut_in_results() -> None:
    outcome = UnpackResult()
    outcome.fail("n" * 1_000_000, "Its name is too long")
    assert len(outcome.failed[0].path) == PATH_MAX


PATHS = st.lists(st.sampled_from([b"a", b"b", b"a.b", b"a-", b"\xff"]), max_size=4).map(
    lambda parts: b"/" + b"/".join(parts)
)


@given(st.dictionaries(PATHS, st.booleans(), max_size=12))
def test_uncovered_are_the_paths_below_no_directory_of_the_others(found: dict[bytes, bool]) -> None:
    def below(path: bytes, folder: bytes) -> bool:
        return path != folder and path.startswith(folder.rstrip(b"/") + b"/")

    folders = [path for path, is_folder in found.items() if is_folder]
    assert uncovered(found) == [path for path in found if not any(below(path, folder) for folder in folders)]


def test_what_a_pattern_may_search() -> None:
    budget = Budget()
    budget.spend(folders=MAX_FOLDERS, entries=MAX_ENTRIES)
    with pytest.raises(TooLarge, match="folders"):
        budget.spend(folders=1)
    with pytest.raises(TooLarge, match="files"):
        Budget().spend(entries=MAX_ENTRIES + 1)
    check_size({b"/" + b"a" * 4000 + b"%d" % n: False for n in range(MAX_BYTES // 4100)})
    with pytest.raises(TooLarge, match="bytes"):
        check_size({b"/" + b"a" * 4000 + b"%d" % n: False for n in range(MAX_BYTES // 4000)})
