"""Logins that fail, hang or are dropped cost the user who causes them, and nobody else."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

import asyncssh
import pytest

from flamecrest.server.auth.port import Identity
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Busy
from flamecrest.server.ssh.command import Command
from flamecrest.server.ssh.errors import (
    AddressPenalised,
    ConnectionDropped,
    LoginRefused,
    LoginTimeout,
    NothingSent,
    Unreachable,
)
from flamecrest.server.ssh.pool.greeting import Greeting
from flamecrest.server.ssh.pool.login_errors import explain
from flamecrest.server.ssh.session import PooledSessions

pytestmark = pytest.mark.anyio

ANN, BOB, CYD = Identity("ann"), Identity("bob"), Identity("cyd")


async def log_in(pool, who: Identity = ANN, seconds: float = 30.0) -> str:
    whoami = Command(("sh", "-c", "echo $USER"), lambda output: output.text().strip())
    return await PooledSessions(pool).of(who).run(whoami, Deadline.after(seconds))


async def refused(pool, who: Identity = ANN, seconds: float = 30.0) -> NothingSent:
    with pytest.raises(NothingSent) as caught:
        await log_in(pool, who, seconds)
    return caught.value


async def test_a_refused_key_is_not_tried_with_every_request(world, caplog):
    world.server.faults.disabled.add("ann")
    world.server.faults.penalties = True
    async with world.pool() as pool:
        errors = [await refused(pool) for _ in range(20)]
        assert {error.public for error in errors} == {errors[0].public}
        assert "did not accept the SSH credentials of ann" in errors[0].public
        assert errors[-1].retry_after
        assert world.server.counts.failed_logins == 1
        assert [await log_in(pool, who) for who in (BOB, CYD)] == ["bob", "cyd"]
    (line,) = [record for record in caplog.records if record.message == "SSH login failed"]
    assert "PerSourcePenaltyExemptList" in line.fields["note"]


async def test_a_new_key_is_tried_at_once(world):
    accepted = world.server.keys["ann"]
    world.server.keys["ann"] = set()
    async with world.pool() as pool:
        await refused(pool)
        new = asyncssh.generate_private_key("ssh-ed25519")
        world.server.keys["ann"] = accepted | {new.public_data}
        await refused(pool)  # the old one
        world.keys["ann"] = new
        pool._dialer._credentials = world.credentials()  # as a source of credentials does
        assert await log_in(pool) == "ann"


async def test_connections_dropped_by_a_penalty_are_named_and_cost_nobody_who_is_connected(world, caplog):
    world.server.faults.penalties = True
    async with world.pool() as pool:
        assert await log_in(pool, BOB) == "bob"
        for _ in range(3):  # somebody else behind the same address
            world.server.login_failed()
        before = world.server.counts.connections
        error = await refused(pool, CYD, 2.0)
        assert isinstance(error, AddressPenalised)
        assert "Not allowed at this time" in error.public
        assert "PerSourcePenaltyExemptList" in error.public
        errors = [await refused(pool, who, 0.05) for who in (ANN, CYD) * 10]
        assert all("PerSourcePenaltyExemptList" in error.public for error in errors)
        assert world.server.counts.connections - before <= 3
        assert await log_in(pool, BOB) == "bob"
    assert any("PerSourcePenaltyExemptList" in str(getattr(r, "fields", "")) for r in caplog.records)


async def test_connections_closed_before_the_banner_are_told_from_failed_logins(world):
    world.server.max_startups = 0
    async with world.pool() as pool:
        error = await refused(pool, ANN, 0.5)
        assert isinstance(error, ConnectionDropped)
        assert "MaxStartups" in error.public
        assert 2 <= world.server.counts.connections <= 4, "growing pauses"
        world.server.max_startups = 100
        assert await log_in(pool) == "ann"


async def test_hung_logins_do_not_delay_others(world):
    users = [f"u{n:02}" for n in range(24)]
    world.add_users(users)
    world.server.faults.hanging.update(users)
    async with world.pool(world.host(login_timeout=60.0, connect_timeout=60.0)) as pool:
        hung = [asyncio.create_task(log_in(pool, Identity(user), 60)) for user in users]
        while world.server.counts.connections < 8:
            await asyncio.sleep(0.01)
        assert await log_in(pool, BOB, 30) == "bob"
        for task in hung:
            task.cancel()
        await asyncio.gather(*hung, return_exceptions=True)


async def test_no_loop_of_connects_where_a_further_connection_is_refused(world, caplog):
    caplog.set_level(logging.CRITICAL)
    async with world.pool(max_sessions=1) as pool:
        me = PooledSessions(pool).of(ANN)
        long = asyncio.create_task(me.run(Command(("sleep", "60"), lambda output: output), Deadline.after(60)))
        while not world.server.counts.commands:
            await asyncio.sleep(0.01)
        world.server.refuse()
        error = await refused_busy(pool)
        assert "in use" in error.public
        assert "connection refused" in (error.detail or "")
        (user,) = pool._users.values()
        assert 1 <= user.failures <= 4
        long.cancel()
        await asyncio.gather(long, return_exceptions=True)


async def refused_busy(pool) -> Busy:
    with pytest.raises(Busy) as caught:
        await log_in(pool, ANN, 1.0)
    return caught.value


async def test_a_dead_jump_host_is_named_as_the_jump_host(world):
    for port, problem in ((1, "connection refused"), (world.server.port, "did not accept")):
        world.server.faults.disabled.add("ann")
        async with world.pool(world.host(proxy_host="127.0.0.1", proxy_port=port)) as pool:
            error = await refused(pool)
            assert f"the jump host 127.0.0.1:{port}" in error.public
            assert problem in error.public
    async with world.pool(world.host(port=1, proxy_host="127.0.0.1", proxy_port=world.server.port)) as pool:
        world.server.faults.disabled.clear()
        error = await refused(pool)
        assert error.public.startswith("SSH to 127.0.0.1:1 failed: the jump host could not connect to it")


def test_a_jump_host_that_lets_a_user_connect_nowhere_says_nothing_about_the_login_node():
    """As with `restrict` or `permitopen` in the user's own authorized_keys on the jump host."""
    refusal = asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "open failed")
    error = explain(refusal, "SSH to login", "ann", Greeting())
    assert isinstance(error, LoginRefused)
    assert "does not let ann connect" in error.public


def test_a_login_through_a_jump_host_that_gets_no_answer_says_nothing_about_the_login_node():
    greeting = Greeting()
    assert isinstance(explain(TimeoutError(), "SSH to login", "ann", greeting), Unreachable)
    greeting.jump = cast("asyncssh.SSHClientConnection", object())
    error = explain(TimeoutError(), "SSH to login", "ann", greeting)
    assert isinstance(error, LoginTimeout)
    assert not isinstance(error, Unreachable)
