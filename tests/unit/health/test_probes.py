"""The probe loop on a real event loop; the pauses between probes end by hand."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Unavailable, Upstream
from flamecrest.server.health.board import Board, Service
from flamecrest.server.health.probes import Probe, ProbeLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.anyio

NEVER = 3600.0  # a timeout that no test reaches


class Night:
    """The sleep function of the probe loop: `pause` returns the length of the next sleep and ends it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._asleep: asyncio.Queue[tuple[float, asyncio.Event]] = asyncio.Queue()

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        morning = asyncio.Event()
        self._asleep.put_nowait((seconds, morning))
        await morning.wait()

    async def asleep(self) -> float:
        """Wait until a probe has finished, without ending its sleep."""
        seconds, _ = await self._asleep.get()
        return seconds

    async def pause(self) -> float:
        seconds, morning = await self._asleep.get()
        self.now += seconds
        morning.set()
        return seconds


def probes(board: Board, night: Night, *several: Probe, grace: float = 0.0) -> ProbeLoop:
    return ProbeLoop(
        board,
        several,
        grace=grace,
        sleep=night.sleep,
        monotonic=night.monotonic,
        spread=lambda _low, _high: 1.0,
    )


def ssh(check: Callable[[Deadline], Awaitable[None]], timeout: float = NEVER) -> Probe:
    return Probe(Service.SSH, check, timeout)


async def well(deadline: Deadline) -> None:
    assert 0 < deadline.left() <= NEVER


async def ill(deadline: Deadline) -> None:
    raise Upstream("connection refused", detail="10.0.0.1 port 22: ECONNREFUSED")


async def broken(deadline: Deadline) -> None:
    raise ValueError("hunter2")


async def hanging(deadline: Deadline) -> None:
    await asyncio.Event().wait()


async def test_results_reach_the_board() -> None:
    board, night = Board("daint", interval=60), Night()
    home = Probe(Service.FILESYSTEM, ill, NEVER, "/home")
    async with probes(board, night, ssh(well), home):
        assert sorted([await night.asleep(), await night.asleep()]) == [5, 60]
        filesystem, login = board.results()
        assert (login.service, login.path, login.healthy, login.message) == (Service.SSH, None, True, None)
        assert (filesystem.service, filesystem.path) == (Service.FILESYSTEM, "/home")
        assert (filesystem.healthy, filesystem.message) == (False, "connection refused")
        assert board.last_run == max(login.checked, filesystem.checked)


async def test_the_start_waits_for_nothing() -> None:
    board, night = Board("daint"), Night()
    async with probes(board, night, ssh(hanging)):
        assert board.results() == []


async def test_one_that_hangs_is_cut_and_holds_up_no_other() -> None:
    board, night = Board("daint", interval=60), Night()
    cut: list[str] = []

    async def stuck(deadline: Deadline) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cut.append("cut")

    async with probes(board, night, Probe(Service.SCHEDULER, stuck, 0.01), ssh(well)):
        assert sorted([await night.asleep(), await night.asleep()]) == [5, 60]
        scheduler, login = board.results()
        assert cut == ["cut"]
        assert not scheduler.healthy
        assert scheduler.message == "The scheduler check did not finish in time"
        assert login.healthy


async def test_a_door_closes_at_the_second_failure_and_opens_at_the_first_success() -> None:
    board, night = Board("daint", interval=60, retry=3), Night()
    answers = [well, ill, ill, ill, well]

    async def check(deadline: Deadline) -> None:
        await answers.pop(0)(deadline)

    async with probes(board, night, ssh(check)):
        assert await night.pause() == 60
        board.require(Service.SSH)
        assert await night.pause() == 3
        board.require(Service.SSH)
        assert await night.pause() == 3
        with pytest.raises(Unavailable, match="connection refused"):
            board.require(Service.SSH)
        assert await night.pause() == 3
        assert await night.asleep() == 60
        board.require(Service.SSH)


