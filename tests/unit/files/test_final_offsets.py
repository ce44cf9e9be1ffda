"""The offset of a resumable upload whose last request is about to end: it is the one at which the next goes on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from flamecrest.server.auth.port import Identity
from flamecrest.server.errors import Locked
from flamecrest.server.files.resumable.append import Outstanding
from flamecrest.server.files.resumable.remote import RemoteUploads
from flamecrest.server.ssh.session import PooledSessions
from tests.contract.files.places import Place, on_sandbox, soon

pytestmark = pytest.mark.anyio
WHILE = 1.2  # seconds; without the wait, the offset was named after half a second


class Disconnected(Exception):
    """The client has disconnected."""


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with on_sandbox(tmp_path, subsystem=True) as found:
        yield found


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for one in data:
        yield one


@pytest.mark.parametrize("end", ["disconnected", "cancelled", "complete", "whole"])
async def test_the_client_of_a_piece_has_gone(place: Place, end: str) -> None:
    """What has arrived is still being written when its client asks, over another connection, where to go on."""
    data, gone, path = os.urandom(1_000_000), asyncio.Event(), Path(place.path("file"))
    rest = b"" if end == "whole" else b".."
    assert place.ssh is not None
    assert place.ssh.another is not None
    async with place.ssh.another() as other:
        writing, asking = RemoteUploads(place.session), RemoteUploads(PooledSessions(other).of(Identity("ann")))
        key = (await writing.create(str(path), len(data + rest), "", soon())).key

        async def body() -> AsyncIterator[bytes]:
            yield data
            place.server.freeze()  # the new connection is served
            gone.set()
            if end == "disconnected":
                raise Disconnected

        first = asyncio.create_task(writing.append(key, 0, body(), soon()))
        await gone.wait()
        if end == "cancelled":
            first.cancel()
        looking = asyncio.create_task(asking.look(key, soon()))
        await asyncio.wait([looking], timeout=WHILE)
        place.server.thaw()
        offset = (await looking).offset
        with suppress(Disconnected, asyncio.CancelledError):
            await first
        assert offset == (0 if end == "cancelled" else len(data))
        if rest:
            assert (await asking.append(key, offset, pieces((data + rest)[offset:]), soon())).complete
    assert path.read_bytes() == data + rest


async def test_a_request_that_does_not_end_is_not_waited_for_without_end() -> None:
    stuck = Outstanding(30)
    assert not await stuck.settled(0.01)  # it receives
    stuck.ending = True
    with pytest.raises(Locked):
        await stuck.settled(0.01)
    stuck.ended.set()
    write = stuck.add(asyncio.get_running_loop().create_future())
    with pytest.raises(Locked):
        await stuck.settled(0.01)
    write.set_result(None)
    assert await stuck.settled(0.01)
