"""The Uploads port over a real SSH server: locks between replicas, expiry, interruptions, leftover files."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from flamecrest.server.errors import (
    ChecksumMismatch,
    Conflict,
    Denied,
    GatewayError,
    Gone,
    Invalid,
    Locked,
    NotFound,
    StaleState,
    TooLarge,
)
from flamecrest.server.files.resumable.port import PieceChecksum, UploadStatus
from flamecrest.server.files.resumable.remote import RemoteUploads
from flamecrest.server.files.resumable.state import UploadKey
from flamecrest.server.files.values import ListOptions

from .places import Place, soon

pytestmark = [pytest.mark.anyio, pytest.mark.needs("ssh")]


class Disconnected(Exception):
    """The client has disconnected."""


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for one in data:
        yield one


async def interrupted(first: bytes, last: bytes, started: asyncio.Event, more: asyncio.Event) -> AsyncIterator[bytes]:
    """A body that sets `started` after its first piece, and waits for `more` before the last."""
    yield first
    started.set()
    await more.wait()
    yield last


async def then_disconnected(*data: bytes) -> AsyncIterator[bytes]:
    for one in data:
        yield one
    raise Disconnected


def uploads(place: Place, **options: float) -> RemoteUploads:
    return RemoteUploads(place.session, **options)


async def begun(place: Place, length: int, name: str = "f") -> UploadStatus:
    return await uploads(place).create(place.path(name), length, "", soon())


async def names(place: Place) -> list[str]:
    return [entry.name for entry in await place.queries.ls(place.folder, soon(), ListOptions(hidden=True))]


async def settled(place: Place, count: int) -> list[str]:
    """The names, as soon as there are so many: a request does not wait until its lock and its state are removed."""
    async with asyncio.timeout(30):
        while len(found := await names(place)) != count:
            await asyncio.sleep(0.02)
    return found


async def content(place: Place, name: str = "f") -> bytes:
    async with place.content.download(place.path(name), soon()) as reader:
        return b"".join([chunk async for chunk in reader.chunks()])


async def test_bytes_before_an_interruption_are_kept(place: Place) -> None:
    data = os.urandom(3_000_000)
    key = (await begun(place, len(data))).key
    with pytest.raises(Disconnected):
        await uploads(place).append(key, 0, then_disconnected(data[:1_000_001], data[1_000_001:1_000_003]), soon())
    assert (await uploads(place).look(key, soon())).offset == 1_000_003
    assert (await uploads(place).append(key, 1_000_003, pieces(data[1_000_003:]), soon())).complete
    assert await content(place) == data
    assert await settled(place, 1) == ["f"]


@pytest.mark.needs("faults")
async def test_lost_connection_keeps_acknowledged_bytes(place: Place) -> None:
    server, data = place.server, os.urandom(12_000_000)
    key = (await begun(place, len(data))).key

    async def cut_later() -> AsyncIterator[bytes]:
        for at in range(0, len(data), 65536):
            if at > 9_000_000:
                server.drop()
            yield data[at : at + 65536]

    with pytest.raises(GatewayError, match="can be resumed"):
        await uploads(place).append(key, 0, cut_later(), soon())
    offset = (await uploads(place).look(key, soon())).offset
    assert 4_000_000 < offset < 10_000_000  # at most 4 MiB were in flight
    assert (await uploads(place).append(key, offset, pieces(data[offset:]), soon())).complete
    assert await content(place) == data


async def test_another_file_in_the_place_of_the_data_is_left_alone(place: Place) -> None:
    """In a folder that others may write, they can put a private file of the user there."""
    key = (await begun(place, 3)).key
    beside = next(name for name in await names(place) if len(name) == 51)
    await place.run(
        'printf old >"$1/private" && chmod 600 "$1/private" && mv "$1/private" "$1/$2"', place.folder, beside
    )
    with pytest.raises(Conflict, match="another file is in the place of the data"):
        await uploads(place).append(key, 0, pieces(b"new"), soon())
    assert await place.run('cat "$1/$2"; ls "$1"', place.folder, beside) == b"old"


@pytest.mark.needs("accounts")
async def test_the_state_of_another_user_is_refused(place: Place) -> None:
    """It could name another offset, length and mode."""
    key = (await begun(place, 3)).key
    state = next(name for name in await names(place) if name.endswith(".json"))
    os.chown(place.path(state), 12345, 12345)
    os.chmod(place.path(state), 0o666)  # noqa: PTH101 -- as they would: the user can read it
    if (await place.queries.stat(place.path(state), soon())).uid != 12345:
        pytest.skip("the login node shows one owner for all files")
    with pytest.raises(Denied, match="belongs to another user"):
        await uploads(place).append(key, 0, pieces(b"new"), soon())


async def test_unrecorded_bytes_are_ignored(place: Place) -> None:
    """A killed gateway may leave bytes beyond the recorded offset in the data file, with gaps."""
    key = (await begun(place, 10)).key
    await uploads(place).append(key, 0, pieces(b"abc"), soon())
    beside = next(name for name in await names(place) if len(name) == 51)
    await place.run('printf "abc\\0\\0\\0zzz" >"$1/$2"', place.folder, beside)
    assert (await uploads(place).look(key, soon())).offset == 3
    await uploads(place).append(key, 3, pieces(b"defghij"), soon())
    assert await content(place) == b"abcdefghij"


async def test_data_file_that_is_too_short_is_a_conflict(place: Place) -> None:
    key = (await begun(place, 6)).key
    await uploads(place).append(key, 0, pieces(b"abcdef"), soon(), checksum=None)
    key = (await begun(place, 6, "g")).key
    beside = next(name for name in await names(place) if len(name) == 51)

    async def shortened() -> AsyncIterator[bytes]:
        yield b"abcde"
        await asyncio.sleep(0.6)  # until after the next heartbeat
        yield b"f"
        await place.changes.truncate(place.path(beside), 5, soon())

    with pytest.raises(Conflict):
        await uploads(place).append(key, 0, shortened(), soon())
    assert "g" not in await names(place)


WRONG = PieceChecksum("sha1", bytes(20))


@pytest.mark.parametrize("declared", [None, 9])
async def test_a_rolled_back_piece_leaves_nothing(place: Place, declared: int | None) -> None:
    """Neither its bytes, which may be more than the file will have, nor the length that came with it."""
    key = (await uploads(place).create(place.path("f"), None, "", soon())).key
    await uploads(place).append(key, 0, pieces(b"abc"), soon())
    with pytest.raises(ChecksumMismatch):
        await uploads(place).append(key, 3, pieces(b"longer"), soon(), length=declared, checksum=WRONG)
    assert (await uploads(place).look(key, soon())).length is None
    with pytest.raises(StaleState):
        await uploads(place).append(key, 0, pieces(), soon(), length=3)
    assert (await uploads(place).append(key, 3, pieces(b"de"), soon(), length=5)).complete
    assert await content(place) == b"abcde"
    assert await settled(place, 1) == ["f"]


@pytest.mark.needs("disk")
async def test_a_writer_of_another_gateway_cannot_reach_what_is_finished(place: Place) -> None:
    """The first gateway was suspended within a PATCH: its writes and its rename are made when all is finished."""
    key = (await begun(place, 6)).key
    await uploads(place).append(key, 0, pieces(b"ab"), soon())
    data = key.beside(os.fsencode(place.path("f"))).data
    state = Path(os.fsdecode(data) + ".json")
    # as a request leaves it that does not end: the mark that it writes
    state.write_bytes(state.read_bytes().replace(b"\n", b"+", 1))
    with Path(os.fsdecode(data)).open("r+b") as late, state.open("r+b") as head:
        assert (await uploads(place).append(key, 2, pieces(b"cd"), soon())).offset == 4
        late.seek(2)
        late.write(b"late")
        head.write(b"9" * 20)
        late.flush()
        head.flush()
        assert not Path(os.fsdecode(data)).exists(), "a rename of the old name fails"
        assert (await uploads(place).look(key, soon())).offset == 4
        assert (await uploads(place).append(key, 4, pieces(b"ef"), soon())).complete
        late.seek(0)
        late.write(b"later")
        late.flush()
        assert await content(place) == b"abcdef"
    assert (await uploads(place).look(key, soon())).complete
    with pytest.raises(StaleState):
        await uploads(place).append(key, 2, pieces(b"cdef"), soon())
    await settled(place, 2)  # the record that it is finished
    await uploads(place).remove(key, soon())
    assert await settled(place, 1) == ["f"]


@pytest.mark.needs("disk")
async def test_an_upload_into_a_file_with_two_names_is_known_to_be_complete(place: Place) -> None:
    await place.content.upload(place.path("f"), pieces(b"old"), soon())
    os.link(place.path("f"), place.path("g"))
    key = (await begun(place, 3)).key
    assert (await uploads(place).append(key, 0, pieces(b"new"), soon())).complete
    assert await content(place, "g") == b"new"
    assert (await uploads(place).look(key, soon())).complete


async def test_the_length_may_be_declared_without_bytes(place: Place) -> None:
    key = (await uploads(place).create(place.path("f"), None, "", soon())).key
    await uploads(place).append(key, 0, pieces(b"abc"), soon())
    assert (await uploads(place).append(key, 3, pieces(), soon(), length=4)).length == 4
    with pytest.raises(Invalid, match="can't be changed"):
        await uploads(place).append(key, 3, pieces(b"de"), soon(), length=5)
    with pytest.raises(TooLarge):
        await uploads(place).append(key, 3, pieces(b"de"), soon())
    assert (await uploads(place).append(key, 3, pieces(), soon(), length=4)).offset == 3
    assert (await uploads(place).append(key, 3, pieces(b"d"), soon())).complete


@pytest.mark.needs("disk")
async def test_a_removed_upload_is_not_complete_because_its_inode_is_used_again(place: Place) -> None:
    for number in range(8):
        key = (await begun(place, 3)).key
        await uploads(place).remove(key, soon())
        await place.content.upload(place.path("f"), pieces(b"%d.." % number), soon())
        with pytest.raises(NotFound):
            await uploads(place).look(key, soon())
        await place.changes.rm(place.path("f"), soon())


async def test_a_piece_beside_the_one_that_completes_the_upload_is_out_of_step(place: Place) -> None:
    key = (await begun(place, 6)).key
    waiting, started = asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(uploads(place).append(key, 0, interrupted(b"abc", b"def", started, waiting), soon()))
    await started.wait()
    second = asyncio.create_task(uploads(place).append(key, 0, pieces(b"abcdef"), soon()))
    await asyncio.sleep(0.2)  # it waits for the lock
    waiting.set()
    assert (await first).complete
    with pytest.raises((StaleState, Locked)):  # locked: it has seen that the first is alive
        await second
    with pytest.raises(StaleState):
        await uploads(place).append(key, 0, pieces(b"abcdef"), soon())
    assert await content(place) == b"abcdef"


async def test_concurrent_requests_for_one_upload(place: Place) -> None:
    key = (await begun(place, 10)).key
    more, started = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        for at in range(5):
            yield b"%d" % at
            started.set()
            await asyncio.sleep(0.6)
        await more.wait()
        yield b"56789"

    first = asyncio.create_task(uploads(place).append(key, 0, slow(), soon()))
    await started.wait()
    with pytest.raises(Locked):
        await uploads(place).append(key, 0, pieces(b"otherbytes"), soon())
    more.set()
    assert (await first).complete
    assert await content(place) == b"0123456789"


async def test_stalled_request_loses_the_lock_and_stops_writing(place: Place) -> None:
    key = (await begun(place, 6)).key
    more, started = asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(uploads(place).append(key, 0, interrupted(b"abc", b"XYZ", started, more), soon()))
    await started.wait()
    assert (await uploads(place).look(key, soon())).offset == 0
    second = await uploads(place).append(key, 0, pieces(b"abcd"), soon())
    assert second.offset == 4
    more.set()
    with pytest.raises(Locked):
        await first
    assert (await uploads(place).append(key, 4, pieces(b"ef"), soon())).complete
    assert await content(place) == b"abcdef"
    assert await settled(place, 1) == ["f"]


@pytest.mark.parametrize("left", [b"", b"0" * 48])
async def test_lock_of_a_killed_gateway_is_taken_over(place: Place, left: bytes) -> None:
    key = (await begun(place, 3)).key
    lock = os.fsdecode(key.beside(os.fsencode(place.path("f"))).lock)
    await place.content.upload(lock, pieces(left), soon())
    assert (await uploads(place).append(key, 0, pieces(b"abc"), soon())).complete
    assert await settled(place, 1) == ["f"]


async def test_expired_upload_is_gone_and_swept(place: Place) -> None:
    short = uploads(place, lifetime=1)
    old = await short.create(place.path("old"), 5, "", soon())
    other = await short.create(place.path("other"), 5, "", soon())
    await asyncio.sleep(max(0.0, old.key.expires - time.time()) + 0.01)
    for _ in range(2):
        with pytest.raises(Gone):
            await short.look(old.key, soon())
    with pytest.raises(Gone):
        await short.append(old.key, 0, pieces(b"x"), soon())
    await settled(place, 2)  # the files of the other upload
    await asyncio.sleep(max(0.0, other.key.expires + 1 - time.time()))
    new = await begun(place, 5, "new")  # sweeps the folder
    assert {name.partition(".json")[0] for name in await names(place)} == {
        os.fsdecode(new.key.beside(os.fsencode(place.path("new"))).data.rpartition(b"/")[2])
    }


async def test_completed_upload_is_recognized_by_inode(place: Place) -> None:
    key = (await begun(place, 3)).key
    done = await uploads(place).append(key, 0, pieces(b"abc"), soon())
    assert done.complete
    assert (await uploads(place).look(key, soon())).complete
    with pytest.raises(StaleState):
        await uploads(place).append(key, 0, pieces(b"abc"), soon())
    await place.content.upload(place.path("f"), pieces(b"other"), soon())
    with pytest.raises(NotFound):
        await uploads(place).look(key, soon())
    with pytest.raises(NotFound):
        await uploads(place).look(replace(key, file=0), soon())


async def test_symlinks_in_place_of_upload_files_are_refused(place: Place) -> None:
    await place.content.upload(place.path("precious"), pieces(b"mine"), soon())
    for kind in ("data", "state", "lock"):
        key = (await begun(place, 3)).key
        beside = os.fsdecode(getattr(key.beside(os.fsencode(place.path("f"))), kind))
        if kind != "lock":
            await place.changes.rm(beside, soon())
        await place.changes.symlink(place.path("precious"), beside, soon())
        with pytest.raises(Invalid):
            await uploads(place).append(key, 0, pieces(b"abc"), soon())
        assert await content(place, "precious") == b"mine"
        if kind == "data":
            await uploads(place).remove(key, soon())


async def test_damaged_state_is_a_conflict(place: Place) -> None:
    key = (await begun(place, 3)).key
    state = os.fsdecode(key.beside(os.fsencode(place.path("f"))).state)
    for damage in (b"", b"0" * 100, b"\xff" * 70_000):
        await place.content.upload(state, pieces(damage), soon())
        with pytest.raises(Conflict):
            await uploads(place).look(key, soon())


async def test_unknown_key_is_not_found(place: Place) -> None:
    key = UploadKey.new(place.path("f"), int(time.time()) + 60)
    for asking in (
        uploads(place).look(key, soon()),
        uploads(place).append(key, 0, pieces(b"x"), soon()),
        uploads(place).remove(key, soon()),
    ):
        with pytest.raises(NotFound):
            await asking
    assert await settled(place, 0) == []
