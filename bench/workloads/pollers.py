"""Pollers of a list of jobs: many of many users, and one alone."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from statistics import median, quantiles

import httpx

from bench.columns import GATEWAY, UNSHARED
from bench.measure.slurm import SlurmMeter
from bench.results import Cell

from .jobs import room
from .workload import Bench, rotated

POLLERS, USERS = 200, 20
INTERVAL = 1.0  # seconds between two requests of a poller
PAUSE = 1.1  # seconds, after which no answer is used any longer


@contextmanager
def _no_collections() -> Iterator[None]:
    """No garbage collection during the block: one of this process holds up all clients for 70 to 140 ms."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Pollers:
    """A list of jobs a second each: latency, and what Slurm's daemons are asked and spend."""

    name = "pollers"
    title = f"{POLLERS} pollers of {USERS} users, a list of jobs every second"
    rows = "pollers"
    needs: Sequence[str] = ("c", GATEWAY)

    async def run(self, bench: Bench) -> list[Cell]:
        if bench.has_no_scheduler(self.name):
            return []
        site, issuer = bench.servers.site, bench.servers.issuer
        users = [user for user in site.users if user != site.service_user][:USERS]
        tokens = [issuer.mint(user) for user in users]
        seconds = bench.runs(10, 30)
        slurm = await SlurmMeter.of(bench.shell)
        cells: list[Cell] = []
        for contender in bench.turn(bench.measured(self.needs), 0):
            bench.say(f"{self.name}: {contender.title}")
            url = room(contender.endpoint, "compute").url + "/jobs"
            await self._poll(url, tokens, 2)
            before, since = await slurm.load(), time.perf_counter()
            with _no_collections():
                latencies, wrong = await self._poll(url, tokens, seconds)
            took = time.perf_counter() - since
            spent = dict((await slurm.load()).since(before, "a second", took))
            cells += self._cells(contender.key, latencies, spent, wrong)
        return cells

    def _cells(self, key: str, latencies: Sequence[float], spent: Mapping[str, float], wrong: int) -> Iterator[Cell]:
        cuts = quantiles(latencies, n=100)
        found = {"ms p50": cuts[49], "ms p99": cuts[98], **spent}
        return (Cell(self.name, key, quantity, POLLERS, (value,), "", wrong) for quantity, value in found.items())

    @staticmethod
    async def _poll(url: str, tokens: Sequence[str], seconds: float) -> tuple[list[float], int]:
        """The latencies in milliseconds, and the number of answers that are not 200."""
        latencies: list[float] = []
        bodies: dict[str, bytes] = {}  # by token; parsed when it is another one: the client must not be what is slow
        wrong = 0
        until = time.perf_counter() + seconds

        async def poll(client: httpx.AsyncClient, number: int) -> None:
            nonlocal wrong
            token = tokens[number % len(tokens)]
            headers = {"Authorization": f"Bearer {token}"}
            await asyncio.sleep(number / POLLERS * INTERVAL)
            while (since := time.perf_counter()) < until:
                response = await client.get(url, headers=headers)
                latencies.append((time.perf_counter() - since) * 1000)
                if bodies.get(token) != response.content:
                    bodies[token] = response.content
                    wrong += response.status_code != httpx.codes.OK or "jobs" not in json.loads(response.content)
                await asyncio.sleep(max(0.0, INTERVAL - (time.perf_counter() - since)))

        async with httpx.AsyncClient(limits=httpx.Limits(max_connections=None), timeout=60, trust_env=False) as client:
            await asyncio.gather(*(poll(client, number) for number in range(POLLERS)))
        return latencies, wrong


class OnePoller:
    """One client alone: what sharing adds to the latency of a list when there is nobody to share with."""

    name = "poller"
    title = "One poller: a list of jobs every second, beside a gateway whose requests share no answers"
    rows = "poller"
    needs: Sequence[str] = (GATEWAY,)

    async def run(self, bench: Bench) -> list[Cell]:
        if not bench.scheduler or bench.servers.other_checkout is not None:
            bench.say(f"{self.name}: skipped, the site has no scheduler, or versions are compared")
            return []
        servers = bench.servers
        unshared = replace(servers, site=replace(servers.site, shared_life=0.0))
        async with AsyncExitStack() as stack:
            other = await asyncio.to_thread(stack.enter_context, unshared.gateway(GATEWAY, UNSHARED))
            clients = {}
            for key, contender in ((GATEWAY, bench.contenders[GATEWAY]), (UNSHARED, other)):
                clients[key] = await stack.enter_async_context(room(contender.endpoint, "compute").client())
                await self._list(clients[key])  # opens the connections
            samples: dict[str, list[float]] = {key: [] for key in clients}
            for turn in range(bench.runs(5, 20)):
                for key in rotated([*clients], turn):
                    await asyncio.sleep(PAUSE)
                    samples[key].append(await self._list(clients[key]))
        cells = [Cell(self.name, key, "ms", 1, tuple(found)) for key, found in samples.items()]
        added = median(samples[GATEWAY]) - median(samples[UNSHARED])
        return [*cells, Cell(self.name, GATEWAY, "ms added", 1, (added,))]

    @staticmethod
    async def _list(client: httpx.AsyncClient) -> float:
        """The milliseconds of one list. Raises HTTPStatusError if it fails."""
        since = time.perf_counter()
        response = await client.get("/jobs")
        took = (time.perf_counter() - since) * 1000
        response.raise_for_status()
        return took
