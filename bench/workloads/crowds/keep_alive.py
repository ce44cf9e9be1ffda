"""A thousand clients that keep their connections, at half of the rate that the gateway can serve."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median
from urllib.parse import quote

from bench.contenders.accounts import many_users
from bench.contenders.servers import Servers
from bench.measure import load
from bench.measure.load import Request
from bench.results import Cell
from bench.workloads.workload import Bench

from . import clients
from .clients import Log, Target

CLIENTS, PEAK_CLIENTS, USERS = 1000, 64, 20
SHARE = 0.5  # of the peak
PEAK = "peak"


class KeepAlive:
    """Warm `stat` by wrk: the peak rate, then many connections with pauses, so that they send half of it."""

    name = "keepalive"
    title = f"{CLIENTS} clients with keep-alive, warm stat at half of the peak, by wrk"
    rows = "connections"
    needs: Sequence[str] = ()

    async def run(self, bench: Bench) -> list[Cell]:
        if not load.wrk_installed():
            bench.say(f"{self.name}: skipped, wrk is not installed")
            return []
        cells: list[Cell] = []
        with ExitStack() as stack:
            many = many_users(bench.servers, USERS, sandbox=not bench.scheduler)
            servers = await asyncio.to_thread(stack.enter_context, many)
            for key in bench.gateways:
                cells += await self._measure(bench, servers, key)
        return cells

    async def _measure(self, bench: Bench, servers: Servers, key: str) -> list[Cell]:
        seconds, folder = 5 if bench.quick else 10, f".flamecrest-bench-keepalive-{time.time_ns():x}"
        with ExitStack() as stack:
            gateway = await asyncio.to_thread(stack.enter_context, servers.gateway(key, self.name))
            target, first = Target.of(servers, gateway.endpoint, USERS), Log(60)
            await clients.in_uvloop(lambda: clients.with_folders(target, folder, first))
            clients.report(bench, self.name, first)
            requests = [
                Request(f"/ops/stat?path={quote(f'{home}/{folder}/input')}", token=target.tokens[user])
                for user, home in target.homes.items()
            ]
            await load.wrk(gateway.endpoint, requests, PEAK_CLIENTS, 2)
            found: dict[tuple[str, int], list[float]] = {}
            wrong = first.wrong.total()
            for turn in range(bench.runs(1, 3)):
                peak = await load.wrk(gateway.endpoint, requests, PEAK_CLIENTS, seconds)
                pause = CLIENTS / (SHARE * peak.rate)
                bench.say(f"{self.name}: turn {turn + 1}, {key}: peak {peak.rate:.0f} a second")
                many = await load.wrk(gateway.endpoint, requests, CLIENTS, seconds + 2 * pause, pause)
                wrong += peak.wrong + many.wrong
                for number, burst in ((PEAK_CLIENTS, peak), (CLIENTS, many)):
                    for name, value in (("requests/s", burst.rate), ("ms p50", burst.p50), ("ms p99", burst.p99)):
                        found.setdefault((name, number), []).append(value)
            await clients.in_uvloop(lambda: clients.with_folders(target, folder, Log(1), remove=True))
        cells = [Cell(self.name, key, name, row, tuple(values), "", wrong) for (name, row), values in found.items()]
        slow, usual = found["ms p99", CLIENTS], found["ms p50", CLIENTS]
        ratio = median(one / other for one, other in zip(slow, usual, strict=True))
        return [*cells, Cell(self.name, key, "p99 : p50", CLIENTS, (ratio,), "", wrong)]
