"""The rules of the pool on a real server, over random arrivals, losses, refusals and cancellations."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest

from flamecrest.server.auth.port import Identity
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError
from flamecrest.server.ssh.command import Command, Output
from flamecrest.server.ssh.session import PooledSession, PooledSessions

pytestmark = pytest.mark.anyio

USERS = [Identity(name) for name in ("ann", "bob", "cyd")]
SECONDS = 1.2


def sh(script: str) -> Command[Output]:
    return Command(("sh", "-c", script), lambda output: output)


async def request(me: PooledSession, rng: random.Random) -> None:
    match rng.randrange(4):
        case 0:
            await me.run(sh(f"sleep {rng.random() / 5:.2f}"), Deadline.after(rng.choice([0.1, 5, 60])))
        case 1:
            await me.stat("/", Deadline.after(5), follow=True)
        case 2:
            await me.sftp(lambda sftp: sftp.stat(b"/"), Deadline.after(5), repeatable=True)
        case 3:
            async with me.open_sftp(Deadline.after(5)) as sftp:
                await sftp.stat(b"/")
                await me.run(sh("true"), Deadline.after(5))


async def disturb(world, rng: random.Random) -> None:
    """One more fault, or one less."""
    match rng.randrange(6):
        case 0:
            world.server.drop()
        case 1:
            world.server.max_sessions = rng.randint(0, 6)
        case 2:
            world.server.faults.no_process ^= {rng.choice(USERS).username}
        case 3:
            world.server.max_startups = rng.choice([0, 1, 100])
        case 4:
            world.server.hang()
        case 5:
            world.server.thaw()
            world.server.max_sessions, world.server.max_startups = 10, 100


def held(pool) -> None:
    """The limits, at any instant."""
    users = pool._users.values()
    assert sum(len(user.connections) + (user.dialing is not None) for user in users) <= pool.limits.max_clients
    for user in users:
        usable = [connection for connection in user.connections if connection.usable(0.0, float("inf"))]
        assert len(usable) + (user.dialing is not None) <= pool.limits.per_user
        for connection in user.connections:
            assert 0 <= connection.long_commands <= connection.commands <= connection.channels


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(1, 6))])
async def test_a_random_history_keeps_the_limits_and_leaves_nothing_behind(world, seed):
    rng = random.Random(seed)
    loop = asyncio.get_running_loop()
    async with world.pool(world.host(login_timeout=1.0, connect_timeout=1.0), max_clients=4, turn=1.0) as pool:
        sessions = PooledSessions(pool)
        tasks: list[asyncio.Task[None]] = []
        end = loop.time() + SECONDS
        while loop.time() < end:
            tasks.append(asyncio.create_task(request(sessions.of(rng.choice(USERS)), rng)))
            if rng.random() < 0.3:
                rng.choice(tasks).cancel()
            if rng.random() < 0.1:
                await disturb(world, rng)
            await asyncio.sleep(rng.random() / 50)
            held(pool)
        for task in tasks:
            if rng.random() < 0.5:
                task.cancel()
        world.server.thaw()
        world.server.faults.no_process.clear()
        world.server.max_sessions, world.server.max_startups = 10, 100
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            assert ended is None or isinstance(ended, GatewayError | asyncio.CancelledError)
        for who in USERS:
            while True:  # a pause may last
                with suppress(GatewayError):
                    await sessions.of(who).run(sh("true"), Deadline.after(5))
                    break
                await asyncio.sleep(0.05)
        async with asyncio.timeout(30):
            while pool.stats()["channels"] > sum(len(connection._shared) for connection in pool.all_connections()):
                await asyncio.sleep(0.01)
        assert not any(c.commands or c.uses or c.hold for c in pool.all_connections())
        assert pool.requests_wait == 0
        counts = world.server.counts
        assert counts.connections < 120, "no loop of logins"
        assert counts.channels_refused < 400, "no loop of channels"
