"""The pool's pure decisions, for every state it can be in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.ssh.pool.policy import ConnectionState, Decision, PoolLimits, Wish, choose, expired

views = st.builds(
    ConnectionState,
    free=st.integers(-2, 5),
    standing=st.integers(0, 2),
    busy=st.booleans(),
    usable=st.booleans(),
    idle=st.floats(0, 1000),
    age=st.floats(0, 10000),
)
rules = st.builds(PoolLimits, max_clients=st.integers(1, 5), per_user=st.integers(1, 4), idle=st.floats(1, 100))


wishes = st.builds(Wish, shared=st.booleans(), age=st.one_of(st.just(float("inf")), st.floats(0, 10000)))


@given(st.lists(views, max_size=5), st.booleans(), st.integers(0, 8), st.booleans(), rules, wishes)
def test_choose_keeps_every_limit(mine, opening, total, evictable, rules, wish):
    act, at = choose(mine, wish, opening=opening, total=total, evictable=evictable, rules=rules)
    room = [n for n, v in enumerate(mine) if v.usable and (wish.shared or v.free > 0)]
    young = [n for n in room if mine[n].age <= wish.age]
    more = sum(v.usable for v in mine) < rules.per_user and (total < rules.max_clients or evictable)
    if young:
        assert act is Decision.USE, "whoever finds room does not wait and opens nothing"
    elif opening:
        assert act is Decision.WAIT, "one connect in flight"
    elif more:
        assert act is (Decision.OPEN if total < rules.max_clients else Decision.EVICT)
    else:
        assert act is (Decision.USE if room else Decision.WAIT), "an older one rather than none"
    if act is Decision.USE:
        there = young or room
        most = max(mine[n].standing for n in there)
        assert at == next(n for n in there if not wish.shared or mine[n].standing == most), "so that others become idle"


@given(views, rules)
def test_expired_closes_nothing_that_is_used(view, rules):
    if expired(view, rules):
        assert not view.busy
    elif not view.busy:
        assert view.usable
        assert view.idle < rules.idle
        assert view.age < rules.age
