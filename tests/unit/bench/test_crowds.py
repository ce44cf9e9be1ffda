"""Many clients: what they measure, what they count as wrong, and the simulations."""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import replace

import pytest
from aiohttp import test_utils, web
from bench.results import Results
from bench.targets import TARGETS, judge
from bench.workloads.crowds import clients
from bench.workloads.crowds.clients import Client, Log, Target
from bench.workloads.crowds.leaks import Held
from bench.workloads.crowds.login_nodes import HEALTHY, SLOW, STAY, LoginNodes, World
from bench.workloads.crowds.soak import Memory
from bench.workloads.crowds.workers import Workers, rate
from bench.workloads.crowds.workflow import Submissions


def test_times_are_kept_by_window_and_operation() -> None:
    log = Log(window=2)
    log.took("stat", log.begun + 1, 5)
    log.took("stat", log.begun + 3, 3)
    log.took("ls", log.begun + 3.5, 9)
    assert list(log.of()) == [3, 5, 9]
    assert list(log.of("stat")) == [3, 5]
    assert list(log.of(None, range(1, 2))) == [3, 9]
    assert (log.windows(), log.operations()) == ([0, 1], ["ls", "stat"])


def test_wrong_responses_are_counted_and_the_first_are_kept() -> None:
    log = Log(window=1)
    for number in range(20):
        log.failed("ls", f"status {number}")
    assert log.wrong == {"ls": 20}
    assert len(log.examples) == clients.EXAMPLES


def test_wrong_responses_of_preparations_count() -> None:
    log, first = Log(window=1), Log(window=1)
    first.failed("mkdir", "status 503")
    log.failed("ls", "status 404")
    log.add_wrong(first)
    assert log.wrong == {"mkdir": 1, "ls": 1}
    assert ["mkdir" in log.examples[0], "ls" in log.examples[1]] == [True, True]


def test_growth_of_memory_begins_after_the_warm_up() -> None:
    grown = [(float(at), 100.0 if at < 20 else 110.0 if at < 90 else 121.0) for at in range(100)]
    assert Memory(1, grown).growth(100) == (110, 121)


def test_jobs_are_limited_by_rate_and_by_number() -> None:
    jobs = Submissions(rate=2, most=3)
    taken = [at for at in (0.0, 0.1, 0.5, 0.9, 1.0, 1.5, 9.0) if jobs.take(at)]
    assert taken == [0.0, 0.5, 1.0]
    jobs.open -= 1
    assert jobs.take(10)
    assert (jobs.open, jobs.all) == (3, 4)


def test_what_is_left_is_the_difference() -> None:
    before = Held(descriptors=20, children=0, connections=0, channels=0, waiting=0, processes=3)
    left = dict(replace(before, descriptors=22, processes=0).more_than(before))
    assert left == {"descriptors": 2, "children": 0, "connections": 0, "channels": 0, "waiting": 0, "processes": -3}


def test_one_worker_serves_what_its_share_allows() -> None:
    assert rate((2.0, 0.5), 1, 8) == pytest.approx(500, rel=0.03)
    assert rate((2.0, 0.5), 2, 8, seed=1) <= 1020
    assert rate((2.0, 2.0), 2, 2) <= 1000 * 2 / 4 * 1.03, "two processors, four milliseconds a request"


def test_table_of_workers_has_the_ratio_of_the_target() -> None:
    measured = Results([*Workers().cells((0.2, 0.1))])
    target = next(one for one in TARGETS if one.of[0] == "workers")
    verdict = judge(target, measured)
    assert verdict.value is not None
    assert 1.5 <= verdict.value <= 2.1
    assert "0.200 ms in the gateway" in verdict.note


def test_simulation_of_nodes_shows_what_moving_users_is_worth() -> None:
    measured = Results([*LoginNodes().cells()])
    late = {
        name: statistics.median(
            cell.mean
            for cell in measured.of("login-nodes", "ms p99")
            if cell.contender == name and isinstance(cell.parameter, int) and cell.parameter > 100
        )
        for name in (HEALTHY, SLOW, STAY)
    }
    assert late[SLOW] < 1.5 * late[HEALTHY] < late[STAY]


def test_windows_of_the_simulation_contain_every_request() -> None:
    world = World(0, users=8)
    world.run(30)
    ends = [end for end, _ in world.over_time(0.5)]
    assert ends == [10, 20, 30]
    assert len(world.asked) == len(world.times)


def test_wrong_content_is_noticed() -> None:
    async def short(request: web.Request) -> web.Response:
        if request.path.endswith("download"):
            return web.Response(body=b"abc")
        return web.json_response({"output": {"size": 3}} if request.path.endswith("stat") else [])

    async def visit() -> Log:
        app = web.Application()
        for name in ("download", "stat", "ls"):
            app.router.add_get(f"/filesystem/site/ops/{name}", short)
        async with test_utils.TestServer(app) as server:
            origin = f"http://127.0.0.1:{server.port}"
            async with Client(Target(origin, "site", {"ann": "token"}, {"ann": "/home/ann"}), "ann", log) as client:
                await client.download("/home/ann/short")
                await client.stat("/home/ann/short")
                await client.ls("/home/ann")
                await client.list_jobs()
        return log

    log = Log(1)
    asyncio.run(visit())
    assert log.wrong == {"download": 1, "stat": 1, "ls": 1, "jobs": 1}
    assert "status 404" in log.examples[-1]
