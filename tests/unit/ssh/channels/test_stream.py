"""Commands as streams: complete, in bounded memory, and ended with their request."""

from __future__ import annotations

import asyncio
import os

import pytest

from flamecrest.server.auth.port import Identity
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Upstream
from flamecrest.server.ssh.channels.process import GRACE
from flamecrest.server.ssh.channels.stream import MAX_UNREAD
from flamecrest.server.ssh.command import Command
from flamecrest.server.ssh.errors import Lost
from flamecrest.server.ssh.session import PooledSessions
from tests.unit.ssh.conftest import both_ways
from tests.unit.ssh.pool.test_pool import alive, until

pytestmark = [pytest.mark.anyio, both_ways]


def command(*argv: str) -> Command[None]:
    return Command(argv, lambda _: None)


async def test_input_comes_back_as_output(world):
    data = os.urandom(5_000_000)
    async with world.pool() as pool:
        session = PooledSessions(pool).of(Identity("ann"))
        async with session.stream(command("sh", "-c", "cat; echo done >&2; exit 3"), Deadline.after(60)) as stream:

            async def send() -> None:
                for at in range(0, len(data), 65536):
                    await stream.write(data[at : at + 65536], 60)
                stream.send_eof()

            sending = asyncio.create_task(send())
            assert b"".join([chunk async for chunk in stream.chunks(60)]) == data
            await sending
            output = await stream.wait(60)
            assert (output.status, output.stderr) == (3, b"done\n")
        await until(lambda: pool.stats()["channels"] == 0)


async def test_a_slow_reader_holds_the_program_back(world):
    async with world.pool() as pool:
        session = PooledSessions(pool).of(Identity("ann"))
        async with session.stream(command("sh", "-c", "head -c 20000000 /dev/zero"), Deadline.after(60)) as stream:
            chunks = stream.chunks(60)
            await anext(chunks)
            await until(lambda: stream._unread >= MAX_UNREAD)
            for _ in range(20):  # data on its way arrives before the answers to these
                await session.run(command("true"), Deadline.after(60))
            assert stream._unread < 5_000_000
            rest = [len(chunk) async for chunk in chunks]
            assert sum(rest) > 19_000_000


async def test_leaving_early_ends_the_program(world):
    pidfile = world.root / "pid"
    async with world.pool() as pool:
        session = PooledSessions(pool).of(Identity("ann"))
        script = f"echo $$ > {pidfile}; echo ready; sleep 60"
        with pytest.raises(ValueError, match="enough"):
            async with session.stream(command("sh", "-c", script), Deadline.after(60)) as stream:
                assert await anext(stream.chunks(60)) == b"ready\n"
                raise ValueError("enough")
        pid = int(pidfile.read_text())
        await until(lambda: not alive(pid))
        await until(lambda: pool.stats()["channels"] == 0)


async def test_a_reader_that_stops_reading_frees_the_channel_at_once(world):
    async with world.pool() as pool:
        session = PooledSessions(pool).of(Identity("ann"))
        async with session.stream(command("cat", "/dev/zero"), Deadline.after(60)) as stream:
            await anext(stream.chunks(60))
            await until(lambda: stream._unread >= MAX_UNREAD)
        async with asyncio.timeout(GRACE):  # TERM is enough
            await until(lambda: pool.stats()["channels"] == 0)


async def test_silence_and_loss_are_errors(world):
    async with world.pool() as pool:
        session = PooledSessions(pool).of(Identity("ann"))
        async with session.stream(command("sleep", "60"), Deadline.after(60)) as stream:
            with pytest.raises(Upstream, match="stopped answering"):
                await anext(stream.chunks(0.05))
        async with session.stream(command("sleep", "60"), Deadline.after(60)) as stream:
            world.server.drop()
            assert [chunk async for chunk in stream.chunks(60)] == []
            with pytest.raises(Lost):
                await stream.wait(60)


async def test_a_stream_ends_with_its_program_though_something_keeps_the_channel_open_and_prints(world):
    """A start-up file may leave such programs running in the background."""
    async with world.pool() as pool:
        session = PooledSessions(pool).of(Identity("ann"))
        script = "(while sleep 0.05; do echo noise; done) >&3 & head -c 100000 /dev/zero; exit 3"
        async with session.stream(command("bash", "-c", f"exec 3>&1; {script}"), Deadline.after(60)) as stream:
            chunks = [chunk async for chunk in stream.chunks(60)]
            assert (await stream.wait(60)).status == 3
        assert b"".join(chunks).replace(b"noise\n", b"") == bytes(100000)
        await until(lambda: pool.stats()["channels"] == 0)
