"""The probe loop on a real event loop; the tests end the sleeps between probes."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Busy, Denied, Unavailable, Upstream
from flamecrest.server.health.board import Board, Service
from flamecrest.server.health.probes import NotProbed, Probe, ProbeLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.anyio

NEVER = 3600.0  # a timeout that no test reaches


class ManualSleep:
    """The clock and sleep function of the probe loop. `pause` ends the next sleep and returns its length in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleeping: asyncio.Queue[tuple[float, asyncio.Event]] = asyncio.Queue()

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        wake = asyncio.Event()
        self._sleeping.put_nowait((seconds, wake))
        await wake.wait()

    async def wait_asleep(self) -> float:
        """Wait until a probe sleeps, and return the length of the sleep in seconds without ending it."""
        seconds, _ = await self._sleeping.get()
        return seconds

    async def pause(self) -> float:
        seconds, wake = await self._sleeping.get()
        self.now += seconds
        wake.set()
        return seconds


def probes(board: Board, clock: ManualSleep, *several: Probe, grace: float = 0.0) -> ProbeLoop:
    return ProbeLoop(
        board,
        several,
        grace=grace,
        sleep=clock.sleep,
        monotonic=clock.monotonic,
        spread=lambda _low, _high: 1.0,
    )


def ssh(check: Callable[[Deadline], Awaitable[None]], timeout: float = NEVER) -> Probe:
    return Probe(Service.SSH, check, timeout)


async def healthy_check(deadline: Deadline) -> None:
    assert 0 < deadline.left() <= NEVER


async def failing_check(deadline: Deadline) -> None:
    raise Upstream("connection refused", detail="10.0.0.1 port 22: ECONNREFUSED")


async def crashing_check(deadline: Deadline) -> None:
    raise ValueError("hunter2")


async def hanging_check(deadline: Deadline) -> None:
    await asyncio.Event().wait()


async def test_results_are_recorded_on_the_board() -> None:
    board, clock = Board("daint", interval=60), ManualSleep()
    home = Probe(Service.FILESYSTEM, failing_check, NEVER, "/home")
    async with probes(board, clock, ssh(healthy_check), home):
        assert sorted([await clock.wait_asleep(), await clock.wait_asleep()]) == [5, 60]
        filesystem, login = board.results()
        assert (login.service, login.path, login.healthy, login.message) == (Service.SSH, None, True, None)
        assert (filesystem.service, filesystem.path) == (Service.FILESYSTEM, "/home")
        assert (filesystem.healthy, filesystem.message) == (False, "connection refused")
        assert board.last_run == max(login.checked, filesystem.checked)


async def test_start_does_not_wait_for_probes() -> None:
    board, clock = Board("daint"), ManualSleep()
    async with probes(board, clock, ssh(hanging_check)):
        assert board.results() == []


async def test_hanging_probe_is_cancelled_and_delays_no_other() -> None:
    board, clock = Board("daint", interval=60), ManualSleep()
    cut: list[str] = []

    async def stuck(deadline: Deadline) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cut.append("cut")

    async with probes(board, clock, Probe(Service.SCHEDULER, stuck, 0.01), ssh(healthy_check)):
        assert sorted([await clock.wait_asleep(), await clock.wait_asleep()]) == [5, 60]
        scheduler, login = board.results()
        assert cut == ["cut"]
        assert not scheduler.healthy
        assert scheduler.message == "The scheduler check did not finish in time"
        assert login.healthy


async def test_service_is_refused_after_two_failures_until_a_success() -> None:
    board, clock = Board("daint", interval=60, retry=3), ManualSleep()
    answers = [healthy_check, failing_check, failing_check, failing_check, healthy_check]

    async def check(deadline: Deadline) -> None:
        await answers.pop(0)(deadline)

    async with probes(board, clock, ssh(check)):
        assert await clock.pause() == 60
        board.require(Service.SSH)
        assert await clock.pause() == 3
        board.require(Service.SSH)
        assert await clock.pause() == 3
        with pytest.raises(Unavailable, match="connection refused"):
            board.require(Service.SSH)
        assert await clock.pause() == 3
        assert await clock.wait_asleep() == 60
        board.require(Service.SSH)


async def test_failures_during_the_grace_period_do_not_count() -> None:
    board, clock = Board("daint", interval=60, retry=5), ManualSleep()
    async with probes(board, clock, ssh(failing_check), grace=12):
        for _ in range(3):  # at 0, 5 and 10 seconds
            assert await clock.pause() == 5
        assert await clock.pause() == 5  # at 15: the first that counts
        assert [health.healthy for health in board.results()] == [False]
        board.require(Service.SSH)
        await clock.wait_asleep()
        with pytest.raises(Unavailable):
            board.require(Service.SSH)


