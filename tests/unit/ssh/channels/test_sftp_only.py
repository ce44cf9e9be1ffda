"""Logins that offer SFTP only, and servers that refuse commands: this is found out at once, and remembered."""

from __future__ import annotations

import asyncio
import subprocess

import pytest

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Upstream
from flamecrest.server.files.remote import agent_requests
from flamecrest.server.ssh.channels.agent import Agent
from flamecrest.server.ssh.channels.sftp_packets import HELLO
from flamecrest.server.ssh.channels.sftp_program import PROGRAM, SftpOpener
from flamecrest.server.ssh.command import Command
from flamecrest.server.ssh.errors import NoCommands, NotStarted
from flamecrest.server.ssh.session import PooledSessions
from flamecrest.server.ssh.start_line import AFTER_PROBE, BEGIN, PRELUDE, START_LINE, Preamble, command_text, split_end
from tests.unit.ssh.pool.test_pool import ANN, BOB, session, sh, soon, until

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("kind", ["sftp_only", "no_commands"])
async def test_a_login_without_commands_is_found_out_once(world, kind):
    getattr(world.server.faults, kind).add("ann")
    async with world.pool() as pool:
        sessions = PooledSessions(pool)
        me = sessions.of(ANN)
        found = await asyncio.gather(*(me.stat("/etc/passwd", soon(), follow=True) for _ in range(3)))
        assert len(set(found)) == 1
        with pytest.raises(NoCommands, match="offers SFTP only"):
            await me.run(sh("true"), soon())
        opened = world.server.counts.channels_opened
        with pytest.raises(NoCommands):
            async with me.stream(Command(("cat",), lambda output: output), soon()):
                pytest.fail("there is no command")
        assert await me.ask(agent_requests.read(b"/etc/passwd"), soon()) is None
        await me.stat("/etc", soon(), follow=False)
        assert world.server.counts.channels_opened == opened, "nothing is asked again"
        await until(lambda: pool.stats()["channels"] == 1)  # SFTP
        assert (await sessions.of(BOB).run(sh("echo in"), soon())).stdout == b"in\n"


@pytest.mark.parametrize("kind", ["sftp_only", "no_commands"])
async def test_no_request_waits_when_the_agent_is_tried_again(world, kind):
    getattr(world.server.faults, kind).add("ann")
    now, begin = 1000.0, world.server.users["ann"].home / "begin"
    async with world.pool(world.host(login_timeout=30)) as pool:
        me = PooledSessions(pool, clock=lambda: now).of(ANN)
        first = await me.stat("/etc/passwd", soon(), follow=True)
        getattr(world.server.faults, kind).clear()
        world.server.faults.rc_files = True
        begin.with_name(".bashrc").write_text("until [ -e begin ]; do sleep 0.1; done\n")
        now += 700
        for _ in range(3):
            assert await me.stat("/etc/passwd", soon(20), follow=True) == first, "by SFTP"
            assert await me.ask(agent_requests.read(b"/etc/passwd"), soon(20)) is None
        (connection,) = pool.connections(ANN)
        await until(lambda: connection.shared(Agent) is not None)
        begin.touch()
        await until(connection.shared(Agent).started.done)
        assert (await me.stat("/etc/passwd", soon(20), follow=True))[1] != 0, "by the agent"


@pytest.mark.parametrize("kind", ["sftp_only", "no_commands"])
async def test_a_command_does_not_wait_for_its_deadline(world, kind):
    getattr(world.server.faults, kind).add("ann")
    async with world.pool(max_sessions=3) as pool:
        with pytest.raises(NoCommands):
            await session(pool).run(sh("true"), Deadline.after(600))


async def test_a_forced_sftp_server_serves_without_the_subsystem(world):
    world.server.faults.sftp_only.add("ann")
    async with world.pool() as pool:
        me = PooledSessions(pool, SftpOpener()).of(ANN)
        world.server.sftp = False
        found = await me.sftp(lambda sftp: sftp.stat(b"/etc/passwd"), soon())
        assert found.size


async def test_a_slow_login_passes_the_probe_over(world):
    world.server.faults.slow = 0.7
    async with world.pool() as pool:
        assert (await session(pool).run(sh("cat", stdin=b"a\nb"), soon())).stdout == b"a\nb"
        (connection,) = pool.connections(ANN)
        assert connection.transport.runs_commands


@pytest.mark.parametrize("shell", ["/bin/sh", "bash", "busybox sh", "ksh", "mksh", "zsh"])
@pytest.mark.parametrize("first", [HELLO, b""], ids=["probe", "probe that a start-up file has read"])
def test_a_shell_passes_the_probe_over(shell, first):
    line = START_LINE.replace(b"/bin/sh", shell.encode())
    text = first + AFTER_PROBE + PRELUDE + command_text(Command(("cat",), lambda output: output), 5) + b"own\0\n"
    try:
        subprocess.run([shell.split()[0], *shell.split()[1:], "-c", ":"], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip(f"there is no {shell}")
    done = subprocess.run(["bash", "-c", line], input=text, capture_output=True, check=True)
    assert split_end(Preamble(BEGIN).strip(done.stdout)) == (b"own\0\n", 0), done.stderr


async def test_a_start_up_file_that_becomes_an_sftp_server_is_one(world):
    world.server.faults.rc_files = True
    home = world.server.users["ann"].home
    (home / "server.pl").write_text(PROGRAM)
    (home / ".bashrc").write_text("exec perl ~/server.pl\n")
    async with world.pool() as pool:
        with pytest.raises(NoCommands):
            await session(pool).run(sh("true"), soon())


async def test_a_subsystem_that_ends_with_its_login_says_why(world):
    world.server.faults.rc_files = world.server.faults.subsystem_by_shell = True
    (world.server.users["ann"].home / ".bashrc").write_text("echo Down for maintenance >&2; exit\n")
    async with world.pool() as pool:
        with pytest.raises(NotStarted, match="ended before an SFTP server could be started: Down for maintenance"):
            await session(pool).sftp(lambda sftp: sftp.stat(b"/"), soon())
    assert issubclass(NotStarted, Upstream)


async def test_the_channel_of_a_probe_is_given_back(world):
    world.server.faults.sftp_only.add("ann")
    async with world.pool(max_sessions=1, per_user=1) as pool:
        for _ in range(2):
            with pytest.raises(NoCommands):
                await session(pool).run(sh("true"), soon())
        await until(lambda: world.server.counts.channels == pool.stats()["channels"] == 0)


async def test_the_agent_can_be_switched_off(world):
    async with world.pool() as pool:
        me = PooledSessions(pool, agent=False).of(ANN)
        assert (await me.stat("/etc/passwd", soon(), follow=True))[1] != 0, "by a command"
        assert await me.ask(agent_requests.read(b"/etc/passwd"), soon()) is None
        assert world.server.counts.commands <= 2, "the command, and a shell for the next one"
