"""Logins whose start-up files end, replace, hang or flood the shell: nothing of a request is run or sent there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flamecrest.server.errors import GatewayError
from flamecrest.server.files.remote import agent_requests
from flamecrest.server.ssh.channels.process import Shell
from flamecrest.server.ssh.channels.sftp_program import SftpOpener
from flamecrest.server.ssh.command import Command
from flamecrest.server.ssh.errors import NotStarted
from flamecrest.server.ssh.session import PooledSessions
from tests.unit.ssh.pool.test_pool import ANN, session, sh, soon, until

pytestmark = pytest.mark.anyio

# start-up file, and what the error says
NEVER_STARTS = {
    "ends": ("echo 'Down for maintenance'; exit 0", "ended before a program could be started: Down for maintenance"),
    "ends with colours": ("printf '\\033[31m\\a  No quota\\033[0m\\n' >&2; exit 1", "could be started: No quota$"),
    "becomes bash": ("exec bash", "did not start a shell within 0.3 seconds"),
    "becomes cat": ("exec cat", "did not start a shell"),
    "hangs": ("sleep 60", "did not start a shell"),
    "floods": ("yes", "prints without end and starts no shell: y$"),
    "prints the line and becomes cat": ('echo "$BASH_EXECUTION_STRING"; exec cat', "did not start a shell"),
}
STARTS = {
    "traces": "set -xv",
    "traces everything": "set -xv; export SHELLOPTS",
    "prints the line": 'echo "$BASH_EXECUTION_STRING"; echo "$BASH_EXECUTION_STRING" >&2',
    "defines functions": "echo() { :; }; read() { :; }; command() { :; }; export -f echo read command",
    "sets variables": "export IFS=x FLAMECREST=1 PERL5OPT=-MGone POSIXLY_CORRECT=1 ENV=/nowhere BASH_ENV=/nowhere",
    "joins its outputs": "exec 2>&1; echo hello",
}


def start_up(world, text: str) -> None:
    world.server.faults.rc_files = True
    (world.server.users["ann"].home / ".bashrc").write_text(f"{text}\n")


def touching(world) -> bytes:
    """Input that leaves a file if a shell runs it."""
    return b"touch '%s/RAN'\n" % bytes(world.root) * 3


@pytest.mark.parametrize(("text", "said"), NEVER_STARTS.values(), ids=NEVER_STARTS)
async def test_nothing_is_run_or_concluded_where_no_program_starts(world, text, said):
    start_up(world, text)
    async with world.pool(world.host(login_timeout=0.3)) as pool:
        me = session(pool)
        with pytest.raises(NotStarted, match=said):
            await me.run(sh("cat", stdin=touching(world)), soon())
        with pytest.raises(NotStarted):
            async with me.stream(Command(("cat",), lambda output: output), soon()) as stream:
                await stream.write(touching(world), 5)
                stream.send_eof()
                await stream.wait(5)
        target = world.root / "home" / "ann" / "f"
        question = agent_requests.write(os.fsencode(target), os.fsencode(target) + b".new", touching(world), None)
        assert await me.ask(question, soon()) is None, "SFTP takes over"
        assert await me.ask(agent_requests.read(b"/etc/passwd"), soon()) is None
        found = await me.stat("/etc/passwd", soon(), follow=True)
        assert found[7] == Path("/etc/passwd").stat().st_size
        await until(lambda: pool.stats()["channels"] <= 1)  # SFTP
    assert not (world.root / "RAN").exists()
    assert not target.exists()


@pytest.mark.parametrize("text", [text for text, _ in NEVER_STARTS.values()], ids=NEVER_STARTS)
async def test_nothing_is_sent_where_sftp_needs_a_program_either(world, text):
    start_up(world, text)
    world.server.sftp = False
    async with world.pool(world.host(login_timeout=0.3)) as pool:
        with pytest.raises(GatewayError):
            await PooledSessions(pool, SftpOpener(servers=())).of(ANN).sftp(lambda sftp: sftp.stat(b"/"), soon())
        await until(lambda: pool.stats()["channels"] == 0)


@pytest.mark.parametrize("text", STARTS.values(), ids=STARTS)
async def test_what_a_start_up_file_does_is_no_output(world, text):
    start_up(world, text)
    async with world.pool() as pool:
        me = session(pool)
        for _ in range(2):  # the second one by a shell that was started ahead
            done = await me.run(sh("cat; echo own; exit 3", stdin=b"a\xff\0"), soon())
            assert (done.status, done.stdout) == (3, b"a\xff\0own\n")
        await me.stat("/", soon(), follow=True)  # waits for the agent
        assert await me.ask(agent_requests.read(b"/etc/hostname"), soon()) is not None
        async with me.stream(sh("cat; exit 4"), soon()) as stream:
            await stream.write(b"\x1e data", 5)
            stream.send_eof()
            assert b"".join([data async for data in stream.chunks(5)]) == b"\x1e data"
            assert (await stream.wait(5)).status == 4


async def test_a_shell_that_died_while_it_waited_is_replaced(world):
    async with world.pool() as pool:
        me = session(pool)
        await me.run(sh("true"), soon())
        (connection,) = pool.connections(ANN)
        await until(lambda: (shell := connection.shared(Shell)) is not None and shell._greeted.done())
        for process in list(world.server.running):
            process.kill()
        assert (await me.run(sh("echo here"), soon())).stdout == b"here\n"
        async with me.stream(sh("echo here"), soon()) as stream:
            assert [data async for data in stream.chunks(5)] == [b"here\n"]


async def test_a_program_that_is_killed_is_no_result(world):
    async with world.pool() as pool:
        with pytest.raises(GatewayError, match="was ended before it had finished"):
            await session(pool).run(sh("kill -9 0"), soon())
