"""Contract of listings: filters, and scanning in batches."""

from __future__ import annotations

import pytest

from flamecrest.server.errors import NotFound
from flamecrest.server.files.listing_filter import ListingFilter
from flamecrest.server.files.values import ListOptions

from .places import soon
from .test_files import names, put

pytestmark = pytest.mark.anyio


@pytest.fixture
async def filled(place):
    for number, name in enumerate(["a.txt", "b.log", "c.txt", ".d.txt"]):
        path = await put(place, name, b"x" * (10 - number))
        await place.changes.touch(path, soon(), mtime=1000 + number % 2)
    await place.changes.mkdir(place.path("sub"), soon())
    await put(place, "sub/e.txt", b"x" * 50)
    await place.changes.touch(place.path("sub"), soon(), mtime=3000)
    await place.changes.symlink("a.txt", place.path("link"), soon())
    return place


@pytest.mark.parametrize(
    ("listing_filter", "options", "expected"),
    [
        (ListingFilter(glob="*.txt"), {}, ["a.txt", "c.txt"]),
        (ListingFilter(glob="*.txt"), {"hidden": True}, [".d.txt", "a.txt", "c.txt"]),
        (ListingFilter(glob="*.txt"), {"recursive": True}, ["a.txt", "c.txt", "sub/e.txt"]),
        (ListingFilter(glob="s?b/*"), {"recursive": True}, ["sub/e.txt"]),
        (ListingFilter(glob="[!a].*"), {}, ["b.log", "c.txt"]),
        (ListingFilter(glob="["), {}, []),
        (ListingFilter(kinds=frozenset("d")), {}, ["sub"]),
        (ListingFilter(kinds=frozenset("l-"), glob="*"), {}, ["a.txt", "b.log", "c.txt", "link"]),
        (ListingFilter(kinds=frozenset("-"), order="size"), {}, ["c.txt", "b.log", "a.txt"]),
        (ListingFilter(kinds=frozenset("-"), order="size", backwards=True, limit=2), {}, ["a.txt", "b.log"]),
        (ListingFilter(kinds=frozenset("-"), order="mtime"), {}, ["a.txt", "c.txt", "b.log"]),
        (ListingFilter(limit=2), {}, ["a.txt", "b.log"]),
        (ListingFilter(limit=2, after=(0, b"b.log")), {}, ["c.txt", "link"]),
        (ListingFilter(backwards=True, after=(0, b"b.log")), {}, ["a.txt"]),
    ],
)
async def test_ls_filters(filled, listing_filter, options, expected):
    assert await names(filled, listing_filter, **options) == expected


async def test_ls_filters_apply_to_a_single_file(filled):
    path = filled.path("a.txt")
    assert [entry.name for entry in await filled.queries.ls(path, soon(), listing_filter=ListingFilter(glob="a*"))] == [
        path
    ]
    assert await filled.queries.ls(path, soon(), listing_filter=ListingFilter(glob="b*")) == []


@pytest.mark.parametrize("option", [None, "hidden", "recursive", "numeric", "dereference"])
async def test_scan_equals_ls(filled, option):
    options = ListOptions(**({} if option is None else {option: True}))
    for path in (filled.folder, filled.path("a.txt"), filled.path("link"), filled.path("sub")):
        async with filled.queries.scan(path, soon(), options) as batches:
            found = [entry async for batch in batches for entry in batch]
        assert sorted(found, key=lambda entry: entry.name.split("/")) == await filled.queries.ls(path, soon(), options)


async def test_scan_raises_before_the_first_batch(place):
    with pytest.raises(NotFound, match="No such file"):
        async with place.queries.scan(place.path("none"), soon()):
            pass


async def test_many_entries(place):
    await place.run('cd "$1" && seq -f "f%05g" 1200 | xargs touch', place.folder)
    expected = [f"f{number:05}" for number in range(1, 1201)]
    assert await names(place) == expected
    async with place.queries.scan(place.folder, soon()) as batches:
        assert sorted([entry.name async for batch in batches for entry in batch]) == expected
    # cancelled midway: the connection stays usable
    async with place.queries.scan(place.folder, soon()) as batches:
        assert await anext(batches)
    pages, after = [], None
    while page := await place.queries.ls(place.folder, soon(), listing_filter=ListingFilter(limit=280, after=after)):
        pages.append([entry.name for entry in page])
        after = ListingFilter().place(page[-1])
    assert [len(page) for page in pages] == [280, 280, 280, 280, 80]
    assert [name for page in pages for name in page] == expected


# --- following
