"""The faults of the sandbox's SSH server."""

from __future__ import annotations

import asyncio

import asyncssh
import pytest

from .conftest import SshdSite, alive, started

pytestmark = [pytest.mark.exhaustive, pytest.mark.anyio]


async def test_hang_and_thaw(site: SshdSite) -> None:
    async with site.login() as old:
        site.server.hang()
        coming = asyncio.ensure_future(site.login("user01").__aenter__())
        while site.server.counts.connections < 2:
            await asyncio.sleep(0.01)
        assert (await old.run("echo old")).stdout == "old\n"
        assert not coming.done()
        site.server.thaw()
        connection = await coming
        assert (await connection.run("echo new")).stdout == "new\n"
        connection.close()
        await connection.wait_closed()


async def test_freeze_and_thaw(site: SshdSite) -> None:
    async with site.login() as connection:
        process = await connection.create_process("read line; echo $line; read line; echo $line")
        process.stdin.write("one\n")
        assert await process.stdout.readline() == "one\n"
        site.server.freeze()
        process.stdin.write("two\n")
        answer = asyncio.ensure_future(process.stdout.readline())
        async with site.login("user01") as other:
            assert (await other.run("echo served")).stdout == "served\n"
        assert not answer.done()
        site.server.thaw()
        assert await answer == "two\n"


async def test_frozen_output_is_held_back(site: SshdSite) -> None:
    async with site.login() as connection:
        process = await connection.create_process("mkfifo pipe; echo made; read line < pipe; echo $line")
        assert await process.stdout.readline() == "made\n"
        site.server.freeze()
        (site.users["fireuser"].home / "pipe").write_text("from outside\n")
        answer = asyncio.ensure_future(process.stdout.readline())
        async with site.login("user01") as other:
            await other.run("sleep 0.1")
        assert not answer.done()
        site.server.thaw()
        assert await answer == "from outside\n"


async def test_frozen_connection_is_dropped(site: SshdSite) -> None:
    async with site.login() as connection:
        site.server.freeze()
        site.server.drop()
        with pytest.raises((asyncssh.ConnectionLost, asyncssh.ChannelOpenError)):
            await connection.run("true")


async def test_drop(site: SshdSite) -> None:
    async with site.login() as connection:
        process = await connection.create_process("echo $$; exec sleep 1000")
        pid = await started(process)
        site.server.drop()
        with pytest.raises((asyncssh.ConnectionLost, asyncssh.ChannelOpenError)):
            await connection.run("true")
    assert alive(pid)
    async with site.login() as connection:
        assert (await connection.run("true")).exit_status == 0


async def test_drop_after_some_bytes(site: SshdSite) -> None:
    async with site.login() as connection:
        site.server.drop(after=100_000)
        process = await connection.create_process("head -c 1000000 /dev/zero", encoding=None)
        with pytest.raises(asyncio.IncompleteReadError) as cut:
            await process.stdout.readexactly(1_000_000)
        assert len(cut.value.partial) < 100_000
        with pytest.raises((asyncssh.ConnectionLost, asyncssh.ChannelOpenError)):
            await connection.run("true")
    site.server.thaw()
    async with site.login() as connection:
        assert len(str((await connection.run("head -c 200000 /dev/zero")).stdout)) == 200_000


async def test_refuse_and_start_again(site: SshdSite) -> None:
    port = site.server.port
    async with site.login() as old:
        site.server.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        assert (await old.run("echo old")).stdout == "old\n"
        await site.server.start()
        assert site.server.port == port
        async with site.login() as new:
            assert (await new.run("echo new")).stdout == "new\n"


async def test_slow(site: SshdSite) -> None:
    loop = asyncio.get_running_loop()
    async with site.login() as connection, connection.start_sftp_client() as sftp:
        for slow, work in ((0.2, lambda: connection.run("true")), (0.1, lambda: sftp.stat("."))):
            site.server.faults.slow = slow
            began = loop.time()
            await work()
            assert loop.time() - began >= slow


async def test_counts(site: SshdSite) -> None:
    async with site.login() as connection, site.login("user01"):
        await connection.run("true")
    while site.server.connections:
        await asyncio.sleep(0.01)
    counts = site.server.counts
    assert (counts.connections, counts.connected, counts.connected_most, counts.logins) == (2, 0, 2, 2)
    assert (counts.commands, counts.channels, counts.channels_most) == (1, 0, 1)
