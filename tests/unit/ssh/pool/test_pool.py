"""The pool with a real SSH server: sharing, limits, lost connections, and cleaning up."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from flamecrest.server.auth.port import Identity
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Busy, Denied, Timeout, TooLarge, Unavailable, Upstream
from flamecrest.server.ssh.channels.agent import Agent
from flamecrest.server.ssh.command import Command, Output
from flamecrest.server.ssh.errors import Lost, NothingSent, NotStarted
from flamecrest.server.ssh.session import PooledSession, PooledSessions
from tests.unit.ssh.conftest import both_ways

pytestmark = pytest.mark.anyio

ANN, BOB = Identity("ann"), Identity("bob")


def sh(script: str, *args: str, **more) -> Command[Output]:
    return Command(("sh", "-c", script, "sh", *args), lambda output: output, **more)


def soon(seconds: float = 60.0) -> Deadline:
    return Deadline.after(seconds)


async def until(true) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.005)


def session(pool, who: Identity = ANN) -> PooledSession:
    return PooledSessions(pool).of(who)


async def test_waiting_requests_share_one_connect(world):
    async with world.pool() as pool:
        answers = await asyncio.gather(*(session(pool).run(sh("echo $1", str(n)), soon()) for n in range(20)))
        assert [answer.stdout for answer in answers] == [b"%d\n" % n for n in range(20)]
        assert world.server.counts.connections <= 2
        assert "channels" in repr(pool)


async def test_each_user_has_connections_of_their_own(world):
    async with world.pool() as pool:
        names = await asyncio.gather(*(session(pool, who).run(sh("echo $USER"), soon()) for who in (ANN, BOB)))
        assert [name.stdout for name in names] == [b"ann\n", b"bob\n"]
        assert world.server.counts.logins == 2


@both_ways
async def test_commands_and_sftp_use_one_connection(world):
    async with world.pool() as pool:
        await session(pool).run(sh("echo hi > ~/file"), soon())
        attrs = await session(pool).sftp(lambda sftp: sftp.stat(b"%s/home/ann/file" % bytes(world.root)), soon())
        numbers = await session(pool).stat(f"{world.root}/home/ann/file", soon(), follow=True)
        assert attrs.size == numbers[7] == 3
        assert world.server.counts.connections == 1


@pytest.mark.parametrize("limit", [1, 3, *(pytest.param(limit, marks=pytest.mark.exhaustive) for limit in (2, 5))])
async def test_the_servers_limit_of_channels_is_learned_and_nobody_fails(world, limit):
    world.server.max_sessions = limit
    async with world.pool() as pool:

        async def work(n: int) -> bytes:
            me = session(pool)
            if n % 3 == 0:
                await me.sftp(lambda sftp: sftp.stat(b"/"), soon())
            if n % 3 == 1:
                await me.stat("/", soon(), follow=True)
            return (await me.run(sh("echo $1", str(n)), soon())).stdout

        assert await asyncio.gather(*(work(n) for n in range(30))) == [b"%d\n" % n for n in range(30)]
        assert world.server.counts.channels_most <= 2 * limit
        assert world.server.counts.connections <= 2


async def test_a_server_that_opens_no_session_is_named(world):
    world.server.max_sessions = 0
    async with world.pool() as pool:
        with pytest.raises(NothingSent, match="MaxSessions"):
            await session(pool).run(sh("true"), soon(0.5))


async def test_a_configured_limit_is_never_exceeded(world):
    async with world.pool(max_sessions=3, per_user=1) as pool:
        await asyncio.gather(*(session(pool).run(sh("true"), soon()) for _ in range(20)))
        assert world.server.counts.channels_most <= 3
        assert world.server.counts.channels_refused == 0


async def test_a_request_that_waits_too_long_for_a_channel_gets_busy(world):
    async with world.pool(max_sessions=1, per_user=1) as pool:
        long = asyncio.create_task(session(pool).run(sh("sleep 60"), soon(60)))
        await until(lambda: world.server.counts.commands == 1)
        with pytest.raises(Busy) as caught:
            await session(pool).run(sh("true"), soon(0.1))
        assert caught.value.retry_after
        long.cancel()
        await asyncio.wait([long])
        # the channel is free again when the remote process has ended
        assert (await session(pool).run(sh("echo back"), soon())).stdout == b"back\n"


async def test_max_clients_queues_and_idle_connections_of_others_make_room(world):
    async with world.pool(max_clients=1) as pool:
        await session(pool, ANN).run(sh("true"), soon())
        await session(pool, BOB).run(sh("true"), soon())  # ann's was idle
        busy = asyncio.create_task(session(pool, BOB).run(sh("sleep 60"), soon(60)))
        await until(lambda: pool.stats()["channels"] == 1)
        with pytest.raises(Unavailable):
            await session(pool, ANN).run(sh("true"), soon(0.1))
        waiting = asyncio.create_task(session(pool, ANN).run(sh("echo now"), soon()))
        await until(lambda: pool.stats()["waiting"] == 1)
        busy.cancel()
        assert (await waiting).stdout == b"now\n"
        await asyncio.wait([busy])
        assert world.server.counts.connected_most <= 2  # one closing while the next opens


async def test_idle_and_old_connections_are_closed(world):
    async with world.pool(idle=0.05) as pool:
        await session(pool).run(sh("true"), soon())
        await session(pool).sftp(lambda sftp: sftp.stat(b"/"), soon())
        await until(lambda: world.server.counts.connected == 0)
    async with world.pool(age=1200.0) as pool:
        running = asyncio.create_task(session(pool).run(sh("echo began; sleep 0.2; echo done"), soon()))
        await until(lambda: any(connection.busy for connection in pool.all_connections()))
        (connection,) = pool.all_connections()
        connection.opened -= 2000  # seconds
        assert (await running).stdout == b"began\ndone\n"
        await until(lambda: world.server.counts.connected == 0)
        await session(pool).run(sh("true"), soon())  # and a new one is opened


@both_ways
async def test_a_read_is_repeated_over_a_new_connection_and_a_write_is_not(world):
    async with world.pool() as pool:
        me = session(pool)
        count = world.root / "count"
        script = f"echo x >> {count}; [ -e {count}.go ] || sleep 60"

        async def cut_under(command: Command[Output]) -> Output:
            count.write_text("")
            task = asyncio.create_task(me.run(command, soon()))
            await until(lambda: count.read_text() == "x\n")
            (world.root / "count.go").touch()
            world.server.drop()
            return await task

        with pytest.raises(Lost):
            await cut_under(sh(script))
        assert count.read_text() == "x\n"
        (world.root / "count.go").unlink()
        assert (await cut_under(sh(script, repeatable=True))).status == 0
        assert count.read_text() == "x\nx\n"


@both_ways
async def test_sftp_and_stat_go_on_after_the_connection_was_lost(world):
    async with world.pool() as pool:
        me = session(pool)
        for _ in range(3):
            assert (await me.sftp(lambda sftp: sftp.stat(b"/"), soon(), repeatable=True)).mode
            assert len(await me.stat("/", soon(), follow=True)) == 14
            world.server.drop()
        assert pool.stats()["connections"] <= 1


@both_ways
async def test_a_frozen_connection_is_noticed_and_replaced(world):
    async with world.pool() as pool:
        me = session(pool)
        await me.sftp(lambda sftp: sftp.stat(b"/"), soon())
        world.server.freeze()
        # the old connection is silent: it is tested and dropped, and the read is repeated over a new one
        assert (await me.sftp(lambda sftp: sftp.stat(b"/"), soon(), repeatable=True)).mode
        assert world.server.counts.connections == 2
        world.server.thaw()


async def test_a_repeated_read_does_not_meet_the_next_frozen_connection(world):
    async with world.pool(max_sessions=1) as pool:
        me = session(pool)
        held = [asyncio.create_task(me.run(sh("sleep 60"), soon(60))) for _ in range(2)]
        await until(lambda: world.server.counts.commands == 2)
        assert pool.stats()["connections"] == 2
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        await until(lambda: pool.stats()["idle"] == 2)
        world.server.freeze()
        assert (await me.run(sh("echo here", repeatable=True), soon(40))).stdout == b"here\n"
        assert world.server.counts.connections == 3
        world.server.thaw()


async def test_what_login_scripts_print_is_not_taken_for_an_answer(world):
    world.server.faults.rc_files = True
    noise = 'printf "welcome\\n%.0s" $(seq 2000); echo "quota exceeded" >&2\n'
    (world.server.users["ann"].home / ".bashrc").write_text(noise)
    async with world.pool() as pool:
        me = session(pool)
        done = await me.run(sh("cat; echo error >&2; exit 3", stdin=b"own"), soon())
        assert done == Output(3, b"own", b"error\n")
        assert len(await me.stat("/", soon(), follow=True)) == 14
        assert pool.stats()["channels"] == 1, "the agent answers, and no process a question"
        async with me.stream(sh("echo streamed; exit 4"), soon()) as stream:
            assert b"".join([data async for data in stream.chunks(5)]) == b"streamed\n"
            assert await stream.wait(5) == Output(4, b"", b"")


async def test_the_message_of_an_account_without_commands_is_returned(world):
    world.server.faults.rc_files = True
    (world.server.users["ann"].home / ".bashrc").write_text("echo 'This account is closed.'; exit 1\n")
    async with world.pool() as pool:
        with pytest.raises(NotStarted, match=r"ended before a program could be started: This account is closed\.$"):
            await session(pool).run(sh("true"), soon())


@both_ways
async def test_the_pool_counts_messages_and_bytes(world):
    async with world.pool() as pool:
        me = session(pool)
        await me.run(sh("cat", stdin=b"x" * 100_000), soon())
        await until(lambda: pool.stats()["channels_opened"] == 2)  # one for the next command
        stats = pool.stats()
        assert 100_000 < stats["bytes_sent"] < 110_000, "and the text of the command"
        assert 100_000 < stats["bytes_received"] < 100_200, "and the marks"
        assert 5 <= stats["messages_sent"] <= 6
        assert 6 <= stats["messages_received"] < 100


async def test_an_agent_closed_for_a_command_is_started_again(world):
    async with world.pool(max_sessions=1, per_user=1) as pool:
        me = session(pool)
        await me.stat("/", soon(), follow=True)
        (connection,) = pool.connections(ANN)
        assert connection.shared(Agent) is not None
        await me.run(sh("true"), soon())  # one channel only: the agent is closed
        assert connection.shared(Agent) is None
        assert connection.agent_paused
        assert len(await me.stat("/", soon(), follow=True)) == 14  # by the stat command
        assert connection.shared(Agent) is None
        connection.resume_agent()
        assert len(await me.stat("/", soon(), follow=True)) == 14
        assert connection.shared(Agent) is not None


async def test_a_silent_server_is_given_up(world):
    world.server.hang()
    async with world.pool(world.host(connect_timeout=0.1, login_timeout=0.1)) as pool:
        with pytest.raises(Upstream) as caught:
            await session(pool).run(sh("true"), soon())
        assert "no answer" in caught.value.public or "closed" in caught.value.public
        world.server.thaw()


@both_ways
@pytest.mark.parametrize("how", ["deadline", "cancelled", "too much output"])
async def test_the_remote_process_ends_with_the_request(world, how):
    pidfile = world.root / "pid"
    error = {"deadline": Timeout, "cancelled": asyncio.CancelledError, "too much output": TooLarge}[how]
    async with world.pool() as pool:
        script = f"echo $$ > {pidfile}.new; mv {pidfile}.new {pidfile}; " + (
            "yes" if how == "too much output" else "sleep 60 | cat"
        )
        seconds = 0.3 if how == "deadline" else 60
        while not pidfile.exists():  # the deadline must pass after the process has started
            seconds *= 2
            task = asyncio.create_task(session(pool).run(sh(script, max_output=100_000), soon(seconds)))
            await until(lambda task=task: pidfile.exists() or task.done())
            if how == "cancelled":
                task.cancel()
            with pytest.raises(error):
                await task
        pid = int(pidfile.read_text())
        await until(lambda: not alive(pid))
        await until(lambda: pool.stats()["channels"] == 0)
        await until(lambda: world.server.counts.channels == pool.stats()["ahead"])


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@both_ways
async def test_a_command_without_input_gets_eof(world):
    async with world.pool() as pool:
        assert (await session(pool).run(Command(("cat",), lambda output: output), soon())).stdout == b""
        data = bytes(range(256)) * 40_000  # ten times the channel's window
        assert (await session(pool).run(Command(("cat",), lambda output: output, stdin=data), soon())).stdout == data


async def test_a_failed_login_is_explained(world):
    world.server.faults.disabled.add("bob")
    async with world.pool() as pool:
        with pytest.raises(NothingSent, match="did not accept the SSH credentials of bob"):
            await session(pool, BOB).run(sh("true"), soon())
        with pytest.raises(Denied, match="No SSH key is configured for user eve"):
            await session(pool, Identity("eve")).run(sh("true"), soon())


async def test_unreachable_hosts_are_explained(world):
    world.server.refuse()
    async with world.pool() as pool:
        with pytest.raises(NothingSent, match="connection refused"):
            await session(pool).run(sh("true"), soon())
    async with world.pool(world.host(host="no-such-host.invalid")) as pool:
        with pytest.raises(NothingSent, match="could not be resolved"):
            await session(pool).run(sh("true"), soon())


async def test_logins_that_the_server_drops_at_random_are_tried_again(world):
    world.server.max_startups = 1
    async with world.pool() as pool:
        users = [ANN, BOB, Identity("cyd")]
        answers = await asyncio.gather(*(session(pool, who).run(sh("echo $USER"), soon()) for who in users))
        assert [answer.stdout for answer in answers] == [b"ann\n", b"bob\n", b"cyd\n"]


async def test_a_jump_host_is_used_and_closed(world):
    host = world.host(proxy_host="127.0.0.1", proxy_port=world.server.port)
    async with world.pool(host) as pool:
        assert (await session(pool).run(sh("echo $USER"), soon())).stdout == b"ann\n"
        assert world.server.counts.connected == 2
    await until(lambda: world.server.counts.connected == 0)


async def test_connections_are_spread_over_the_hosts(world):
    hosts = world.host(), world.host(connect_timeout=6.0)  # two values for the same server
    async with world.pool(*hosts, max_sessions=1) as pool:
        tasks = [asyncio.create_task(session(pool).run(sh("sleep 60"), soon(60))) for _ in range(2)]
        await until(lambda: world.server.counts.commands == 2)
        assert {connection.host for connection in pool.connections(ANN)} == set(hosts)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@both_ways
async def test_leaving_the_pool_leaves_nothing(world):
    async with world.pool() as pool:
        waiting = asyncio.create_task(session(pool).run(sh("sleep 60"), soon(60)))
        await until(lambda: world.server.counts.commands >= 1)
    with pytest.raises(Upstream):
        await waiting
    await until(lambda: world.server.counts.connected == 0)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(1, 6))])
async def test_every_request_succeeds_with_one_channel_per_connection(world, seed):
    """Commands, SFTP and the agent need the one channel of a connection at the same time."""
    rng = random.Random(seed)
    async with world.pool(max_sessions=1, per_user=2) as pool:
        me = session(pool)
        ways = (
            lambda: me.run(sh("true"), soon(20)),
            lambda: me.stat("/", soon(20), follow=True),
            lambda: me.sftp(lambda sftp: sftp.stat(b"/"), soon(20), repeatable=True),
        )

        async def one() -> None:
            await asyncio.sleep(rng.random() * 0.2)
            await rng.choice(ways)()

        await asyncio.gather(*(one() for _ in range(40)))
