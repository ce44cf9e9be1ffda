"""The room of the queue, over random histories: bounds hold, and nobody with a fair share or less is refused."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from flamecrest.server.ssh.queue.room import Entry, QueueLimits, entry


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 40), st.integers(1, 30), st.integers(2, 12))
def test_bounds_hold_and_shares_are_fair(seed, requests, per_user, users):
    """Some users send far more than others; now and then a request is served or gives up."""
    rng, limits = random.Random(seed), QueueLimits(requests, per_user)
    waiting = dict.fromkeys(range(users), 0)
    eager = [rng.choice([0.05, 1.0, 20.0]) for _ in waiting]
    for _ in range(600):
        if rng.random() < 0.3 and (some := [one for one, count in waiting.items() if count]):
            waiting[rng.choice(some)] -= 1
            continue
        (user,) = rng.choices(range(users), eager)
        waiting[user] += 1
        others = {one: count for one, count in waiting.items() if one != user}
        fullest = max(others, key=lambda one: others[one])
        total, here = sum(waiting.values()), sum(count > 0 for count in waiting.values())
        match entry(waiting[user], others[fullest], total, limits):
            case Entry.TOO_MANY_OF_USER:
                assert waiting[user] == per_user + 1
                waiting[user] -= 1
            case Entry.TOO_MANY:
                assert waiting[user] * here >= total > requests, "who has a fair share or less gets in"
                waiting[user] -= 1
            case Entry.DISPLACES:
                assert waiting[fullest] * here >= total > requests, "who has more than a fair share gives way"
                waiting[fullest] -= 1
                assert waiting[fullest] >= waiting[user], "and does not get less than the other"
            case Entry.WAITS:
                pass
        assert sum(waiting.values()) <= requests
        assert max(waiting.values()) <= per_user


def test_one_user_alone_may_fill_the_room():
    limits = QueueLimits(requests=3, per_user=5)
    assert [entry(n, 0, n, limits) for n in (1, 2, 3, 4)] == [Entry.WAITS] * 3 + [Entry.TOO_MANY]
    assert entry(1, 3, 4, limits) is Entry.DISPLACES
