"""Client disconnects over real sockets: the work is cancelled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from flamecrest.server.http.edge import disconnect
from tests.unit.http.local_files import LocalFiles
from tests.unit.http.world import World, logged

if TYPE_CHECKING:
    from pathlib import Path

    from flamecrest.server.deadline import Deadline

pytestmark = pytest.mark.anyio

HEAD = b" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token-of-fireuser\r\n"


class Stuck(LocalFiles):
    """Long work that ends when it is told to, and says how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()
        self.release = asyncio.Event()
        self.ended = asyncio.Event()
        self.cancelled = False

    async def _work(self) -> None:
        self.begun.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        finally:
            self.ended.set()

    async def checksum(self, path: str, deadline: Deadline, **how: Any) -> str:  # noqa: ARG002
        await self._work()
        return "0" * 64

    async def rm(self, path: str, deadline: Deadline) -> None:  # noqa: ARG002
        await self._work()

    async def compress(self, source: str, target: str, deadline: Deadline, *_: Any) -> None:  # noqa: ARG002
        await self._work()


def requests(root: str) -> list[bytes]:
    body = b'{"path":"%b","targetPath":"%b"}' % (root.encode(), root.encode())
    json = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    return [
        f"GET /filesystem/toy/ops/checksum?path={root}".encode() + HEAD + b"\r\n",
        f"DELETE /filesystem/toy/ops/rm?path={root}/x".encode() + HEAD + b"\r\n",
        b"POST /filesystem/toy/ops/compress" + HEAD + json,
    ]


@pytest.mark.parametrize("which", range(3))
async def test_disconnect_cancels_the_work(tmp_path: Path, which: int) -> None:
    files = Stuck()
    world = World(str(tmp_path), files=files)
    with logged() as lines:
        async with world.served() as served, served.connect() as (_, writer):
            writer.write(requests(world.root)[which])
            await files.begun.wait()
            writer.close()
            await writer.wait_closed()
            await files.ended.wait()
    assert files.cancelled
    (line,) = [line for line in lines if line["logger"] == "flamecrest.access"]
    assert line["status"] == 499


@pytest.mark.parametrize("which", range(3))
async def test_long_work_is_completed_while_the_client_stays(tmp_path: Path, which: int) -> None:
    """Longer than it takes until somebody listens for the client; and the connection goes on being useful."""
    files = Stuck()
    world = World(str(tmp_path), files=files)
    async with world.served() as served, served.connect() as (reader, writer):
        for longer_than_the_watch_waits in (disconnect.LISTEN_AFTER * 2.5, 0):
            writer.write(requests(world.root)[which])
            await files.begun.wait()
            asyncio.get_running_loop().call_later(longer_than_the_watch_waits, files.release.set)
            assert (await reader.readline()).startswith(b"HTTP/1.1 20")
            await reader.readuntil(b"\r\n\r\n")
            if which == 0:
                await reader.readuntil(b"}}")
            files.begun.clear()
            files.release.clear()
        writer.close()
        await writer.wait_closed()
    assert not files.cancelled


async def test_listening_loses_no_chunk_of_a_slow_body(tmp_path: Path) -> None:
    """Half of a body comes after the watch would have begun to listen."""
    world = World(str(tmp_path))
    body = b'{"path": "%b/made"}' % world.root.encode()
    async with world.served() as served, served.connect() as (reader, writer):
        length = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        writer.write(b"POST /filesystem/toy/ops/mkdir" + HEAD + length + body[:7])
        asyncio.get_running_loop().call_later(disconnect.LISTEN_AFTER * 2.5, writer.write, body[7:])
        assert (await reader.readline()).startswith(b"HTTP/1.1 201")
        writer.close()
        await writer.wait_closed()
    assert (tmp_path / "made").is_dir()


async def test_body_that_never_arrives_is_408(tmp_path: Path) -> None:
    world = World(str(tmp_path)).with_limits(files=0.05)
    length = b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    async with world.served() as served, served.connect() as (reader, writer):
        writer.write(b"POST /filesystem/toy/ops/mkdir" + HEAD + length)
        assert (await reader.readline()).startswith(b"HTTP/1.1 408")


async def test_cancellation_by_the_server_is_passed_on(tmp_path: Path) -> None:
    """Cancellation that is none of ours is passed on."""
    files = Stuck()
    world = World(str(tmp_path), files=files)
    async with world.client() as client:
        asking = asyncio.create_task(client.get("/filesystem/toy/ops/checksum", params={"path": world.root}))
        await files.begun.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert files.cancelled
