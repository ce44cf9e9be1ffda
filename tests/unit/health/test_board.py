"""The Board: what it shows and refuses, and that services do not depend on each other."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.errors import Unavailable
from flamecrest.server.health.board import Board, ProbeResult, Service, ServiceDown, Target
from flamecrest.server.health.breaker import BreakerState
from flamecrest.server.health.maintenance import MaintenanceWindow

START = datetime(2026, 1, 1, tzinfo=UTC)

Key = tuple[Service, str | None]
KEYS: list[Key] = [
    (Service.SSH, None),
    (Service.SCHEDULER, None),
    (Service.FILESYSTEM, "/home"),
    (Service.FILESYSTEM, "/home/scratch"),
]


class Clock:
    """A clock and a monotonic clock that are set by hand."""

    def __init__(self) -> None:
        self.now = START
        self.passed = 0.0

    def __call__(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.passed

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.passed += max(0.0, seconds)


def make_board(clock: Clock, **options: Any) -> Board:
    return Board("daint", clock=clock, monotonic=clock.monotonic, **options)


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
    board = make_board(Clock())
    board.record(result(Service.SSH, healthy=False))
    board.require(Service.SSH)
    assert [health.healthy for health in board.results()] == [False]


def test_probe_that_could_not_be_made_changes_nothing_but_the_message() -> None:
    board = make_board(Clock(), interval=120, retry=5)
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
    board = make_board(clock, interval=120, retry=5)
    for _ in range(2):
        board.record(result(Service.SSH, healthy=False))
    for _ in range(3):
        clock.advance(5)
        assert board.require(Service.SSH) is True
        with pytest.raises(Unavailable):
            board.require(Service.SSH)
        board.trial_ended(Service.SSH)
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
    board = make_board(clock)
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
    board = make_board(Clock())
    for _ in range(2):
        board.record(result(Service.FILESYSTEM, "/home/scratch", healthy=False))
    board.require(Service.FILESYSTEM, "/home")
    with pytest.raises(Unavailable, match="The file system /home/scratch of daint"):
        board.require(Service.FILESYSTEM, "/home/scratch")


@pytest.mark.parametrize(
    ("passed", "expected"),
    [(0.0, 5.0), (1.5, 3.5), (4.9, 1.0)],
)
def test_retry_after_is_the_time_to_the_next_trial(passed: float, expected: float) -> None:
    clock = Clock()
    board = make_board(clock, interval=120, retry=5)
    for _ in range(2):
        board.record(result(Service.SSH, healthy=False))
    clock.advance(passed)
    clock.now -= timedelta(hours=1)  # a clock that is set back changes nothing
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
    board = make_board(Clock(), failures=0)
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


def test_failed_requests_of_several_users_refuse_a_service_with_their_reason() -> None:
    clock = Clock()
    board = make_board(clock)
    board.record(result(Service.SSH, healthy=True))
    watched = [board.watching]
    for user in ("ann", "bob", "ann", "bob"):
        clock.advance(1)
        board.failed(user, "SSH to login.example.org failed: connection refused", Service.SSH)
    watched.append(board.watching)
    (shown,) = board.results()
    assert (shown.healthy, shown.since) == (False, START + timedelta(seconds=1))
    assert board.pause(Service.SSH) == 5  # the probe looks again soon
    with pytest.raises(ServiceDown, match=r"down since 2026-01-01T00:00:01Z: SSH to login\.example\.org") as caught:
        board.require(Service.SSH)
    assert caught.value.details == {"service": "ssh", "reason": "down", "since": "2026-01-01T00:00:01Z"}
    board.require(Service.SCHEDULER)
    clock.advance(5)
    assert board.require(Service.SSH) is True
    assert board.state(Target(Service.SSH)) is BreakerState.HALF_OPEN
    board.succeeded(Service.SSH)
    assert board.require(Service.SSH) is False
    assert [*watched, board.watching] == [False, True, False]
    (shown,) = board.results()
    assert shown.healthy


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("window", "closed", "text"),
    [
        (MaintenanceWindow(), KEYS, "daint is in maintenance"),
        (MaintenanceWindow(at(-9), at(60), message="new disks"), KEYS, "until 2026-01-01T00:01:00Z: new disks"),
        (MaintenanceWindow(at(1)), [], ""),
        (MaintenanceWindow(None, at(0)), [], ""),
        (MaintenanceWindow(services=frozenset({Service.SSH})), KEYS[:1], "The SSH service of daint is in maintenance"),
        (
            MaintenanceWindow(services=frozenset({Service.FILESYSTEM}), paths=frozenset({"/home"})),
            [(Service.FILESYSTEM, "/home")],
            "The file system /home of daint is in maintenance",
        ),
    ],
)
def test_maintenance(window: MaintenanceWindow, closed: list[Key], text: str) -> None:
    board = make_board(Clock(), windows=[window])
    for key in KEYS:
        board.record(result(*key, healthy=True))
    assert {(one.service, one.path) for one in board.results() if not one.healthy} == set(closed)
    for key in KEYS:
        if key not in closed:
            assert board.require(*key) is False
            continue
        with pytest.raises(ServiceDown) as caught:
            board.require(*key)
        assert text in caught.value.public
        assert caught.value.details is not None
        assert caught.value.details["reason"] == "maintenance"
        assert caught.value.retry_after == (60 if window.end else 300)


def test_maintenance_is_shown_of_services_without_probes_and_ends() -> None:
    clock = Clock()
    board = make_board(clock, windows=[MaintenanceWindow(at(10), at(20)), MaintenanceWindow(at(15), at(30))])
    assert board.results() == []
    clock.advance(16)
    assert {one.service for one in board.results()} == {Service.SCHEDULER, Service.SSH}
    with pytest.raises(ServiceDown) as caught:
        board.require(Service.S3)
    assert caught.value.retry_after == 14  # of both windows the end of the later one
    clock.advance(14)
    assert board.results() == []
    assert board.require(Service.S3) is False


KINDS = ["up", "down", "grace", "unknown", "failed ann", "failed bob", "served", "ask", "wait"]


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(KINDS)), max_size=60))
def test_services_do_not_depend_on_each_other(events: list[tuple[Key, str]]) -> None:
    """The board of all services says of each what a board of this service alone says."""
    clock = Clock()
    whole, single = make_board(clock), {key: make_board(clock) for key in KEYS}
    for key, kind in events:
        clock.advance(3.0 if kind == "wait" else 0.0)
        answers = [happen(board, key, kind, clock) for board in (whole, single[key])]
        assert answers[0] == answers[1]
        assert not isinstance(answers[0], tuple) or answers[0][1]
    shown = {Target(one.service, one.path): one for one in whole.results()}
    for key, board in single.items():
        assert board.results() == [one for target, one in shown.items() if target[:2] == key]
        assert board.refused == {target for target in whole.refused if target[:2] == key}
        assert not shown[Target(*key)].healthy if board.refused else True
    assert whole.watching is any(board.watching for board in single.values())
    assert whole.last_run == max((one.last_run for one in single.values() if one.last_run), default=None)
    assert all(board.refused <= {Target(*key) for key in KEYS} for board in single.values())


def happen(board: Board, key: Key, kind: str, clock: Clock) -> object:
    """Let an event happen, and return the answer."""
    match kind.split():
        case ["up"]:
            board.record(result(*key, healthy=True, at=clock()))
        case ["down" | "grace"]:
            board.record(result(*key, healthy=False, at=clock(), message="refused"), counts=kind == "down")
        case ["unknown"]:
            board.record(replace(result(*key, healthy=False, at=clock(), message="no token"), unknown=True))
        case ["failed", user]:
            board.failed(user, "no answer", *key)
        case ["served"]:
            board.succeeded(*key)
        case ["ask"]:
            try:
                return board.require(*key)
            except ServiceDown as error:
                return error.public, error.retry_after is not None and 1 <= error.retry_after <= 5
    return None