async def account_is_missing(deadline: Deadline) -> None:
    raise NotProbed("The token issuer gave no token", detail="ConnectError")


async def account_may_not(deadline: Deadline) -> None:
    raise Denied("Permission denied")


async def gateway_is_busy(deadline: Deadline) -> None:
    raise Busy("No channel came free")


@pytest.mark.parametrize("check", [account_is_missing, account_may_not, gateway_is_busy, crashing_check])
async def test_probe_that_could_not_be_made_is_no_outage(check: Callable[[Deadline], Awaitable[None]]) -> None:
    board, clock = Board("daint", interval=60, retry=5), ManualSleep()
    async with probes(board, clock, ssh(check)):
        for _ in range(4):
            assert await clock.pause() == 5
        await clock.wait_asleep()
        board.require(Service.SSH)
        (shown,) = board.results()
        assert (shown.healthy, shown.unknown) == (True, True)
        assert (shown.message or "").startswith("Unknown: ")


async def test_runs_of_a_probe_do_not_overlap() -> None:
    board, clock = Board("daint"), ManualSleep()
    running = most = runs = 0

    async def check(deadline: Deadline) -> None:
        nonlocal running, most, runs
        running, runs = running + 1, runs + 1
        most = max(most, running)
        for _ in range(3):
            await asyncio.sleep(0)
        running -= 1

    async with probes(board, clock, ssh(check)):
        for _ in range(5):
            await clock.pause()
        await clock.wait_asleep()
    assert (runs, most) == (6, 1)


async def test_crash_of_a_probe_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    board, clock = Board("daint", retry=5), ManualSleep()
    answers = [crashing_check, crashing_check, healthy_check]

    async def check(deadline: Deadline) -> None:
        await answers.pop(0)(deadline)

    with caplog.at_level(logging.INFO):
        async with probes(board, clock, ssh(check)):
            assert await clock.pause() == 5
            assert await clock.pause() == 5
            board.require(Service.SSH)  # a defect of the check is no outage
            assert "hunter2" not in str(board.results())
            await clock.wait_asleep()
            board.require(Service.SSH)
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert said == [
        ("ERROR", "probe of daint ssh crashed"),
        ("INFO", "probe of daint ssh: healthy again"),
    ]
    assert "hunter2" in caplog.text


async def test_detail_is_only_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    board, clock = Board("daint"), ManualSleep()
    async with probes(board, clock, Probe(Service.FILESYSTEM, failing_check, NEVER, "/home")):
        await clock.wait_asleep()
    assert [record.getMessage() for record in caplog.records] == [
        "probe of daint filesystem /home: 10.0.0.1 port 22: ECONNREFUSED"
    ]
    assert "ECONNREFUSED" not in str(board.results())


async def test_cancelled_error_in_a_check_ends_neither_the_loop_nor_the_service() -> None:
    board, clock = Board("daint"), ManualSleep()

    async def check(deadline: Deadline) -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async with probes(board, clock, ssh(check)):
        await clock.pause()
        await clock.wait_asleep()  # the loop continues
    assert [health.unknown for health in board.results()] == [True]


async def test_exit_cancels_running_and_sleeping_probes() -> None:
    board, clock = Board("daint"), ManualSleep()
    entered, left = asyncio.Event(), asyncio.Event()

    async def check(deadline: Deadline) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    before = asyncio.all_tasks()
    async with probes(board, clock, ssh(check), Probe(Service.SCHEDULER, healthy_check, NEVER)):
        await entered.wait()
        await clock.wait_asleep()
    assert left.is_set()
    assert asyncio.all_tasks() == before
    assert [health.service for health in board.results()] == [Service.SCHEDULER]


async def test_error_of_the_body_propagates_unchanged() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with probes(Board("daint"), ManualSleep(), ssh(hanging_check)):
            raise KeyError("mine")


async def test_pauses_have_ten_percent_jitter() -> None:
    board, clock = Board("daint", interval=100), ManualSleep()
    asked: list[tuple[float, float]] = []

    def spread(low: float, high: float) -> float:
        asked.append((low, high))
        return high

    async with ProbeLoop(board, [ssh(healthy_check)], sleep=clock.sleep, spread=spread):
        assert await clock.wait_asleep() == pytest.approx(110)
    assert asked == [(0.9, 1.1)]


async def test_real_clock_and_sleep() -> None:
    board = Board("daint")
    done = asyncio.Event()

    async def check(deadline: Deadline) -> None:
        done.set()

    async with ProbeLoop(board, [ssh(check)]):
        await done.wait()
        await asyncio.sleep(0)
    assert [health.healthy for health in board.results()] == [True]
    assert (board.results()[0].latency or 0) >= 0
