"""One user's work, and one user's refusals, leave the others and the user's own short requests alone."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from flamecrest.server.auth.port import Identity
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Busy, Unavailable, Upstream
from flamecrest.server.files.remote.cluster_facts import ClusterFacts
from flamecrest.server.files.remote.queries import remote_files
from flamecrest.server.files.values import WriteOptions
from flamecrest.server.ssh.command import Command, Output
from flamecrest.server.ssh.errors import Lost
from flamecrest.server.ssh.pool.channel_limit import Kind
from flamecrest.server.ssh.session import PooledSessions

pytestmark = pytest.mark.anyio

ANN, BOB, CYD = Identity("ann"), Identity("bob"), Identity("cyd")


def sh(script: str) -> Command[Output]:
    return Command(("sh", "-c", script), lambda output: output)


async def until(true) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.005)


def begin(pool, script: str, count: int, who: Identity = ANN, seconds: float = 60.0) -> list[asyncio.Task[Output]]:
    me = PooledSessions(pool).of(who)
    return [asyncio.create_task(me.run(sh(script), Deadline.after(seconds))) for _ in range(count)]


async def end(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_long_commands_leave_channels_to_short_ones_and_to_files(world):
    async with world.pool(max_sessions=5) as pool:
        sessions = PooledSessions(pool)
        long = begin(pool, "sleep 60", 30)
        await until(lambda: world.server.counts.commands >= 7)  # of ten channels
        files = remote_files(sessions, ClusterFacts(), ANN)
        assert await files.queries.ls("/", Deadline.after(30))  # cold: its channels are opened now
        assert (await files.queries.stat("/", Deadline.after(30))).mode
        assert (await sessions.of(ANN).run(sh("echo short"), Deadline.after(30))).stdout == b"short\n"
        assert world.server.counts.commands <= 7 + 3, "the short ones; the long ones wait"
        await end(*long)


async def test_nothing_waits_for_a_second_channel_while_it_holds_one(world):
    async with world.pool(max_sessions=2) as pool:
        sessions = PooledSessions(pool)
        files = remote_files(sessions, ClusterFacts(), ANN)

        async def chunks():
            for _ in range(24):
                yield b"x" * 65536

        async def upload(n: int) -> None:
            path = f"{world.root}/home/ann/f{n}"
            await files.content.upload(path, chunks(), Deadline.after(40), WriteOptions(report_stat=True))

        jobs = begin(pool, "sleep 0.1", 24, seconds=15)
        await asyncio.gather(*(upload(n) for n in range(12)), *jobs)


@pytest.mark.parametrize("configured", [None, 10])
async def test_a_limit_of_processes_is_one_users_matter_and_recovers(world, configured):
    world.server.faults.no_process.add("ann")
    async with world.pool(max_sessions=configured) as pool:
        before = world.server.counts.channels_opened
        first = begin(pool, "true", 1, seconds=20)
        await until(lambda: world.server.counts.channels_opened - before >= 2)  # asked again
        with pytest.raises(Upstream, match="limit of processes"):
            await begin(pool, "true", 1, seconds=0.5)[0]
        assert world.server.counts.channels_opened - before <= 5, "with growing pauses"
        await end(*first)
        assert len(await asyncio.gather(*begin(pool, "true", 8, BOB, 20))) == 8
        (bobs,) = pool.connections(BOB)
        assert bobs.limit.now(time.monotonic()) == 10
        world.server.faults.no_process.clear()
        assert len(await asyncio.gather(*begin(pool, "true", 8, seconds=20))) == 8
        assert all(mine.limit.now(time.monotonic()) == 10 for mine in pool.connections(ANN))


async def test_cancelled_requests_teach_nothing(world):
    async with world.pool(per_user=1) as pool:
        await begin(pool, "true", 1)[0]
        for delay in (0.0, 0.001, 0.005, 0.02):
            tasks = begin(pool, "sleep 60", 12, seconds=20)
            await asyncio.sleep(delay)
            await end(*tasks)
        (mine,) = pool.connections(ANN)
        await until(lambda: pool.stats()["channels"] == 0)
        await until(lambda: world.server.counts.channels == pool.stats()["ahead"])
        async with asyncio.timeout(30):
            while mine.limit.refused is not None:  # closed and asked for in one packet
                await asyncio.gather(*begin(pool, "true", 8))
        assert mine.limit.now(time.monotonic()) == 10
        assert len(await asyncio.gather(*begin(pool, "true", 20))) == 20


async def test_users_take_turns_at_the_last_connections(world):
    async with world.pool(max_clients=2) as pool:

        async def busy() -> None:
            while True:
                await asyncio.gather(*begin(pool, "sleep 0.2", 1, seconds=30))

        crowd = [asyncio.create_task(busy()) for _ in range(24)]
        await until(lambda: len(pool.connections(ANN)) == 2)
        for who in (BOB, CYD, BOB):
            assert (await begin(pool, "echo in", 1, who, 5)[0]).stdout == b"in\n"
        for task in crowd:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)


async def test_a_stream_that_begins_on_a_recalled_connection_ends_at_once(world):
    """Its channel was being opened when another user began to wait."""
    async with world.pool() as pool, PooledSessions(pool).of(ANN).open_sftp(Deadline.after(30)):
        (connection,) = pool.connections(ANN)
        connection.recall(time.monotonic())
        followed = asyncio.Event()
        with connection.streaming(followed.set):
            assert followed.is_set()


async def test_streams_give_their_connection_to_a_user_who_waits(world):
    async with world.pool(max_clients=2, per_user=1, turn=0.3) as pool:
        sessions = PooledSessions(pool)
        followed, open_ = asyncio.Event(), asyncio.Semaphore(0)

        async def follow() -> None:
            async with sessions.of(ANN).open_sftp(Deadline.after(30), on_recall=followed.set):
                open_.release()
                await followed.wait()

        async def download() -> None:
            async with sessions.of(BOB).open_sftp(Deadline.after(30)) as sftp:
                open_.release()
                while True:
                    await sftp.stat(b"/")
                    await asyncio.sleep(0.01)

        tasks = [asyncio.create_task(follow()), asyncio.create_task(download())]
        for _ in tasks:
            await open_.acquire()
        for connection in (*pool.connections(ANN), *pool.connections(BOB)):
            connection.opened -= 10  # their turn has lasted long
        asked = begin(pool, "sleep 60", 1, CYD, 60)
        await until(lambda: world.server.counts.commands >= 1)
        assert followed.is_set(), "what can be resumed ends first"
        assert not tasks[1].done()
        pool.connections(CYD)[0].opened -= 10
        begun = begin(pool, "echo in", 1, ANN, 30)
        with pytest.raises(Lost):
            async with asyncio.timeout(30):
                await asyncio.gather(*asked, tasks[1])
        assert (await begun[0]).stdout == b"in\n"
        await end(*asked, *tasks)


async def test_who_waits_in_vain_is_told_why(world):
    async with world.pool(max_clients=1, max_sessions=1) as pool:
        long = begin(pool, "sleep 60", 1)
        await until(lambda: world.server.counts.commands == 1)
        with pytest.raises(Busy):
            await begin(pool, "true", 1, ANN, 0.1)[0]
        with pytest.raises(Unavailable):
            await begin(pool, "true", 1, BOB, 0.1)[0]
        (mine,) = pool.all_connections()
        assert mine.recalled is None, "nobody waits any more"
        await end(*long)


def test_the_kinds_leave_channels_to_each_other():
    assert Kind.SHARED.value < Kind.SHORT.value < Kind.LONG.value
