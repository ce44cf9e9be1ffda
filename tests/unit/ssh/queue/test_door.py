"""The queue of a pool, on a real server that takes two channels on a connection."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from flamecrest.server.auth.port import Identity
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Busy, GatewayError, Timeout, Unavailable
from flamecrest.server.ssh.command import Command, Output
from flamecrest.server.ssh.pool.pool import Pool
from flamecrest.server.ssh.queue.pace import LEAST
from flamecrest.server.ssh.queue.refusals import QueueFull, TooLate
from flamecrest.server.ssh.queue.room import QueueLimits
from flamecrest.server.ssh.session import PooledSessions

pytestmark = pytest.mark.anyio

ANN, BOB, CYD = Identity("ann"), Identity("bob"), Identity("cyd")

Tasks = list[asyncio.Task[Output]]


def begin(pool: Pool, script: str, count: int, who: Identity = ANN, seconds: float = 60.0) -> Tasks:
    me = PooledSessions(pool).of(who)
    command = Command(("sh", "-c", script), lambda output: output)
    return [asyncio.create_task(me.run(command, Deadline.after(seconds))) for _ in range(count)]


async def until(true) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.005)


async def end(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def crowd(pool: Pool, world, count: int = 12) -> Tasks:
    """Many commands of one user; the pace of their turns is known."""
    world.server.max_sessions = 2
    tasks = begin(pool, "sleep 0.1", count)
    await asyncio.gather(*tasks)
    return begin(pool, "sleep 0.1", 200)


async def test_what_cannot_be_in_time_is_refused_at_once_and_others_are_served(world):
    async with world.pool(per_user=1) as pool:
        waiting = await crowd(pool, world)
        await until(lambda: pool.stats()["waiting"] > 150)
        with pytest.raises(TooLate, match=r"would wait too long: all your connections .* in about") as refused:
            await begin(pool, "true", 1, ANN, 1.0)[0]
        assert isinstance(refused.value, Unavailable)
        assert refused.value.retry_after is not None
        assert 3 < refused.value.retry_after <= 60, "150 turns of 0.1 s on two channels, more on a busy machine"
        assert refused.value.details is not None
        assert refused.value.details["reason"] == "late"
        assert pool.stats()["refused_late"] == 1
        patient = begin(pool, "echo in", 1, ANN, 60.0)  # has the time
        assert (await begin(pool, "echo in", 1, BOB, 20.0)[0]).stdout == b"in\n", "another user does not wait"
        assert not any(task.done() and task.exception() for task in waiting)
        await end(*waiting)
        assert (await patient[0]).stdout == b"in\n"


async def test_a_first_crowd_is_not_refused(world):
    """Nothing is known of a server: all wait, and are served or not."""
    world.server.max_sessions = 2
    async with world.pool(per_user=1) as pool:
        assert len(await asyncio.gather(*begin(pool, "true", 30))) == 30
        assert not pool.stats()["refused_late"]


async def test_a_server_that_comes_back_is_not_measured_by_what_was_before(world):
    async with world.pool(per_user=1) as pool:
        waiting = await crowd(pool, world)
        await until(lambda: pool.stats()["waiting"] > 150)
        await end(*waiting)
        (user,) = pool._users.values()
        assert any(turns.pace(time.monotonic()) for turns in user.turns.values())
        world.server.drop()
        await until(lambda: not pool.all_connections())
        world.server.max_sessions = 10
        assert len(await asyncio.gather(*begin(pool, "true", 30, ANN, 30.0))) == 30
        assert not pool.stats()["refused_late"]


async def test_late_requests_wait_where_that_is_configured(world):
    async with world.pool(per_user=1, queue=QueueLimits(refuse_late=False)) as pool:
        waiting = await crowd(pool, world)
        await until(lambda: pool.stats()["waiting"] > 150)
        found = await asyncio.gather(*begin(pool, "true", 20, ANN, 0.3), return_exceptions=True)
        # a shell that was started for the next command serves one without a wait, in time or not
        refused = [one for one in found if not isinstance(one, Output | Timeout)]
        assert len(refused) >= 10
        assert all(isinstance(one, Busy) and "in use" in str(one) for one in refused), refused
        await end(*waiting)
        assert not pool.stats()["refused_late"]


async def test_one_user_has_so_many_waiting_and_no_more(world):
    async with world.pool(max_sessions=1, per_user=1, queue=QueueLimits(per_user=3)) as pool:
        tasks = begin(pool, "sleep 60", 1)
        await until(lambda: world.server.counts.commands == 1)
        tasks += begin(pool, "true", 3)
        await until(lambda: pool.stats()["waiting"] == 3)
        with pytest.raises(Busy, match="3 requests of yours wait for this cluster"):
            await begin(pool, "true", 1)[0]
        assert pool.stats()["refused_of_user"] == 1
        assert pool.stats()["waiting"] == 3
        await end(*tasks)
        await until(lambda: pool.stats()["waiting"] == 0)


async def test_who_has_most_waiting_makes_room_for_others(world):
    async with world.pool(max_sessions=1, per_user=1, queue=QueueLimits(requests=6)) as pool:
        held = [task for who in (ANN, BOB) for task in begin(pool, "sleep 60", 1, who)]
        await until(lambda: world.server.counts.commands == 2)
        anns = begin(pool, "true", 6, ANN)
        await until(lambda: pool.stats()["waiting"] == 6)
        with pytest.raises(QueueFull, match="nobody has more of them than you"):
            await begin(pool, "true", 1, ANN)[0]
        bobs = begin(pool, "true", 3, BOB)
        await until(lambda: sum(task.done() for task in anns) == 3)
        failed = [error for task in anns if task.done() and (error := task.exception())]
        assert len(failed) == 3
        assert all(isinstance(error, QueueFull) and error.retry_after for error in failed)
        assert not any(task.done() for task in anns[:3]), "the newest go"
        assert not any(task.done() for task in bobs)
        assert pool.stats()["waiting"] == 6
        assert pool.stats()["refused_full"] == 4
        await end(*held, *anns, *bobs)


async def test_who_waits_for_a_connection_behind_others_is_told(world):
    """Two connections, taken by turns; how fast is known after some."""
    names = [f"user{n}" for n in range(8)]
    world.add_users(names)
    async with world.pool(max_clients=1, per_user=1) as pool:
        turns = pool._door._connections
        turns.begin(now := time.monotonic())
        for n in range(LEAST):  # ten seconds from one turn to the next
            turns.taken(now + 10 * (n + 1))
        long = begin(pool, "sleep 60", 1)
        await until(lambda: world.server.counts.commands >= 1)  # a second one is a shell for the next command
        others = [task for name in names for task in begin(pool, "true", 1, Identity(name))]
        await until(lambda: pool.stats()["waiting"] == 8)
        with pytest.raises(TooLate, match="users who came before you wait for one"):
            await begin(pool, "true", 1, CYD, 20.0)[0]
        await end(*long, *others)


async def test_no_request_is_lost_or_doubled_in_a_crowd_of_users(world):
    """Random patience and more requests than there is room for: each one ends, and nothing waits at the end."""
    limits = QueueLimits(requests=40, per_user=30)
    async with world.pool(max_clients=2, per_user=1, max_sessions=2, queue=limits) as pool:
        most = 0
        tasks: Tasks = []
        for round_ in range(6):
            for who, count in ((ANN, 25), (BOB, 5), (CYD, 1)):
                tasks += begin(pool, "sleep 0.02", count, who, 0.5 + round_)
            await asyncio.sleep(0.02)
            most = max(most, pool.stats()["waiting"])
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, Output | GatewayError) for one in ended)
        assert any(isinstance(one, Output) for one in ended)
        assert most <= limits.requests
        assert pool.requests_wait == 0
        assert pool.stats()["waiting"] == 0
