"""The breaker, compared with a reading of its rules over the whole history. No I/O and no clock."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.health.breaker import PER_USER, Breaker, BreakerPolicy, BreakerState

POLICY = BreakerPolicy(probes=2, requests=4, window=30, retry=5, trial=30, trust=120)


def test_opens_on_requests_of_several_users_and_closes_by_one_that_is_served() -> None:
    breaker = Breaker(POLICY)
    for now, user in enumerate(["ann", "ann", "bob"]):
        breaker.request_failed(user, now)
        assert breaker.ask(now) is None
        assert not breaker.is_open
    breaker.request_failed("bob", 3)
    assert breaker.state(3) is BreakerState.OPEN
    assert breaker.ask(4) == pytest.approx(4)  # seconds to wait
    assert breaker.ask(8) is None  # the trial
    assert breaker.state(8) is BreakerState.HALF_OPEN
    wait = breaker.ask(9)
    assert wait is not None  # one at a time, whatever it takes
    assert 0 < wait <= POLICY.retry
    breaker.request_succeeded(20)
    assert breaker.state(20) is BreakerState.CLOSED
    assert breaker.ask(20) is None
    assert not breaker.suspected


def test_one_user_opens_nothing() -> None:
    breaker = Breaker(POLICY)
    for now in range(100):
        breaker.request_failed("ann", now / 10)
    breaker.request_failed("bob", 10)
    assert not breaker.is_open
    breaker.request_failed("bob", 10)
    assert breaker.is_open


def test_a_flood_of_one_users_failures_hides_no_others() -> None:
    breaker = Breaker(POLICY)
    for user in ("bob", "cid"):
        breaker.request_failed(user, 0)
        for _ in range(200):
            breaker.request_failed("mallory", 0)
    assert breaker.is_open


@pytest.mark.parametrize("end", ["failed", "never heard of", "left"])
def test_a_user_whose_trials_fail_keeps_nobody_from_trying(end: str) -> None:
    """Mallory asks all the time, bob every second."""
    breaker, now, served = opened_by_requests(0), 0.0, None
    while served is None and now < 10 * POLICY.trial:
        now += 0.1
        if breaker.ask(now, "mallory") is None:
            if end == "failed":
                breaker.request_failed("mallory", now)
            elif end == "left":
                breaker.trial_ended()
        elif round(now * 10) % 10 == 5 and breaker.ask(now, "bob") is None:
            served = now
    assert served is not None
    assert served <= 2 * POLICY.retry + POLICY.trial + 1


def test_a_user_alone_tries_again() -> None:
    breaker = opened_by_requests(0)
    assert breaker.ask(5, "ann") is None
    assert breaker.ask(9, "ann") is not None
    breaker.request_failed("ann", 9)
    assert breaker.ask(14, "ann") is None
    breaker.request_failed("ann", 15)
    assert breaker.ask(16, "bob") is not None  # now somebody else asks, too
    assert breaker.ask(24, "ann") == pytest.approx(1)
    assert breaker.ask(24, "bob") is None


def test_failures_far_apart_open_nothing() -> None:
    breaker = Breaker(POLICY)
    for number in range(50):
        breaker.request_failed(f"user{number}", number * POLICY.window / 2)
    assert not breaker.is_open


def test_a_failed_trial_starts_the_pause_again() -> None:
    breaker = opened_by_requests(0)
    assert breaker.ask(5) is None
    breaker.request_failed("ann", 12)
    assert breaker.ask(16) == pytest.approx(1)
    assert breaker.ask(17) is None
    breaker.trial_ended()  # a client that went away
    assert breaker.ask(18) is not None
    assert breaker.ask(22) is None
    assert breaker.ask(22 + POLICY.trial) is None  # a trial of which nothing was heard


def test_probes_count_less_than_requests() -> None:
    breaker = opened_by_requests(0)
    breaker.probe_succeeded(1)
    assert breaker.is_open  # users are not served
    assert breaker.ask(1) is None  # but one of them may try at once
    breaker.request_succeeded(2)
    for now in (3, 4, 5, 121):
        breaker.probe_failed(now)
        assert not breaker.is_open  # users are served
    breaker.probe_failed(123)
    breaker.probe_failed(124)
    assert breaker.is_open
    breaker.probe_succeeded(125)
    assert not breaker.is_open


def opened_by_requests(at: float) -> Breaker:
    breaker = Breaker(POLICY)
    for user in ("ann", "bob", "ann", "bob"):
        breaker.request_failed(user, at)
    assert breaker.is_open
    return breaker


@dataclass(frozen=True)
class Event:
    kind: str
    user: str
    pause: float


EVENTS = st.builds(
    Event,
    st.sampled_from(["probe up", "probe down", "served", "failed", "ask", "nothing"]),
    st.sampled_from(["ann", "bob", "cid"]),
    st.sampled_from([0.0, 0.5, 2.0, 5.0, 31.0, 121.0]),
)


@given(st.lists(EVENTS, max_size=60), st.integers(2, 4), st.integers(1, 5))
def test_random_histories(events: list[Event], probes: int, requests: int) -> None:
    breaker = Breaker(BreakerPolicy(probes=probes, requests=requests))
    policy, now, before = BreakerPolicy(probes=probes, requests=requests), 0.0, False
    history: list[tuple[float, Event]] = []
    trial: float | None = None
    for event in events:
        now += event.pause
        history.append((now, event))
        match event.kind:
            case "probe up":
                breaker.probe_succeeded(now)
            case "probe down":
                breaker.probe_failed(now)
            case "served":
                breaker.request_succeeded(now)
                trial = None
                assert not breaker.is_open, "a user was served"
            case "failed":
                breaker.request_failed(event.user, now)
                trial = None
            case "nothing":
                breaker.trial_ended()
                trial = None
            case _:
                wait = breaker.ask(now)
                assert wait is None or 0 < wait <= max(policy.retry, 0)
                if wait is None and breaker.is_open:
                    assert trial is None or now >= trial + policy.trial, "two trials at once"
                    trial = now
                assert breaker.is_open or wait is None, "a closed breaker refuses nothing"
        if breaker.is_open and not before:
            assert event.kind in {"probe down", "failed"}
            assert enough(history, policy, event.kind), history
        if before and not breaker.is_open:
            assert event.kind in {"served", "probe up"}
        before = breaker.is_open


def enough(history: list[tuple[float, Event]], policy: BreakerPolicy, kind: str) -> bool:
    """Whether what has happened since the last success is reason to open."""
    now = history[-1][0]
    last = max((at for at, (_, event) in enumerate(history) if event.kind == "served"), default=-1)
    since = history[last + 1 :]
    if kind == "probe down":
        ups = max((at for at, (_, event) in enumerate(since) if event.kind == "probe up"), default=-1)
        return sum(event.kind == "probe down" for _, event in since[ups + 1 :]) >= policy.probes
    users = [event.user for at, event in since if event.kind == "failed" and at >= now - policy.window]
    return sum(min(PER_USER, users.count(user)) for user in set(users)) >= policy.requests
