"""When connections in use end: by the keep-alive if the server has stopped answering, and by their age."""

from __future__ import annotations

import asyncio

import pytest

from flamecrest.server.ssh.channels.sftp_packets import FLAG_READ
from flamecrest.server.ssh.errors import LoginRefused, Lost, Unanswered
from flamecrest.server.ssh.session import PooledSessions
from tests.unit.ssh.pool.test_pool import ANN, session, sh, soon, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def accelerate() -> bool:
    return True


async def suspected(pool) -> None:
    """Wait until the first connection is suspected."""
    (connection,) = pool.connections(ANN)
    await until(lambda: connection.suspected)


async def test_what_is_under_way_survives_a_stop(world):
    """Reads are made again over a new connection; a stream and a command go on when the server goes on."""
    (world.root / "file").write_bytes(b"content")
    path = bytes(world.root / "file")
    async with world.pool() as pool:
        me = session(pool)
        async with me.open_sftp(soon()) as sftp, sftp.handle(sftp.open_file(path, FLAG_READ)) as handle:
            submit = asyncio.create_task(me.run(sh("echo x >> $1; echo done", str(world.root / "log")), soon()))
            await until(lambda: world.server.counts.commands >= 1)
            await submit
            world.server.freeze()
            submit = asyncio.create_task(me.run(sh("echo x >> $1; echo done", str(world.root / "log")), soon()))
            read = sftp.read(handle, 0, 100)
            await suspected(pool)
            assert (await me.stat("/", soon(), follow=True))[0]
            assert (await me.sftp(lambda other: other.stat(path), soon(), repeatable=True)).size == 7
            assert world.server.counts.connections == 2
            assert not read.done()
            world.server.thaw()
            assert await read == b"content"
            assert (await submit).stdout == b"done\n"
            assert (world.root / "log").read_text() == "x\nx\n"
        await until(lambda: all(not connection.suspected for connection in pool.connections(ANN)))
        assert pool.stats()["replaced"] == 1


async def test_a_dead_connection_ends_by_its_keep_alive(world):
    async with world.pool(world.host(keep_alive=0.2)) as pool:
        me = session(pool)
        async with me.open_sftp(soon()) as sftp:
            world.server.freeze()
            with pytest.raises(Lost):
                await sftp.stat(b"/")


@pytest.mark.parametrize(("keep_alive", "seconds"), [(0, 30), (5, 30), (60, 360)])
async def test_transfers_without_progress_end_later_than_a_dead_connection(world, keep_alive, seconds):
    """After the silence that starts it, the keep-alive takes four intervals."""
    async with world.pool(world.host(keep_alive=keep_alive)) as pool:
        me = session(pool)
        async with me.open_sftp(soon()) as sftp:
            assert sftp.stall_timeout == me.stall_timeout == seconds


async def test_a_server_that_stops_altogether_and_goes_on_loses_no_read(world):
    """No other connection can be opened either: the read waits for the one that may answer again."""
    async with world.pool(world.host(login_timeout=1.0, connect_timeout=1.0)) as pool:
        me = session(pool)
        await me.stat("/", soon(), follow=True)
        world.server.freeze()
        world.server.faults.silent = True
        read = asyncio.create_task(me.stat("/", soon(), follow=True))
        await suspected(pool)
        await until(lambda: world.server.counts.connections > 1)
        await asyncio.sleep(0.5)
        assert not read.done()
        world.server.thaw()
        assert (await read)[0]


async def test_an_answer_counts_at_the_next_check_however_late_that_is(world):
    """The checks are as far apart as a connection may be silent, and a busy machine delays them."""
    async with world.pool(tick=60) as pool:
        await session(pool).run(sh("true"), soon())
        (connection,) = pool.connections(ANN)
        transport, now = connection.transport, connection.transport.heard
        for _ in range(3):
            now, heard = now + 2, transport.heard
            connection.liveness.watch(now, busy=True)
            await until(lambda heard=heard: transport.heard > heard)
            assert not connection.suspected
        world.server.freeze()
        connection.liveness.watch(now + 2, busy=True)
        connection.liveness.watch(now + 4, busy=True)
        assert connection.suspected
        world.server.thaw()


async def test_what_is_under_way_ends_at_the_greatest_age(world):
    """The account was disabled meanwhile: the stream and the command end, and no new connection is made for them."""
    async with world.pool(age=1.0, age_in_use=2.5) as pool:
        me = session(pool)
        async with me.open_sftp(soon()) as sftp:
            command = asyncio.create_task(me.run(sh("sleep 60"), soon()))
            await until(lambda: world.server.counts.commands >= 1)
            world.server.faults.disabled.add("ann")
            (connection,) = pool.connections(ANN)
            await until(lambda: not pool.connections(ANN))
            assert (await sftp.stat(b"/")).mode, "it may go on for a while"
            await until(lambda: connection.lost)
            with pytest.raises(Lost):
                await sftp.stat(b"/")
        with pytest.raises(Lost):
            await command
        with pytest.raises(LoginRefused):
            await me.stat("/", soon(), follow=True)


async def test_leaving_a_block_passes_other_cancellations_on(world):
    async with world.pool() as pool:
        await session(pool).run(sh("true"), soon())
        liveness = pool.connections(ANN)[0].liveness

        async def stay(*, when: bool) -> None:
            with liveness.leaving(when=when):
                await asyncio.sleep(60)

        staying, leaving, cancelled = (asyncio.create_task(stay(when=when)) for when in (False, True, True))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.sleep(0)
        liveness.suspect()
        with pytest.raises(Unanswered):
            await leaving
        for task in (staying, cancelled):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_what_nobody_waits_for_is_answered_before_the_end(world):
    """A failed upload removes its temporary file so."""
    left = world.server.users["ann"].home / "left"
    left.write_bytes(b"")
    async with world.pool() as pool:
        sessions = PooledSessions(pool)
        async with sessions.of(ANN).open_sftp(soon()) as sftp:
            removing = sftp.remove(bytes(left))
            await sessions.close()
            assert removing.done()
            assert removing.exception() is None
    assert not left.exists()
