"""Complete lives of jobs, as the published method simulates them: by more and more clients, then by fewer again."""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from statistics import median

import httpx

from bench.columns import GATEWAY
from bench.contenders import sites
from bench.contenders.servers import Contender
from bench.measure.logs import percentile
from bench.measure.resources import Meter
from bench.measure.slurm import SlurmMeter
from bench.results import Cell

from .simulation import NAME, STEPS, Measured, Simulation
from .workload import Bench

CLIENTS = (1, 10, 50, 100, 250, 500)  # up to the peak, and down again
QUICK_CLIENTS = (1, 5, 20)
USERS = 20
LIMIT, QUICK_LIMIT = 120, 40  # seconds for all clients of a level together


@dataclass(frozen=True, slots=True)
class Level:
    """A number of clients at a time, and its row in the tables."""

    clients: int
    row: int | str


def levels(clients: Sequence[int]) -> list[Level]:
    """The levels up to the greatest number of clients, and down again by every second of them."""
    falling = [Level(number, f"{number}, falling") for number in clients[-2::-2]]
    return [*(Level(number, number) for number in clients), *falling]


class Lifecycle:
    """Each client of a level sends the requests of one life, all beginning at once.

    A contender that fails at a level, or does not finish it in time, is spared levels with as many or more clients.
    """

    name = "lifecycle"
    title = "Complete lives of jobs: systems, mkdir, upload, submit, monitor, results, clean up"
    rows = "clients"
    needs: Sequence[str] = ("b", "c", GATEWAY)

    async def run(self, bench: Bench) -> list[Cell]:
        if bench.has_no_scheduler(self.name):
            return []
        meter = await SlurmMeter.of(bench.shell)
        cells: list[Cell] = []
        failed: dict[str, int] = {}  # the smallest number of clients that was too much
        for number, level in enumerate(levels(QUICK_CLIENTS if bench.quick else CLIENTS)):
            for contender in bench.turn(bench.measured(self.needs), number):
                if level.clients >= failed.get(contender.key, level.clients + 1):
                    continue
                bench.say(f"{self.name}: {level.row} clients, {contender.title}")
                found = await self._level(bench, contender, level, meter)
                cells += found
                if any(cell.errors for cell in found):
                    failed[contender.key] = level.clients
        return cells

    async def _level(self, bench: Bench, contender: Contender, level: Level, slurm: SlurmMeter) -> list[Cell]:
        site, issuer = bench.servers.site, bench.servers.issuer
        users = [user for user in site.users if user != site.service_user][:USERS]
        folder = f".flamecrest-bench-life-{time.time_ns():x}"
        origin = contender.endpoint.url.partition("/filesystem/")[0]
        measured = Measured()
        limit = QUICK_LIMIT if bench.quick else LIMIT
        meter = Meter(contender.pid, bench.sshd) if contender.pid is not None else None
        before = await slurm.load()
        begun = time.perf_counter()
        connections = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        try:
            async with httpx.AsyncClient(limits=connections, timeout=limit, trust_env=False) as http:
                simulations = [
                    Simulation(http, origin, site.system, issuer.mint(user), f"{site.home(user)}/{folder}/{number}")
                    for number, user in zip(range(level.clients), users * level.clients, strict=False)
                ]
                with suppress(TimeoutError):
                    async with asyncio.timeout(limit):
                        await asyncio.gather(*(one.run(measured) for one in simulations))
            took = time.perf_counter() - begun
            lives = max(1, len(measured.whole))
            spent = {} if meter is None else dict(meter.processor_ms("a life", lives))
            spent |= dict((await slurm.load()).since(before, "a life", lives))
        finally:
            for user in users[: level.clients]:
                line = f"scancel --name={NAME} --user={user}; rm -rf ~/{shlex.quote(folder)}"
                await sites.run_command(replace(site, users=(user,)), line)
        if measured.example:
            bench.say(f"{self.name}: {sum(measured.failed.values())} clients have failed; {measured.example}")
        cells = list(self._cells(contender.key, level, measured, took))
        return cells + [Cell(self.name, contender.key, name, level.row, (value,)) for name, value in spent.items()]

    def _cells(self, key: str, level: Level, measured: Measured, took: float) -> Iterator[Cell]:
        unfinished = level.clients - len(measured.whole)
        values = {"jobs/s": len(measured.whole) / took}
        if measured.whole:
            values["s p50, whole life"] = median(measured.whole)
            values["s p99, whole life"] = percentile(measured.whole, 0.99)
        for quantity, value in values.items():
            yield Cell(self.name, key, quantity, level.row, (value,), "", unfinished)
        for step in STEPS:
            if seconds := measured.seconds[step]:
                yield Cell(
                    self.name,
                    key,
                    f"ms p50, {step}",
                    level.row,
                    (1000 * median(seconds),),
                    "",
                    measured.failed.get(step, 0),
                )
        yield Cell(self.name, key, "clients that failed", level.row, (float(unfinished),))
