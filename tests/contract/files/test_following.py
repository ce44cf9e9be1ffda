"""Contract of following a growing file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from flamecrest.server.errors import Invalid, NotFound
from flamecrest.server.files.values import FollowEvent, FollowPosition

from .places import soon
from .test_files import put

pytestmark = pytest.mark.anyio


async def added(pieces: AsyncIterator[FollowEvent | None]) -> FollowEvent:
    """The next event."""
    async with asyncio.timeout(30):
        return await anext(piece async for piece in pieces if piece is not None)


async def test_follow(place):
    path = await put(place, "log", b"one\ntwo\nthree\n")
    async with place.queries.follow(path, soon(), lines=2) as pieces, aclosing(pieces):
        first = await added(pieces)
        assert (first.event, first.text, first.start, first.position.offset) == ("added", "two\nthree\n", 4, 14)
        await place.run('printf "four\\n" >> "$1"', path)
        second = await added(pieces)
        assert (second.text, second.start, second.position.offset) == ("four\n", 14, 19)
    async with place.queries.follow(path, soon(), after=first.position) as pieces, aclosing(pieces):
        assert await added(pieces) == second


async def test_follow_never_splits_a_character(place):
    path = await put(place, "log", b"")
    async with place.queries.follow(path, soon()) as pieces, aclosing(pieces):
        assert await anext(pieces) is None
        await place.run(r'printf "a\303" >> "$1"', path)
        half = await added(pieces)
        assert (half.text, half.position.offset) == ("a", 1)
        await place.run(r'printf "\251b\377c" >> "$1"', path)
        rest = await added(pieces)
        assert (rest.text, rest.start, rest.position.offset) == ("éb\ufffdc", 1, 6)
    async with place.queries.follow(path, soon(), after=half.position) as pieces, aclosing(pieces):
        assert await added(pieces) == rest


async def test_follow_through_truncation(place):
    path = await put(place, "log", b"a long line\n")
    async with place.queries.follow(path, soon()) as pieces, aclosing(pieces):
        mark = (await added(pieces)).position
        await place.run('printf "new\\n" > "$1"', path)
        assert (await added(pieces)).event == "truncated"
        assert (await added(pieces)).text == "new\n"
    async with place.queries.follow(path, soon(), after=mark) as pieces, aclosing(pieces):
        assert (await added(pieces)).event == "truncated"
        assert (await added(pieces)).text == "new\n"


@pytest.mark.needs("rotation")
async def test_follow_through_rotation(place):
    path = await put(place, "log", b"old\n")
    async with place.queries.follow(path, soon()) as pieces, aclosing(pieces):
        mark = (await added(pieces)).position
        await place.run('printf "last of old\\n" >> "$1"; mv "$1" "$1.1"; printf "first of new\\n" > "$1"', path)
        seen = [await added(pieces), await added(pieces), await added(pieces)]
    assert [(one.event, one.text) for one in seen] == [
        ("added", "last of old\n"),
        ("rotated", ""),
        ("added", "first of new\n"),
    ]
    assert seen[-1].position.ino != mark.ino
    async with place.queries.follow(path, soon(), after=mark) as pieces, aclosing(pieces):
        assert (await added(pieces)).event == "rotated"


async def test_follow_waits_for_a_removed_file(place):
    path = await put(place, "log", b"old\n")
    async with place.queries.follow(path, soon()) as pieces, aclosing(pieces):
        await added(pieces)
        await place.changes.mv(path, path + ".1", soon())
        assert await anext(pieces) is None
        await put(place, "log", b"new\n")
        assert (await added(pieces)).event == "rotated"
        assert (await added(pieces)).text == "new\n"


@pytest.mark.parametrize("after", [None, FollowPosition(1, 2**64 - 1), FollowPosition(2**64 - 1, 0)])
async def test_follow_refuses_other_file_types(place, after):
    await place.run('mkfifo "$1"', place.path("fifo"))
    for path, error in [(place.path("none"), NotFound), (place.path("fifo"), Invalid), (place.folder, Invalid)]:
        with pytest.raises(error):
            async with place.queries.follow(path, soon(), after=after):
                pass


async def test_follow_from_an_invalid_mark(place):
    path = await put(place, "log", b"text\n")
    ino = (await place.queries.stat(path, soon())).ino
    for mark, event in [(FollowPosition(ino, 2**64 - 1), "truncated"), (FollowPosition(ino + 2**40, 3), "rotated")]:
        async with place.queries.follow(path, soon(), after=mark) as pieces, aclosing(pieces):
            assert (await added(pieces)).event == event
            assert (await added(pieces)).text == "text\n"
