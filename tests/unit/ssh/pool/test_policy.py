"""The pool's pure decisions, for every state it can be in."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.ssh.counters import PoolCounters
from flamecrest.server.ssh.pool.channel_limit import Kind
from flamecrest.server.ssh.pool.connection import Connection
from flamecrest.server.ssh.pool.host import Host
from flamecrest.server.ssh.pool.policy import ConnectionState, Decision, PoolLimits, decide, expired
from flamecrest.server.ssh.transport import SshTransport

if TYPE_CHECKING:
    import asyncssh

states = st.builds(
    ConnectionState,
    free=st.integers(-2, 5),
    busy=st.booleans(),
    usable=st.booleans(),
    idle=st.floats(0, 1000),
    age=st.floats(0, 10000),
)
limits = st.builds(PoolLimits, max_clients=st.integers(1, 5), per_user=st.integers(1, 4), idle=st.floats(1, 100))
ages = st.one_of(st.just(float("inf")), st.floats(0, 10000))


@given(st.lists(states, max_size=5), st.booleans(), st.integers(0, 8), st.booleans(), limits, ages)
def test_decide_keeps_every_limit(mine, dialing, total, evictable, limits, max_age):
    decision, index = decide(mine, limits, max_age=max_age, dialing=dialing, total=total, evictable=evictable)
    free = [n for n, state in enumerate(mine) if state.usable and state.free > 0]
    young = [n for n in free if mine[n].age <= max_age]
    more = sum(state.usable for state in mine) < limits.per_user and (total < limits.max_clients or evictable)
    if young:
        assert decision is Decision.USE, "a free channel is used, and nothing is opened"
    elif dialing:
        assert decision is Decision.WAIT, "one connect at a time"
    elif more:
        assert decision is (Decision.OPEN if total < limits.max_clients else Decision.EVICT)
    else:
        assert decision is (Decision.USE if free else Decision.WAIT), "an older connection rather than none"
    assert index == ((young or free)[0] if decision is Decision.USE else -1), "the first, so that others become idle"


@given(st.integers(0, 3), st.integers(1, 3), st.booleans(), st.booleans(), st.floats(-2, 2), st.floats(-2, 2))
def test_a_connection_accepts_work_as_the_policy_decides(channels, limit, lost, suspected, opened, since):
    """The pool asks a connection first, and `decide` only if none accepts."""
    transport = SshTransport(cast("asyncssh.SSHClientConnection", None), None, PoolCounters(), 30.0)
    transport.lost = lost
    connection = Connection("ann", Host("a"), transport, limit)
    connection.liveness.suspected, connection.opened = suspected, connection.opened + opened
    for _ in range(channels):
        connection.begin_channel(Kind.SHORT)
    now = time.monotonic()
    after = now + since
    state = connection.state(now, 1.0)
    young = connection.opened >= after
    assert connection.accepts(now, 1.0, after) == (state.usable and state.free > 0 and young)


@given(states, limits)
def test_expired_closes_nothing_that_is_used(state, limits):
    if expired(state, limits):
        assert not state.busy
    elif not state.busy:
        assert state.usable
        assert state.idle < limits.idle
        assert state.age < limits.age
