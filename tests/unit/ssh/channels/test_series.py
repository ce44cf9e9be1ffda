"""Commands that one shell runs one after the other: each has its own input, variables, output and exit status."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from dataclasses import replace
from subprocess import PIPE

import pytest

from flamecrest.server.errors import Timeout
from flamecrest.server.schedulers.once.in_series import SeriesRunner
from flamecrest.server.ssh.command import RUNNING, Command, Output
from flamecrest.server.ssh.errors import Lost, NotStarted
from flamecrest.server.ssh.start_line import (
    BEGIN,
    MAX_SERIES_INPUT,
    PRELUDE,
    START_LINE,
    series_line,
    series_text,
    split_end,
)
from tests.unit.ssh.pool.test_pool import session, sh, soon, until

from .test_start_up_files import start_up

pytestmark = pytest.mark.anyio

ENDED_BY_TIMEOUT = 124
TEXT = "".join(map(chr, [*range(1, 0x250), 0x20AC, 0x1F600])) + "\r\n'\"\\$(id)`id`%s\n\n  \n\t no end"


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh", "ksh"])
def test_inputs_arguments_and_variables_arrive_unchanged(shell, tmp_path):
    if shutil.which(shell.split()[0]) is None:
        pytest.skip(f"{shell} is not installed")
    words = ("a b", "'\n\"", "é\x80\\", "")
    script = 'printf "%s|" "$@" "$ONE"; cat; exit 3'
    one = Command(("sh", "-c", script, "sh", *words), lambda output: output, TEXT.encode(), {"ONE": " 1\n'"})
    two = Command(("sh", "-c", 'echo "${ONE-unset}"; cat'), lambda output: output)
    again = series_line(one, TEXT.encode())
    assert len(again) < len(TEXT), "the input is not sent again"
    text = series_text(for_job=True) + b"".join(map(series_line, (one, two))) + again + series_line(two)[:-1]
    start = START_LINE.replace(b"/bin/sh", shell.encode())
    done = subprocess.run(["dash", "-c", start], input=PRELUDE + text, capture_output=True, check=False)
    ends = [end for part in done.stdout.split(f"{BEGIN}\n".encode()) if (end := split_end(part)) is not None]
    assert ends[0] == ("|".join((*words, " 1\n'", "")).encode() + TEXT.encode(), 3)
    assert ends[1] == (b"unset\n", 0)
    assert ends[2] == ends[0]
    assert len(ends) == 3, "the line that was broken off is not run"


async def test_each_has_its_own_output_and_status(world):
    async with world.pool() as pool:
        me = session(pool)
        series = await me.series(soon())
        for number in range(3):
            done = await series.run(sh(f"echo out{number}; echo err{number} >&2; exit {number}"), soon())
            assert done == Output(number, b"out%d\n" % number, b"err%d\n" % number)
        assert (await series.run(sh("exit 4", stdin=b"x" * MAX_SERIES_INPUT), soon())).status == 4, "unread input"
        assert (await series.run(Command(("no-such",), lambda output: output), soon())).missing_program == "no-such"
        assert (await series.run(sh("kill -9 $$"), soon())).status == 137
        assert series.usable
        assert pool.stats()["channels"] == 1
        series.close()
        await until(lambda: pool.stats()["channels"] == 0)


async def test_each_has_its_own_input(world):
    async with world.pool() as pool:
        series = await session(pool).series(soon())
        for stdin in (b"one\n", b"one\n", None, b"one\n", b"two", b"", b"one\n"):
            assert (await series.run(sh("cat", stdin=stdin), soon())).stdout == (stdin or b"")
        series.close()


async def test_a_variable_of_one_command_is_not_seen_by_the_next(world):
    names = ("fc_begin", "fc_end", "fc_program", "ONE")
    shown = sh(" ".join(f'echo "${{{name}-unset}}";' for name in names))
    async with world.pool() as pool:
        series = await session(pool).series(soon())
        before = await series.run(shown, soon())
        assert (await series.run(replace(shown, env=dict.fromkeys(names, "x")), soon())).stdout == b"x\n" * len(names)
        assert await series.run(shown, soon()) == before
        series.close()


async def test_a_series_is_replaced_before_the_login_node_ends_it(world):
    async with world.pool() as pool:
        runner = SeriesRunner(session(pool))
        which = sh("echo $PPID")
        first = await runner.run(which, soon(5))
        assert (await runner.run(which, soon(5))).stdout == first.stdout
        assert (await runner.run(which, soon(30))).stdout != first.stdout
        runner.close()
        await until(lambda: pool.stats()["channels"] == 0)


async def test_the_login_node_ends_a_series_whose_gateway_is_gone(monkeypatch, tmp_path):
    monkeypatch.setattr("flamecrest.server.ssh.start_line.REMOTE_GRACE", 0)
    stays = sh(f"trap 'touch {tmp_path}/ended; exit' TERM; touch {tmp_path}/begun; while :; do sleep 0.1; done")
    text = PRELUDE + series_text(1, for_job=True) + series_line(stays)
    running = subprocess.Popen(["dash", "-c", START_LINE], stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True)
    with running:
        assert running.stdin is not None
        running.stdin.write(text)
        running.stdin.flush()
        assert await asyncio.to_thread(running.wait, 30) == ENDED_BY_TIMEOUT
        await until((tmp_path / "ended").exists)
        assert (tmp_path / "begun").exists()


async def test_what_a_series_does_not_take(world):
    async with world.pool() as pool:
        series = await session(pool).series(soon(), for_job=True)
        job = replace(sh("true"), for_job=True)
        assert series.takes(job)
        others = (
            sh("true"),
            replace(job, stdin=b"x" * (MAX_SERIES_INPUT + 1)),
            replace(job, env={"PATH": "/"}),
            replace(job, joined=True),
        )
        assert not any(series.takes(one) for one in others)
        series.close()


async def test_a_program_that_stays_ends_its_series(world):
    async with world.pool() as pool:
        series = await session(pool).series(soon())
        stays = replace(sh("echo 315; sleep 60"), is_enough=lambda output: bool(output.stdout))
        assert await series.run(stays, soon()) == Output(RUNNING, b"315\n")
        assert not series.usable
        series.close()
        series = await session(pool).series(soon())
        with pytest.raises(Timeout):
            await series.run(sh("sleep 60"), soon(0.2))
        assert not series.usable
        series.close()
        await until(lambda: pool.stats()["channels"] == 0)
        await until(lambda: not world.server.running)


async def test_a_connection_that_breaks_is_no_result(world):
    async with world.pool() as pool:
        series = await session(pool).series(soon())
        running = asyncio.create_task(series.run(sh("echo begun; sleep 60"), soon()))
        await asyncio.sleep(0)
        world.server.drop()
        with pytest.raises(Lost):
            await running
        assert not series.usable
        series.close()


@pytest.mark.parametrize("text", ["exec 2>&-", "exec 2>&1", "printf() { :; }; export -f printf", "sleep 600 &"])
async def test_start_up_files_that_disturb(world, text):
    """Where a series cannot be had, each command is run by itself."""
    start_up(world, text)
    async with world.pool() as pool:
        runner = SeriesRunner(session(pool))
        if text.startswith("exec"):
            with pytest.raises(NotStarted):
                await session(pool).series(soon())
        for number in range(2):
            done = await runner.run(sh(f"cat; exit {number}", stdin=b"in"), soon())
            assert (done.status, done.stdout) == (number, b"in")
        runner.close()
        await until(lambda: pool.stats()["channels"] == 0)


async def test_commands_at_the_same_time_have_a_shell_each_and_share_them_later(world, tmp_path):
    which = "read -r _ _ _ _ _ session _ < /proc/$$/stat; echo $session"
    together = f'cd {tmp_path} && touch $$ && while [ "$(ls | wc -l)" -lt 3 ]; do sleep 0.05; done; {which}'
    async with world.pool() as pool:
        runner = SeriesRunner(session(pool))
        found = await asyncio.gather(*(runner.run(sh(together), soon()) for _ in range(3)))
        later = [await runner.run(sh(which), soon()) for _ in range(3)]
        assert len({one.stdout for one in found}) == 3
        assert {one.stdout for one in later} <= {one.stdout for one in found}
        runner.close()
        await until(lambda: pool.stats()["channels"] == 0)
