"""One user at full blast, within limits: what another user notices of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from statistics import quantiles
from typing import Any, Final
from urllib.parse import quote

import httpx

from bench.columns import GATEWAY
from bench.measure import load
from bench.measure.load import Endpoint, Request
from bench.results import Cell

from .workload import Bench

CONNECTIONS = 64  # of the user at full blast
INTERVAL = 0.02  # seconds between two requests of the other one
QUIET, BESIDE = "quiet", "beside a user at full blast"
LIMITS: Final[Mapping[str, Any]] = {
    "limits": {"users": [{"requests_per_second": 100, "burst": 100, "in_flight": 16}]},
}


class FairUse:
    """The latency of `stat` of one user, alone and while another one sends as much as it can."""

    name = "fair"
    title = f"stat of one user; another one sends over {CONNECTIONS} connections, with 100 requests a second allowed"
    rows = "other load"
    needs: Sequence[str] = (GATEWAY,)

    async def run(self, bench: Bench) -> list[Cell]:
        if not load.wrk_installed() or GATEWAY not in bench.contenders:
            bench.say(f"{self.name}: skipped, it needs wrk")
            return []
        seconds = bench.runs(5, 15)
        with ExitStack() as stack:
            starting = bench.servers.multi_user_gateway(GATEWAY, 2, LIMITS)
            gateway = await asyncio.to_thread(stack.enter_context, starting)
            greedy, other = gateway.endpoints
            targets = [Request(f"/ops/stat?path={quote(home)}") for home in gateway.homes]
            await self._watch(greedy, targets[0], 1)  # logs in
            cells = []
            for row in (QUIET, BESIDE):
                blast = (
                    asyncio.create_task(load.wrk(greedy, targets[:1], CONNECTIONS, seconds + 2))
                    if row == BESIDE
                    else None
                )
                await asyncio.sleep(1)
                latencies, wrong = await self._watch(other, targets[1], seconds)
                cuts = quantiles(latencies, n=100)
                found = {"ms p50": cuts[49], "ms p99": cuts[98]}
                if blast is not None:
                    burst = await blast
                    found["requests/s of the other user"] = burst.rate
                cells += [Cell(self.name, GATEWAY, name, row, (value,), "", wrong) for name, value in found.items()]
        return cells

    @staticmethod
    async def _watch(endpoint: Endpoint, request: Request, seconds: float) -> tuple[list[float], int]:
        """The latencies in milliseconds of one request after another, and the number of answers that are not 200."""
        latencies, wrong, until = [], 0, time.perf_counter() + seconds
        async with endpoint.client() as client:
            while (since := time.perf_counter()) < until:
                response = await client.get(request.target)
                latencies.append((time.perf_counter() - since) * 1000)
                wrong += response.status_code != httpx.codes.OK
                await asyncio.sleep(INTERVAL)
        return latencies, wrong
