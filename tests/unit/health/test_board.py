"""The Board, compared with a model that keeps the whole history."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from flamecrest.server.errors import Unavailable
from flamecrest.server.health.board import Board, ProbeResult, Service

START = datetime(2026, 1, 1, tzinfo=UTC)

Key = tuple[Service, str | None]
KEYS: list[Key] = [
    (Service.SSH, None),
    (Service.SCHEDULER, None),
    (Service.FILESYSTEM, "/home"),
    (Service.FILESYSTEM, "/home/scratch"),
]


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def result(
    service: Service, path: str | None = None, *, healthy: bool, at: datetime = START, message: str | None = None
) -> ProbeResult:
    return ProbeResult(service, healthy=healthy, checked=at, latency=0.1, message=message, path=path)


def test_unprobed_service_is_allowed() -> None:
    board = Board("daint")
    for service, path in [*KEYS, (Service.FILESYSTEM, None), (Service.S3, None)]:
        board.require(service, path)
    assert board.results() == []
    assert board.last_run is None
    assert board.age() is None


def test_one_failure_refuses_nothing() -> None:
    board = Board("daint", clock=Clock())
    board.record(result(Service.SSH, healthy=False))
    board.require(Service.SSH)
    assert [health.healthy for health in board.results()] == [False]


def test_probe_that_could_not_be_made_changes_nothing_but_the_message() -> None:
    board = Board("daint", interval=120, retry=5, clock=Clock())
    for healthy in (True, False):
        for _ in range(3):
            board.record(replace(result(Service.SSH, healthy=False, message="Unknown: no token"), unknown=True))
            if healthy:
                board.require(Service.SSH)
        (shown,) = board.results()
        assert (shown.healthy, shown.unknown, shown.message) == (healthy, True, "Unknown: no token")
        assert board.pause(Service.SSH) == 5
        board.record(result(Service.SSH, healthy=False))
        board.record(result(Service.SSH, healthy=False))
    with pytest.raises(Unavailable):
        board.require(Service.SSH)


def test_one_request_at_a_time_tries_a_service_and_its_success_opens_it() -> None:
    clock = Clock()
    board = Board("daint", interval=120, retry=5, clock=clock)
    for _ in range(2):
        board.record(result(Service.SSH, healthy=False))
    for _ in range(3):
        clock.advance(5)
        assert board.require(Service.SSH) is True
        with pytest.raises(Unavailable):
            board.require(Service.SSH)
    board.succeeded(Service.SSH)
    assert board.require(Service.SSH) is False
    for _ in range(3):  # the probe is contradicted by a user's request
        clock.advance(5)
        board.record(result(Service.SSH, healthy=False, at=clock()))
    assert board.require(Service.SSH) is False
    clock.advance(120)
    for _ in range(2):
        board.record(result(Service.SSH, healthy=False, at=clock()))
    with pytest.raises(Unavailable):
        board.require(Service.SSH)


def test_second_failure_refuses_with_reason_and_start_time() -> None:
    clock = Clock()
    board = Board("daint", clock=clock)
    for message in ("connection refused", "no route to host"):
        clock.advance(5)
        board.record(result(Service.SCHEDULER, healthy=False, at=clock(), message=message))
    with pytest.raises(Unavailable) as caught:
        board.require(Service.SCHEDULER)
    assert caught.value.public == ("The scheduler of daint has been down since 2026-01-01T00:00:05Z: no route to host")
    for service, path in KEYS:
        if service is not Service.SCHEDULER:
            board.require(service, path)


def test_file_systems_are_distinguished_by_path() -> None:
    board = Board("daint", clock=Clock())
    for _ in range(2):
        board.record(result(Service.FILESYSTEM, "/home/scratch", healthy=False))
    board.require(Service.FILESYSTEM, "/home")
    with pytest.raises(Unavailable, match="The file system /home/scratch of daint"):
        board.require(Service.FILESYSTEM, "/home/scratch")


@pytest.mark.parametrize(
    ("passed", "expected"),
    [(0.0, 5.0), (1.5, 3.5), (4.9, 1.0), (-1.5, 5.0)],
)
def test_retry_after_is_the_time_to_the_next_probe(passed: float, expected: float) -> None:
    clock = Clock()
    board = Board("daint", interval=120, retry=5, clock=clock)
    for _ in range(2):
        board.record(result(Service.SSH, healthy=False))
    clock.advance(passed)
    with pytest.raises(Unavailable) as caught:
        board.require(Service.SSH)
    assert caught.value.retry_after == pytest.approx(expected)


def test_pauses() -> None:
    board = Board("daint", interval=120, retry=5)
    assert board.pause(Service.SSH) == 120
    board.record(result(Service.SSH, healthy=False))
    assert board.pause(Service.SSH) == 5
    board.record(result(Service.SSH, healthy=True))
    assert board.pause(Service.SSH) == 120
    hasty = Board("daint", interval=0, retry=0)
    assert hasty.pause(Service.SSH) == 1
    short = Board("daint", interval=2, retry=5)
    short.record(result(Service.SSH, healthy=False))
    assert short.pause(Service.SSH) == 2


def test_a_setting_below_two_failures_is_two() -> None:
    board = Board("daint", failures=0, clock=Clock())
    board.record(result(Service.SSH, healthy=True))
    board.require(Service.SSH)
    board.record(result(Service.SSH, healthy=False))
    board.require(Service.SSH)


def test_results_are_sorted() -> None:
    board = Board("daint")
    for service, path in reversed(KEYS):
        board.record(result(service, path, healthy=True))
    assert [(health.service, health.path) for health in board.results()] == [
        (Service.SCHEDULER, None),
        (Service.FILESYSTEM, "/home"),
        (Service.FILESYSTEM, "/home/scratch"),
        (Service.SSH, None),
    ]


def test_times_are_shown_in_utc() -> None:
    there = timezone(timedelta(hours=2))
    at = datetime(2026, 7, 1, 1, tzinfo=there)
    board = Board("daint", clock=lambda: at)
    for _ in range(2):
        board.record(result(Service.SSH, healthy=False, at=at))
    with pytest.raises(Unavailable, match=r"since 2026-06-30T23:00:00Z$"):
        board.require(Service.SSH)


def refused(board: Board, service: Service, path: str | None) -> Unavailable | None:
    """The error for a request for the service, None if it is accepted."""
    try:
        board.require(service, path)
    except Unavailable as error:
        return error
    return None


class BoardMachine(RuleBasedStateMachine):
    """Probe results in any order, compared with the full history."""

    @initialize(failures=st.integers(2, 4), interval=st.integers(1, 300), retry=st.integers(1, 10))
    def start(self, failures: int, interval: int, retry: int) -> None:
        self.clock = Clock()
        self.board = Board("daint", interval=interval, retry=retry, failures=failures, clock=self.clock)
        self.failures, self.interval, self.retry = failures, interval, retry
        self.history: list[tuple[Key, str, datetime]] = []
        self.tried: dict[Key, datetime] = {}

    @rule(key=st.sampled_from(KEYS))
    def works(self, key: Key) -> None:
        self.board.record(result(*key, healthy=True, at=self.clock()))
        self.history.append((key, "up", self.clock()))

    @rule(key=st.sampled_from(KEYS), counts=st.booleans())
    def fails(self, key: Key, counts: bool) -> None:
        self.board.record(result(*key, healthy=False, at=self.clock(), message="refused"), counts=counts)
        self.history.append((key, "down" if counts else "grace", self.clock()))

    @rule(key=st.sampled_from(KEYS))
    def not_probed(self, key: Key) -> None:
        self.board.record(replace(result(*key, healthy=False, at=self.clock(), message="no token"), unknown=True))
        self.history.append((key, "unknown", self.clock()))

    @rule(seconds=st.floats(-10, 400, allow_nan=False))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def refusals(self) -> None:
        for key in KEYS:
            events = [(what, when) for of, what, when in self.history if of == key]
            good = [number for number, (what, _) in enumerate(events) if what == "up"]
            row = events[good[-1] + 1 :] if good else events
            down = [(what, when) for what, when in row if what != "unknown"]
            refuses = sum(what == "down" for what, _ in down) >= self.failures
            if refuses:
                counted = [when for what, when in down if what == "down"]
                before = self.tried.setdefault(key, counted[self.failures - 1])
                if abs((self.clock() - before).total_seconds()) >= min(self.retry, self.interval):
                    assert self.board.require(*key) is True
                    self.tried[key] = self.clock()
            else:
                self.tried.pop(key, None)
            refusal = refused(self.board, *key)
            assert (refusal is not None) is refuses
            assert self.board.pause(*key) == (min(self.retry, self.interval) if row else self.interval)
            if refusal is not None:
                assert f"since {down[0][1]:%Y-%m-%dT%H:%M:%SZ}" in refusal.public
                assert refusal.retry_after is not None
                assert 1 <= refusal.retry_after <= min(self.retry, self.interval)

    @invariant()
    def shown(self) -> None:
        probed = {of for of, _, _ in self.history}
        results = {(health.service, health.path): health.healthy for health in self.board.results()}
        assert set(results) == probed
        for key in probed:
            known = [what for of, what, _ in self.history if of == key and what != "unknown"]
            assert results[key] is (not known or known[-1] == "up")
        runs = [when for _, _, when in self.history]
        assert self.board.last_run == max(runs, default=None)
        age = self.board.age()
        assert (age is None) is (not runs)
        assert age is None or age >= 0


TestBoardMachine = BoardMachine.TestCase