async def test_failures_in_the_period_of_grace_close_no_door() -> None:
    board, night = Board("daint", interval=60, retry=5), Night()
    async with probes(board, night, ssh(ill), grace=12):
        for _ in range(3):  # at 0, 5 and 10 seconds
            assert await night.pause() == 5
        assert await night.pause() == 5  # at 15: the first that counts
        assert [health.healthy for health in board.results()] == [False]
        board.require(Service.SSH)
        await night.asleep()
        with pytest.raises(Unavailable):
            board.require(Service.SSH)


async def test_a_probe_never_runs_beside_itself() -> None:
    board, night = Board("daint"), Night()
    running = most = runs = 0

    async def check(deadline: Deadline) -> None:
        nonlocal running, most, runs
        running, runs = running + 1, runs + 1
        most = max(most, running)
        for _ in range(3):
            await asyncio.sleep(0)
        running -= 1

    async with probes(board, night, ssh(check)):
        for _ in range(5):
            await night.pause()
        await night.asleep()
    assert (runs, most) == (6, 1)


async def test_a_crash_ends_nothing_and_is_told_to_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    board, night = Board("daint", retry=5), Night()
    answers = [broken, broken, well]

    async def check(deadline: Deadline) -> None:
        await answers.pop(0)(deadline)

    with caplog.at_level(logging.INFO):
        async with probes(board, night, ssh(check)):
            assert await night.pause() == 5
            assert await night.pause() == 5
            with pytest.raises(Unavailable, match="gateway's log") as caught:
                board.require(Service.SSH)
            assert "hunter2" not in caught.value.public + str(board.results()) + str(caught.value.detail)
            await night.asleep()
            board.require(Service.SSH)
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert said == [
        ("ERROR", "probe of daint ssh crashed"),
        ("INFO", "probe of daint ssh: healthy again"),
    ]
    assert "hunter2" in caplog.text


async def test_the_detail_goes_to_the_log_and_the_public_text_to_users(
    caplog: pytest.LogCaptureFixture,
) -> None:
    board, night = Board("daint"), Night()
    async with probes(board, night, Probe(Service.FILESYSTEM, ill, NEVER, "/home")):
        await night.asleep()
    assert [record.getMessage() for record in caplog.records] == [
        "probe of daint filesystem /home: 10.0.0.1 port 22: ECONNREFUSED"
    ]
    assert "ECONNREFUSED" not in str(board.results())


async def test_a_check_that_is_cancelled_from_below_has_failed() -> None:
    board, night = Board("daint"), Night()

    async def check(deadline: Deadline) -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async with probes(board, night, ssh(check)):
        await night.pause()
        await night.asleep()  # the loop goes on
    assert [health.healthy for health in board.results()] == [False]


async def test_leaving_cancels_what_runs_and_what_sleeps() -> None:
    board, night = Board("daint"), Night()
    entered, left = asyncio.Event(), asyncio.Event()

    async def check(deadline: Deadline) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    before = asyncio.all_tasks()
    async with probes(board, night, ssh(check), Probe(Service.SCHEDULER, well, NEVER)):
        await entered.wait()
        await night.asleep()
    assert left.is_set()
    assert asyncio.all_tasks() == before
    assert [health.service for health in board.results()] == [Service.SCHEDULER]


async def test_an_error_of_the_body_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with probes(Board("daint"), Night(), ssh(hanging)):
            raise KeyError("mine")


async def test_pauses_are_spread_by_a_tenth() -> None:
    board, night = Board("daint", interval=100), Night()
    asked: list[tuple[float, float]] = []

    def spread(low: float, high: float) -> float:
        asked.append((low, high))
        return high

    async with ProbeLoop(board, [ssh(well)], sleep=night.sleep, spread=spread):
        assert await night.asleep() == pytest.approx(110)
    assert asked == [(0.9, 1.1)]


async def test_on_the_real_clock() -> None:
    board = Board("daint")
    done = asyncio.Event()

    async def check(deadline: Deadline) -> None:
        done.set()

    async with ProbeLoop(board, [ssh(check)]):
        await done.wait()
        await asyncio.sleep(0)
    assert [health.healthy for health in board.results()] == [True]
    assert board.results()[0].latency >= 0
