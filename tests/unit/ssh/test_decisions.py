"""The pool's pure decisions, for every state it can be in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.ssh.pool import Act, Rules, View, choose, expired

views = st.builds(
    View,
    free=st.integers(-2, 5),
    standing=st.integers(0, 2),
    busy=st.booleans(),
    usable=st.booleans(),
    idle=st.floats(0, 1000),
    age=st.floats(0, 10000),
)
rules = st.builds(Rules, max_clients=st.integers(1, 5), per_user=st.integers(1, 4), idle=st.floats(1, 100))


@given(st.lists(views, max_size=5), st.booleans(), st.integers(0, 8), st.booleans(), rules, st.booleans())
def test_choose_keeps_every_limit(mine, opening, total, evictable, rules, shared):
    act, at = choose(mine, opening=opening, total=total, evictable=evictable, rules=rules, shared=shared)
    room = [v.usable and (shared or v.free > 0) for v in mine]
    assert (act is Act.USE) == any(room), "whoever finds room does not wait and opens nothing"
    if act is Act.USE:
        assert room[at]
        there = [n for n, has in enumerate(room) if has]
        most = max(mine[n].standing for n in there)
        assert at == next(n for n in there if not shared or mine[n].standing == most), "so that others become idle"
    if act in {Act.OPEN, Act.EVICT}:
        assert not opening, "one connect in flight"
        assert sum(v.usable for v in mine) < rules.per_user
    if act is Act.OPEN:
        assert total < rules.max_clients
    if act is Act.EVICT:
        assert total >= rules.max_clients
        assert evictable


@given(views, rules)
def test_expired_closes_nothing_that_is_used(view, rules):
    if expired(view, rules):
        assert not view.busy
    elif not view.busy:
        assert view.usable
        assert view.idle < rules.idle
        assert view.age < rules.age
