"""Several login nodes, on real SSH servers: logins and reads go on over another node when one hangs or is gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from flamecrest.sandbox.ssh.server import SshServer
from flamecrest.server.auth.port import Identity
from flamecrest.server.errors import Upstream
from flamecrest.server.ssh.host_keys import HostKeyVerifier
from flamecrest.server.ssh.nodes.node import Health
from tests.unit.ssh.pool.test_pool import session, sh, soon, until

pytestmark = pytest.mark.anyio

ANN, BOB, CYD = Identity("ann"), Identity("bob"), Identity("cyd")


@pytest.fixture
def accelerate() -> bool:
    return True


@pytest.fixture
async def second(world) -> AsyncIterator[SshServer]:
    """Another login node, of the same users."""
    keys = {name: [key] for name, key in world.keys.items()}
    server = SshServer(world.server.users, world.host_key, keys=keys)
    await server.start()
    yield server
    await server.stop()


def two(world, second, **limits):
    """A pool on both nodes."""
    trust = HostKeyVerifier(pinned=[world.host_key.export_public_key().decode()])
    hosts = [world.host(), world.host(port=second.port)]
    return world.pool(*hosts, host_keys=trust, **limits)


def health(pool) -> list[Health]:
    return [node.health for node in pool.nodes.all]


async def stat(pool, who) -> bool:
    return (await session(pool, who).stat("/", soon(), follow=True))[0] > 0


async def test_users_are_spread_over_the_nodes(world, second):
    async with two(world, second) as pool:
        for who in (ANN, BOB):
            assert await stat(pool, who)
        assert (world.server.counts.logins, second.counts.logins) == (1, 1)
        assert [(one.connections, one.in_flight) for one in pool.nodes.report(pool.all_connections())] == [(1, 0)] * 2


@pytest.mark.parametrize("fault", ["refuse", "hang"])
async def test_a_login_is_made_on_another_node_if_one_takes_none(world, second, fault):
    getattr(world.server, fault)()
    async with two(world, second) as pool:
        assert await stat(pool, ANN)
        assert second.counts.logins == 1
        assert health(pool) == [Health.DOWN, Health.UP]
        before = world.server.counts.connections
        assert await stat(pool, BOB)
        assert world.server.counts.connections == before, "no user waits for a node that is known to be down"
        if fault == "refuse":
            await world.server.start()
        else:
            world.server.thaw()
        await until(lambda: health(pool)[0] is Health.RETURNING)


async def test_reads_leave_a_node_that_is_silent_and_it_gets_no_new_work(world, second):
    async with two(world, second) as pool:
        await stat(pool, ANN)
        await stat(pool, BOB)
        users = {"ann": ANN, "bob": BOB}
        (first,) = [one for one in pool.all_connections() if one.host.port == world.server.port]
        mine = users[first.user]
        world.server.freeze()
        assert await stat(pool, mine)
        assert health(pool)[0] is Health.DOWN
        assert first.in_flight == 0
        assert not first.usable(0.0, float("inf")), "it gets no new work"
        assert await stat(pool, CYD)
        assert second.counts.logins == 3
        world.server.thaw()
        await until(lambda: health(pool)[0] is not Health.DOWN)


async def test_a_write_that_may_have_begun_is_not_repeated_on_another_node(world, second):
    async with two(world, second) as pool:
        me, log = session(pool, ANN), world.root / "log"
        await me.run(sh("true"), soon())
        (connection,) = pool.all_connections()
        node = world.server if connection.host.port == world.server.port else second
        command = asyncio.create_task(me.run(sh("echo x >> $1; sleep 60", str(log)), soon()))
        await until(lambda: log.exists() and log.read_text())
        node.drop()
        with pytest.raises(Upstream):
            await command
        assert log.read_text() == "x\n"
        assert await stat(pool, ANN)


async def test_with_all_nodes_down_requests_fail_and_are_served_when_one_is_back(world, second):
    world.server.refuse()
    second.refuse()
    async with two(world, second) as pool:
        with pytest.raises(Upstream, match="connection refused"):
            await stat(pool, ANN)
        await second.start()
        assert await stat(pool, ANN)


async def test_users_of_a_node_that_is_gone_from_the_name_service_move(world, second):
    async with two(world, second) as pool:
        await stat(pool, ANN)
        (connection,) = pool.all_connections()
        pool.nodes.use([node.host for node in pool.nodes.all if node.host != connection.host])
        assert await stat(pool, ANN)
        (other,) = pool.connections(ANN)
        assert other is not connection
        await until(lambda: connection.lost)


async def test_users_of_a_node_that_is_slow_move(world, second):
    """The times of questions are noted; those of the slow node are set here, so that no test waits for them."""
    async with two(world, second) as pool:
        for who in (ANN, BOB):
            for _ in range(6):
                await stat(pool, who)
        slow, fast = (next(one for one in pool.connections(who)) for who in (ANN, BOB))
        assert {slow.node, fast.node} == set(pool.nodes.all)
        now = time.monotonic()
        assert all(one.node.latency(now) is not None for one in (slow, fast))
        for _ in range(40):
            slow.node.took(5.0, now, ANN.username)
        await until(lambda: any(one.node is fast.node for one in pool.connections(ANN)))
        assert not any(one.node is slow.node for one in pool.connections(ANN))
        assert slow.node.health is Health.SLOW


def users_of(server) -> set[str]:
    return {one.get_extra_info("username") for one in server.connections}


def freeze(server, user: str) -> None:
    """The user stops the processes of his own connections."""
    for one in server.connections:
        if one.get_extra_info("username") == user:
            one.freeze()


async def test_a_user_who_stops_his_own_connections_takes_no_node_from_others(world, second):
    users = {"ann": ANN, "bob": BOB, "cyd": CYD}
    async with two(world, second) as pool:
        for who in users.values():
            await stat(pool, who)
        servers = [world.server, second] if len(users_of(world.server)) == 2 else [second, world.server]
        nodes = [next(one for one in pool.nodes.all if one.host.port == server.port) for server in servers]
        mallory = min(users_of(servers[0]))
        freeze(servers[0], mallory)
        assert await stat(pool, users[mallory])
        await until(lambda: nodes[0].health is Health.UP)
        assert await stat(pool, users[mallory])
        assert mallory in users_of(servers[1])

        freeze(servers[1], mallory)
        before = [(node.since, node.failures) for node in nodes]
        assert await stat(pool, users[mallory])
        for who in users.values():
            assert await stat(pool, who)
        assert [(node.since, node.failures) for node in nodes] == before, "this time nobody has believed it"


async def test_a_node_that_hangs_is_found_by_a_user_who_is_not_believed(world, second):
    users = {"ann": ANN, "bob": BOB, "cyd": CYD}
    async with two(world, second) as pool:
        for who in users.values():
            await stat(pool, who)
        server = world.server if len(users_of(world.server)) == 2 else second
        mallory = min(users_of(server))
        pool._opener._unconfirmed.set(mallory, value=True, seconds=600.0)
        server.freeze()
        assert await stat(pool, users[mallory])
        node = next(one for one in pool.nodes.all if one.host.port == server.port)
        await until(lambda: node.health is Health.DOWN)


async def test_one_users_slow_answers_move_nobody_else(world, second):
    async with two(world, second) as pool:
        for who in (ANN, BOB, CYD):
            await stat(pool, who)
        node = next(one for one in pool.nodes.all if sum(c.node is one for c in pool.all_connections()) == 2)
        other = next(one for one in pool.nodes.all if one is not node)
        mallory, honest = (one.user for one in pool.all_connections() if one.node is node)
        now = time.monotonic()
        for _ in range(1000):
            node.took(5.0, now, mallory)
            other.took(0.001, now, "dot")
        for answers in (0, 40):
            for _ in range(answers):
                node.took(0.001, now, honest)
            assert pool.nodes.leaving(*pool._open_now()) == []
            assert node.health is Health.UP
        for _ in range(60):
            node.took(5.0, now, honest)
        assert pool.nodes.leaving(*pool._open_now()) == [node], "both say so"
