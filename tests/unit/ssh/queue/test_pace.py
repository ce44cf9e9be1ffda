"""Admission by expected wait, over random histories: what would be served in time is, and few wait in vain."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flamecrest.server.ssh.queue.pace import LEAST, MEMORY, MOST, Pace, Turns, Wait, expected, hopeless

from .play import TAKES, Play, arrivals

seeds = st.integers(0, 10**9)


def played(kind: str, channels: int, load: float, burst: int, seed: int, *, admission: bool) -> Play:
    """A history of 1,200 requests that come at `load` times the rate that the channels can take."""
    times = arrivals(random.Random(seed), load * channels / 0.2, burst, 1200)
    return Play(TAKES[kind], channels, 2.0, seed, admission).run(times)


@pytest.mark.parametrize("load", [1.3, 4.0])
@pytest.mark.parametrize("channels", [2, 7, 18])
@pytest.mark.parametrize("kind", sorted(TAKES))
def test_as_many_are_served_in_time_and_fewer_wait_in_vain(kind, channels, load):
    for burst in (1, 40):
        without = played(kind, channels, load, burst, 1, admission=False)
        admitted = played(kind, channels, load, burst, 1, admission=True)
        assert admitted.served >= 0.9 * without.served
        assert admitted.served + admitted.in_vain + len(admitted.refused) == 1200
        assert admitted.in_vain <= (0.6 if load > 3 else 1) * without.in_vain, "most are told at once"


@pytest.mark.parametrize("channels", [2, 7, 18])
@pytest.mark.parametrize("kind", sorted(TAKES))
def test_nobody_is_refused_where_all_are_served_in_time(kind, channels):
    calm = 0
    for seed in range(10):
        load, burst = 0.1 + seed / 15, 1 + seed % 3 * 4
        if not played(kind, channels, load, burst, seed, admission=False).in_vain:
            calm += 1
            assert not played(kind, channels, load, burst, seed, admission=True).refused
    assert calm >= 3, "there were such histories"


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.integers(1, 10), seeds, st.booleans())
def test_who_comes_after_an_outage_is_not_refused_for_it(channels, seed, noticed):
    """For 20 s a command takes 100 times as long; then it is as before. `noticed`: connections were replaced."""
    rng, play = random.Random(seed), Play(TAKES["uniform"], channels, 2.0, seed, admission=True)
    play.takes = lambda _: rng.uniform(10, 30)
    play.run(arrivals(rng, 20.0, 1, 400))
    if noticed:
        play.turns.forget()
    play.takes, back, before = TAKES["uniform"], play.now, len(play.refused)
    play.run([back + at for at in arrivals(rng, 3.0 * channels, 1, 200)])
    assert len(play.refused) - before <= (0 if noticed else LEAST), "the first in the queue shows that it goes on"


@given(st.lists(st.floats(0, 5), max_size=3 * MOST))
def test_the_pace_is_that_of_the_last_turns(intervals):
    turns, now = Turns(), 100.0
    turns.begin(now)
    for count, interval in enumerate(intervals, 1):
        now += interval
        turns.taken(now)
        ages = [sum(intervals[n:count]) for n in range(1, count)] + [0.0]
        young = [one for one, age in zip(intervals[:count], ages, strict=True) if age <= MEMORY - 0.001][-MOST:]
        old = [one for one, age in zip(intervals[:count], ages, strict=True) if age <= MEMORY + 0.001][-MOST:]
        pace = turns.pace(now)
        assert pace is None or pace.turns in range(len(young), len(old) + 1)
        assert (pace is None) is (len(young) < LEAST) or len(young) != len(old)
        if pace is not None and len(young) == len(old):
            assert abs(pace.interval - sum(young) / len(young)) < 1e-6
    assert turns.pace(now + MEMORY + 5.1) is None, "what is old is forgotten"


def test_without_enough_turns_nothing_is_known():
    turns = Turns()
    turns.begin(0.0)
    for n in range(1, LEAST):
        turns.taken(float(n))
        assert turns.pace(float(n)) is None
    turns.taken(float(LEAST))
    assert turns.pace(float(LEAST)) == Pace(1.0, LEAST)
    turns.forget()
    assert turns.pace(float(LEAST)) is None
    turns.taken(LEAST + 50.0)
    for n in range(LEAST):
        turns.taken(LEAST + 50.1 + n / 10)
    assert turns.pace(LEAST + 51.0).interval < 0.2, "the time before a new connection is no turn"  # type: ignore[union-attr]


@given(st.lists(st.floats(0, 20), max_size=50), st.floats(0.001, 2), st.floats(0.01, 20))
def test_who_gives_up_soon_is_not_waited_for(deadlines, interval, left):
    pace = Pace(interval, MOST)
    wait = expected(deadlines, pace, 0.0, left)
    assert wait.ahead == round(wait.seconds / interval) - 1
    assert wait.ahead <= len(deadlines)
    assert expected([one for one in deadlines if one >= left / 2], pace, 0.0, left).ahead <= wait.ahead
    if all(one >= left / 2 for one in deadlines):
        assert wait.ahead == len(deadlines)


@given(st.integers(0, 2000), st.floats(0.0001, 5), st.integers(LEAST, MOST), st.floats(0, 60))
def test_only_what_cannot_be_in_time_is_hopeless(ahead, interval, turns, left):
    wait, pace = Wait(ahead, (ahead + 1) * interval), Pace(interval, turns)
    if hopeless(wait, pace, left):
        assert ahead > 0, "the first is never refused"
        assert wait.seconds > left
        assert hopeless(Wait(ahead + 1, wait.seconds + interval), pace, left), "nor does one behind it get in"
        assert hopeless(wait, pace, left / 2)
    elif ahead:
        assert wait.seconds <= 3 * left, "nobody waits for thrice of the time"


def test_less_doubt_with_more_turns():
    least = [next(n for n in range(1, 1000) if hopeless(Wait(n, n / 10 + 0.1), Pace(0.1, t), 5.0)) for t in (8, 20, 64)]
    assert all(one > other for one, other in pairwise(least))
    assert 60 < least[-1] < 80 < least[0] < 100
