"""Token buckets in a real Redis server: replicas count together, and each alone while the server is down."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from flamecrest.server.auth.port import Identity
from flamecrest.server.errors import Busy, Unavailable
from flamecrest.server.limits.fair_use import FairUse
from flamecrest.server.limits.redis_buckets import RETRY_STORE, RedisBuckets
from flamecrest.server.limits.values import Allowance, Rate
from tests.unit.http.world import logged

SLOW = 1 / 3600
RATE = Rate(SLOW, 3)
SERVER = shutil.which("valkey-server") or "redis-server"

pytestmark = [pytest.mark.anyio, pytest.mark.live]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@asynccontextmanager
async def server(folder: Path, port: int, *more: str) -> AsyncIterator[None]:
    """A server on this port while the block runs."""
    options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), *more)
    process = await asyncio.create_subprocess_exec(
        SERVER, *options, stdout=asyncio.subprocess.DEVNULL, stdin=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    await writer.wait_closed()
                    break
                await asyncio.sleep(0.02)
        yield
    finally:
        process.kill()
        await process.wait()


async def test_two_replicas_count_together(tmp_path: Path) -> None:
    port = free_port()
    async with server(tmp_path, port):
        one, two = (RedisBuckets(f"redis://127.0.0.1:{port}/0") for _ in range(2))
        assert [(await buckets.take("k", RATE)).remaining for buckets in (one, two, one)] == [2, 1, 0]
        refused = await two.take("k", RATE)
        assert refused.remaining == 0
        assert refused.retry_after == pytest.approx(3600, rel=0.1)
        assert (await two.take("other", RATE)).remaining == 2
        assert (await two.take("k", RATE, 0)).remaining == 0
        await one.close()
        await two.close()


async def test_while_the_server_is_down_each_replica_counts_alone(tmp_path: Path) -> None:
    port, now = free_port(), 1000.0
    buckets = RedisBuckets(f"redis://127.0.0.1:{port}/0", monotonic=lambda: now)
    with logged() as lines:
        async with server(tmp_path, port):
            assert (await buckets.take("k", RATE, 2)).remaining == 1
        assert (await buckets.take("k", RATE)).remaining == 2  # its own bucket, which was full
        assert (await buckets.take("k", RATE)).remaining == 1
        async with server(tmp_path, port):  # another server, with empty memory
            assert (await buckets.take("k", RATE)).remaining == 0  # not asked yet
            now += RETRY_STORE
            assert (await buckets.take("k", RATE)).remaining == 2
            await buckets.close()
    assert [line["message"].partition(" (")[0] for line in lines] == [
        "the store of limits does not answer: this process counts alone",
        "the store of limits answers again",
    ]


async def test_the_check_takes_from_a_bucket(tmp_path: Path) -> None:
    port = free_port()
    buckets = RedisBuckets(f"redis://127.0.0.1:{port}/0")
    async with server(tmp_path, port):
        await buckets.check()
    with pytest.raises(Unavailable, match="does not answer"):
        await buckets.check()
    await buckets.close()
    guest = RedisBuckets(f"redis://:hunter2@127.0.0.1:{port}/0")
    async with server(tmp_path, port, "--requirepass", "another"):
        with pytest.raises(Unavailable) as refused:
            await guest.check()
    assert (refused.value.detail or "").startswith("AuthenticationError: ")
    assert "hunter2" not in (refused.value.detail or "")
    await guest.close()


async def test_bytes_of_two_replicas(tmp_path: Path) -> None:
    """What one replica has charged counts in the other."""
    port = free_port()
    async with server(tmp_path, port):
        url = f"redis://127.0.0.1:{port}/0"
        allowance = Allowance("user0", bytes=Rate(1000, 10_000_000))
        one, two = (FairUse([allowance], [], RedisBuckets(url)) for _ in range(2))
        admission = one.begin(Identity("alice"))
        await one.admit(admission)
        admission.end(10_000_000)
        await one.close()
        other = two.begin(Identity("alice"))
        with pytest.raises(Busy, match="bytes"):
            await two.admit(other)
        await two.close()
