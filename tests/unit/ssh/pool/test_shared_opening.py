"""Requests of one user that need the same shared channel: one of them opens it, the others take no channel for that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

import pytest

from flamecrest.server.ssh.channels.agent import Agent
from flamecrest.server.ssh.channels.sftp import Sftp
from flamecrest.server.ssh.pool.pool import Pool
from tests.unit.ssh.channels.test_agent import instead_of_perl
from tests.unit.ssh.conftest import World
from tests.unit.ssh.pool.test_pool import ANN, session, sh, soon

pytestmark = pytest.mark.anyio

CROWD = 40  # more than two connections have channels


def stat(pool: Pool) -> Awaitable[Sequence[int]]:
    return session(pool).stat("/", soon(), follow=True)


def sftp(pool: Pool) -> Awaitable[object]:
    return session(pool).sftp(lambda client: client.stat(b"/"), soon())


@pytest.mark.parametrize(("ask", "kind"), [(stat, Agent), (sftp, Sftp)])
async def test_a_crowd_opens_one_connection_with_one_channel(world: World, ask, kind):
    async with world.pool() as pool:
        await asyncio.gather(*(ask(pool) for _ in range(CROWD)))
        (connection,) = pool.connections(ANN)
        assert connection.shared(kind) is not None
        assert connection.channels == pool.counters.channels_opened == 1
        assert pool.counters.opened == world.server.counts.connections == 1
        assert not connection.opens
        assert not pool.requests_wait


async def test_agent_and_sftp_are_opened_beside_each_other(world: World):
    async with world.pool() as pool:
        await asyncio.gather(*(ask(pool) for _ in range(CROWD) for ask in (stat, sftp)))
        assert pool.counters.opened == 1
        assert pool.counters.channels_opened == 2


async def test_a_client_that_leaves_while_its_request_opens_the_channel_delays_nobody(world: World):
    async with world.pool() as pool:
        first = asyncio.ensure_future(stat(pool))
        others = [asyncio.ensure_future(stat(pool)) for _ in range(CROWD)]
        async with asyncio.timeout(30):
            while not any(Agent in connection.opens for connection in pool.all_connections()):
                await asyncio.sleep(0)  # it may be open within milliseconds
        first.cancel()
        await asyncio.gather(*others)
        assert first.cancelled()
        assert pool.counters.opened == pool.counters.channels_opened == 1


async def test_commands_take_the_channels_that_those_who_wait_leave(world: World):
    async with world.pool(max_sessions=4, per_user=1) as pool:
        stats = [asyncio.ensure_future(stat(pool)) for _ in range(CROWD)]
        output = await session(pool).run(sh("echo here"), soon())
        assert output.stdout == b"here\n"
        await asyncio.gather(*stats)
        assert pool.counters.opened == 1


async def test_where_there_is_no_agent_one_request_finds_out(world: World):
    """The others are served by commands or by SFTP, and make no second attempt."""
    starts = world.root / "starts"
    instead_of_perl(world, f"echo once >> {starts}; exit 2")
    async with world.pool() as pool:
        found = await asyncio.gather(*(stat(pool) for _ in range(CROWD)))
        assert {len(numbers) for numbers in found} == {14}
        assert starts.read_text() == "once\n"


@pytest.mark.parametrize("limit", [1, 2])
async def test_few_channels_serve_a_mixed_crowd(world: World, limit: int):
    world.server.max_sessions = limit
    async with world.pool() as pool:
        work: list[Awaitable[Any]] = []
        for number in range(CROWD):
            ask = (stat, sftp)[number % 2]
            work += [ask(pool), session(pool).run(sh("echo $1", str(number)), soon())]
        found = await asyncio.gather(*work)
        assert [output.stdout for output in found[1::2]] == [b"%d\n" % number for number in range(CROWD)]
        assert world.server.counts.channels_most <= 2 * limit
        assert not pool.requests_wait
        assert not any(connection.opens for connection in pool.all_connections())


async def test_all_who_wait_hear_of_a_login_that_fails(world: World):
    world.server.keys.clear()
    async with world.pool() as pool:
        found = await asyncio.gather(*(stat(pool) for _ in range(CROWD)), return_exceptions=True)
        assert {type(error).__name__ for error in found} == {"LoginRefused"}
        assert world.server.counts.connections == 1
