"""Logins whose start-up files end, replace, hang or flood the shell: nothing of a request is run or sent there."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import ref

import pytest

from flamecrest.server.errors import GatewayError
from flamecrest.server.files.remote import agent_requests
from flamecrest.server.ssh.channels.process import Shell
from flamecrest.server.ssh.channels.sftp_program import SftpOpener
from flamecrest.server.ssh.command import Command
from flamecrest.server.ssh.errors import NotStarted
from flamecrest.server.ssh.session import PooledSessions
from tests.unit.ssh.pool.test_pool import ANN, BOB, session, sh, soon, until

pytestmark = pytest.mark.anyio

# start-up file, and what the error says
NEVER_STARTS = {
    "ends": ("echo 'Down for maintenance'; exit 0", "ended before a program could be started: Down for maintenance"),
    "ends with colours": ("printf '\\033[31m\\a  No quota\\033[0m\\n' >&2; exit 1", "could be started: No quota$"),
    "becomes bash": ("exec bash", "did not start a shell within 0.6 seconds"),
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
    "closes standard error": "exec 2>&-",
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
    async with world.pool(world.host(login_timeout=0.6)) as pool:
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
    async with world.pool(world.host(login_timeout=0.6)) as pool:
        with pytest.raises(GatewayError):
            await PooledSessions(pool, SftpOpener(servers=())).of(ANN).sftp(lambda sftp: sftp.stat(b"/"), soon())
        await until(lambda: pool.stats()["channels"] == 0)


@pytest.mark.parametrize(
    ("text", "subsystem"),
    [
        ("sleep 60", True),
        ("exec cat", True),
        ("yes", True),
        ("exec bash", False),
        ("exec 2>&1; trap '' TERM; sleep 60", False),
    ],
)
async def test_a_login_that_hangs_is_waited_for_once(world, text, subsystem):
    start_up(world, f"if [ $USER = ann ]; then echo 'Locked until Monday' >&2; {text}; fi")
    world.server.faults.subsystem_by_shell, world.server.sftp = True, subsystem
    async with world.pool(world.host(login_timeout=0.6)) as pool:
        sessions = PooledSessions(pool)
        me, failed = sessions.of(ANN), 0

        async def fails(work: Coroutine[Any, Any, Any]) -> None:
            nonlocal failed
            with pytest.raises(NotStarted, match=r"(did not start|prints without end).*: Locked until Monday"):
                await work
            failed += 1

        await fails(me.stat("/etc", soon(), follow=True))
        opened = world.server.counts.channels_opened
        for _ in range(3):
            await fails(me.stat("/etc", soon(), follow=True))
            await fails(me.sftp(lambda sftp: sftp.stat(b"/"), soon()))
            await fails(me.run(sh("true"), soon()))
        assert failed == 10
        assert world.server.counts.channels_opened == opened, "nothing is asked again"
        await until(lambda: pool.stats()["channels"] == 0)
        assert await sessions.of(BOB).stat("/etc", soon(), follow=True)
        assert (await sessions.of(BOB).sftp(lambda sftp: sftp.stat(b"/"), soon())).mode


async def test_requests_that_wait_for_a_login_that_hangs_fail_together(world):
    start_up(world, "sleep 60")
    world.server.faults.subsystem_by_shell = True
    async with world.pool(world.host(login_timeout=0.6), max_sessions=4) as pool:
        me = session(pool)
        work: list[Coroutine[Any, Any, Any]] = []
        for _ in range(20):
            work.append(me.sftp(lambda sftp: sftp.stat(b"/"), soon(), repeatable=True))
            work.append(me.run(sh("true"), soon()))
        answers = await asyncio.gather(*work, return_exceptions=True)
        counts = world.server.counts
        assert {type(answer) for answer in answers} == {NotStarted}
        assert counts.channels_opened <= 4 * counts.connections <= 8


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


async def test_what_a_command_has_printed_is_freed_with_its_shell(world):
    async with world.pool() as pool:
        me = session(pool)
        await me.run(sh("true"), soon())
        (connection,) = pool.connections(ANN)
        await until(lambda: connection.shared(Shell) is not None)
        ahead = ref(connection.shared(Shell))
        assert (await me.run(sh("echo much"), soon())).stdout == b"much\n"
        await until(lambda: gc.collect() >= 0 and ahead() is None)  # long before the time for which a shell waits


async def test_a_program_that_is_killed_is_no_result(world):
    async with world.pool() as pool:
        with pytest.raises(GatewayError, match="was ended before it had finished"):
            await session(pool).run(sh("kill -9 0"), soon())


async def test_what_a_start_up_file_leaves_running_delays_no_command(world):
    start_up(world, "sleep 600 &")
    async with world.pool() as pool:
        for status in (0, 3):
            output = await session(pool).run(sh("echo out; echo err >&2; exit $1", str(status)), soon(20))
            assert (output.status, output.stdout, output.errors()) == (status, b"out\n", "err")


@pytest.mark.parametrize("text", ["exec 2>&-", "exec 2>/dev/null", "exec 2>&1", ""])
async def test_messages_that_decide_come_though_standard_error_is_closed(world, text):
    start_up(world, text)
    code = "exec 3</dev/null; [ -c /dev/fd/2 -o -p /dev/fd/2 ] && echo out && echo err >&2; exit 3"
    async with world.pool() as pool:
        done = await session(pool).run(replace(sh(code), joined=True), soon())
        missing = await session(pool).run(Command(("no-such",), lambda output: output, joined=True), soon())
    assert (done.status, done.stdout, done.stderr) == (3, b"", b"out\nerr\n")
    assert missing.missing_program == "no-such"


async def test_what_a_start_up_file_leaves_running_may_print(world):
    start_up(world, "(while sleep 0.02; do echo noise; done) &")
    async with world.pool() as pool:
        me = session(pool)
        assert (await me.stat("/etc/passwd", soon(), follow=True))[7] == Path("/etc/passwd").stat().st_size
        output = await me.run(sh("echo out; exit 3"), soon())
        assert (output.status, output.stdout.replace(b"noise\n", b"")) == (3, b"out\n")


async def test_a_login_without_input_runs_nothing_and_says_so(world):
    start_up(world, "exec </dev/null")
    async with world.pool() as pool:
        me = session(pool)
        assert await me.stat("/etc/passwd", soon(), follow=True), "by SFTP"
        for _ in range(5):
            with pytest.raises(NotStarted):
                await me.run(sh("true"), soon())


async def test_sftp_answers_where_there_is_no_program_at_all(world):
    start_up(world, "PATH=/nonexistent")
    async with world.pool() as pool:
        assert (await session(pool).stat("/etc/passwd", soon(), follow=True))[7] > 0
