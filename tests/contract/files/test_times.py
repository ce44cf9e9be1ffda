"""Contract of times beyond 32 bits: every operation shows the same true time."""

from __future__ import annotations

import io
import os
import tarfile
from datetime import UTC, datetime

import pytest

from flamecrest.server.errors import Denied
from flamecrest.server.files.listing_filter import ListingFilter
from flamecrest.server.files.values import CompressOptions, ListOptions

from .places import soon
from .test_files import names, put, send

pytestmark = pytest.mark.anyio

TIMES = {"1960": -315446400, "2039": 2177539200, "2150": 5680368000, "2100": 4102531200, "now": 1764374400}


@pytest.fixture
async def dated(place):
    """Files named after the year of their times; a folder and a link have such times, too."""
    await place.changes.mkdir(place.path("top/deep"), soon(), parents=True)
    times: list[str] = []
    for year, seconds in TIMES.items():
        for name in (f"top/{year}", f"top/deep/{year}"):
            times += [await put(place, name), str(seconds)]
        await place.changes.symlink(year, place.path(f"top/deep/to-{year}"), soon())
    set_all = 'while [ $# -gt 0 ]; do touch -d "@$2" "$1" && shift 2 || exit; done'
    await place.run(set_all, *times, place.path("top/deep"), "-315446400")
    kept = (await place.run('stat -c %Y "$1" "$2"', place.path("top/1960"), place.path("top/2150"))).split()
    if kept != [b"-315446400", b"5680368000"]:
        pytest.skip("the file system has no such times")
    return place


@pytest.mark.without_subsystem
@pytest.mark.parametrize("kind", ["ls", "scan", "one by one"])
@pytest.mark.parametrize("dereference", [False, True])
async def test_listings_show_true_times(dated, kind, dereference):
    options = ListOptions(recursive=kind != "one by one", dereference=dereference)
    top = dated.path("top")
    if kind == "ls":
        entries = await dated.queries.ls(top, soon(), options)
    elif kind == "scan":
        async with dated.queries.scan(top, soon(), options) as batches:
            entries = [entry async for batch in batches for entry in batch]
    else:
        entries = [*await dated.queries.ls(top, soon(), options)]
        for entry in await dated.queries.ls(f"{top}/deep", soon(), options):
            entries += await dated.queries.ls(f"{top}/deep/{entry.name}", soon(), options)
    checked = 0
    for entry in entries:
        last = entry.name.rpartition("/")[2]
        expected = -315446400 if last == "deep" else TIMES.get(last.removeprefix("to-"))
        if last.startswith("to-") and not dereference:
            continue
        assert (last, entry.mtime) == (last, expected)
        seconds = datetime.fromisoformat(entry.modified).replace(tzinfo=UTC).timestamp() - entry.mtime
        assert abs(seconds) < 15 * 3600  # the cluster's time zone
        checked += 1
    assert checked == (16 if dereference else 11)


async def test_files_are_sorted_by_true_times(dated):
    found = ListingFilter(kinds=frozenset("-"), order="mtime")
    listed = await dated.queries.ls(dated.path("top"), soon(), listing_filter=found)
    assert [entry.name for entry in listed] == ["1960", "now", "2039", "2100", "2150"]


async def test_stat_and_touch_keep_true_times(dated):
    for year, seconds in TIMES.items():
        path = dated.path(f"top/{year}")
        assert (await dated.queries.stat(path, soon())).mtime == seconds
        await dated.run('touch -a -d @-86400 "$1"', path)
        await dated.changes.touch(path, soon(), mtime=4102531200)
        found = await dated.queries.stat(path, soon())
        assert found.mtime == 4102531200


@pytest.mark.needs("ssh")
async def test_archives_keep_true_times(dated):
    await dated.run('touch -a -d @-86400 "$1"', dated.path("top/now"))
    await dated.changes.compress(dated.path("top"), dated.path("a"), soon(), CompressOptions(compression="none"))
    await dated.changes.extract(dated.path("a"), dated.path("new"), soon(), compression="none")
    selection = await dated.bulk.select([dated.path("top")], None, soon())
    async with dated.bulk.pack(selection, "tar", soon()) as chunks:
        data = b"".join([chunk async for chunk in chunks])
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for year, seconds in TIMES.items():
            assert archive.getmember(f"top/{year}").mtime == seconds
    await dated.changes.mkdir(dated.path("sent"), soon())
    result = await dated.bulk.unpack(dated.path("sent"), send(data), soon())
    assert (result.failures, result.complete) == (0, True)
    for folder in ("new", "sent"):
        for year, seconds in TIMES.items():
            for name in (f"top/{year}", f"top/deep/{year}"):
                assert (await dated.queries.stat(dated.path(f"{folder}/{name}"), soon())).mtime == seconds


# --- folders that may be read but not entered


@pytest.mark.needs("accounts")
@pytest.mark.parametrize("options", [ListOptions(), ListOptions(hidden=True), ListOptions(recursive=True)])
async def test_a_folder_without_x_is_denied(place, options):
    if place.ssh.server is not None and os.geteuid() == 0:
        pytest.skip("programs on the sandbox have the rights of the tests, here those of root")
    path = place.path("closed")
    await place.changes.mkdir(path, soon())
    await put(place, "closed/file")
    await place.changes.chmod(path, "444", soon())
    try:
        with pytest.raises(Denied):
            await place.queries.ls(path, soon(), options)
        with pytest.raises(Denied):
            async with place.queries.scan(path, soon(), options) as batches:
                [batch async for batch in batches]
        assert await names(place, recursive=True) == ["closed"]
    finally:
        await place.changes.chmod(path, "755", soon())


@pytest.mark.without_subsystem
@pytest.mark.parametrize("seconds", [-315446400, 5680368000])
async def test_touch_sets_times_that_sftp_does_not_have(dated, seconds):
    for name in ("made", "top/now"):
        path = dated.path(name)
        await dated.changes.touch(path, soon(), mtime=seconds)
        assert (await dated.queries.stat(path, soon())).mtime == seconds
