"""Programs that stay after their result is printed: the result is returned, and the program is ended."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from flamecrest.server.auth.port import Identity
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Timeout, TooLarge
from flamecrest.server.ssh.command import RUNNING, Command, Output
from flamecrest.server.ssh.session import PooledSessions
from tests.unit.ssh.conftest import both_ways
from tests.unit.ssh.pool.test_pool import alive, until

pytestmark = pytest.mark.anyio


def same(output: Output) -> Output:
    return output


def a_line(output: Output) -> bool:
    return output.status == RUNNING and output.stdout.endswith(b"\n")


def printing(script: str) -> Command[Output]:
    return Command(("sh", "-c", script), same, is_enough=a_line)


async def test_the_result_of_a_program_that_stays(world):
    pidfile = world.root / "pid"
    async with world.pool() as pool:
        session = PooledSessions(pool).of(Identity("ann"))
        script = f"echo $$ >{pidfile}; echo note >&2; printf 31; sleep 0.1; echo 5; exec sleep 60"
        output = await session.run(printing(script), Deadline.after(60))
        assert (output.status, output.stdout, output.stderr) == (RUNNING, b"315\n", b"note\n")
        await until(lambda: not alive(int(pidfile.read_text())))
        await until(lambda: pool.stats()["channels"] == 0)


@both_ways
async def test_a_program_that_ends_has_its_whole_output_and_status(world):
    async with world.pool() as pool:
        session = PooledSessions(pool).of(Identity("ann"))
        output = await session.run(printing("echo 315; sleep 0.1; echo more; exit 3"), Deadline.after(60))
        assert output == Output(3, b"315\nmore\n")


async def test_the_result_is_not_lost_at_the_deadline_or_with_the_connection(world):
    async with world.pool() as pool:
        session = PooledSessions(pool).of(Identity("ann"))
        await session.run(printing("echo"), Deadline.after(60))
        assert (await session.run(printing("echo 315; sleep 60"), Deadline.after(0.3))).stdout == b"315\n"
        with pytest.raises(Timeout):
            await session.run(printing("printf 31; sleep 60"), Deadline.after(0.3))
        seen: list[bytes] = []

        def note(output: Output) -> bool:
            seen.append(output.stdout)
            return len(seen) > 1  # first asked after the output, then after the loss

        command = replace(printing("echo 315; sleep 60"), is_enough=note)
        running = asyncio.create_task(session.run(command, Deadline.after(60)))
        await until(lambda: seen == [b"315\n"])
        for connection in pool.connections(Identity("ann")):
            connection.transport.abort()
        assert (await running).stdout == b"315\n"


@both_ways
async def test_the_result_of_a_program_that_then_prints_without_end(world):
    async with world.pool() as pool:
        session = PooledSessions(pool).of(Identity("ann"))
        command = replace(printing("echo 315; yes"), max_output=100_000, is_enough=lambda _: True)
        output = await session.run(command, Deadline.after(60))
        assert output.status == RUNNING
        assert output.stdout.startswith(b"315\ny\n")
        await until(lambda: pool.stats()["channels"] == 0)


async def test_looks_at_growing_output_become_rare(world):
    looks = 0

    def look(_: Output) -> bool:
        nonlocal looks
        looks += 1
        return False

    async with world.pool() as pool:
        session = PooledSessions(pool).of(Identity("ann"))
        command = replace(printing("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo; sleep 0.3; done"), is_enough=look)
        await session.run(command, Deadline.after(60))
        assert looks <= 3


@both_ways
async def test_the_output_of_all_programs_on_a_connection_is_limited(world):
    """One program may print as much as all together, until it has been parsed."""
    size = 33 * 1024 * 1024  # two of them are more than 64 MiB
    script = 'head -c "$1" /dev/zero; until [ -e "$2" ]; do sleep 0.02; done'
    command = Command(("sh", "-c", script, "sh", str(size), f"{world.root}/go"), lambda output: len(output.stdout))
    async with world.pool(per_user=1) as pool:
        session = PooledSessions(pool).of(Identity("ann"))
        together = [asyncio.create_task(session.run(command, Deadline.after(60))) for _ in range(2)]
        await until(lambda: any(one.done() for one in together))  # with an error: the programs stay
        (world.root / "go").touch()
        done = await asyncio.gather(*together, return_exceptions=True)
        assert {one if isinstance(one, int) else type(one) for one in done} <= {TooLarge, size}
        (connection,) = pool.connections(Identity("ann"))
        assert connection.transport.held == 0
        assert await session.run(command, Deadline.after(60)) == size
        await until(lambda: pool.stats()["channels"] == 0)
