"""A crowd: a thousand clients who call, wait, and call again."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from typing import Final

from bench.contenders.accounts import many_users
from bench.contenders.servers import Servers
from bench.measure.logs import percentile
from bench.results import Cell
from bench.workloads.workload import Bench

from . import clients
from .clients import Client, Log, Target

CLIENTS, USERS = 1000, 20
PAUSE: Final = (0.5, 2.0)  # seconds from one call of a client to its next
CALLS_A_SECOND: Final = CLIENTS / (sum(PAUSE) / 2)
MIX: Final = {"stat": 10, "ls": 3, "download": 3, "jobs": 4}  # parts of the calls
WARM_UP: Final = 8  # seconds, which do not count
ALL: Final = "all"


class Crowd:
    """The latency of calls at a rate that the clients choose. A client that got its answer late calls again at once."""

    name = "crowd"
    title = f"A crowd: {CLIENTS} clients of {USERS} users, 0.5 to 2 s between two calls: {CALLS_A_SECOND:.0f} a second"
    rows = "operation"
    needs: Sequence[str] = ()

    async def run(self, bench: Bench) -> list[Cell]:
        cells: list[Cell] = []
        with ExitStack() as stack:
            many = many_users(bench.servers, USERS, sandbox=not bench.scheduler)
            servers = await asyncio.to_thread(stack.enter_context, many)
            for key in bench.gateways:
                bench.say(f"{self.name}: {key}")
                cells += await self._measure(bench, servers, key)
        return cells

    async def _measure(self, bench: Bench, servers: Servers, key: str) -> list[Cell]:
        seconds = bench.runs(10, 60)
        folder = f".flamecrest-bench-crowd-{time.time_ns():x}"
        with ExitStack() as stack:
            gateway = await asyncio.to_thread(stack.enter_context, servers.gateway(key, self.name))
            target, log, first = Target.of(servers, gateway.endpoint, USERS), Log(1), Log(60)
            await clients.in_uvloop(lambda: clients.with_folders(target, folder, first))
            log.add_wrong(first)
            mix = {name: part for name, part in MIX.items() if bench.scheduler or name != "jobs"}
            log.begun = time.perf_counter()
            await clients.in_uvloop(lambda: _crowd(target, log, folder, mix, WARM_UP + seconds))
            await clients.in_uvloop(lambda: clients.with_folders(target, folder, Log(1), remove=True))
        clients.report(bench, self.name, log)
        return list(self._cells(key, log, seconds))

    def _cells(self, key: str, log: Log, seconds: int) -> Iterator[Cell]:
        for operation in (ALL, *log.operations()):
            times = log.of(None if operation == ALL else operation, range(WARM_UP, WARM_UP + seconds))
            wrong = log.wrong.total() if operation == ALL else log.wrong[operation]
            if times:
                values = {"requests/s": len(times) / seconds}
                values |= {f"ms p{part}": percentile(times, part / 100) for part in (50, 99)}
                for name, value in values.items():
                    yield Cell(self.name, key, name, operation, (value,), "", wrong)


async def _crowd(target: Target, log: Log, folder: str, mix: dict[str, int], seconds: float) -> None:
    async def one(client: Client, number: int) -> None:
        chance, path = random.Random(number), f"{client.home}/{folder}"
        calls = {
            "stat": lambda: client.stat(f"{path}/input"),
            "ls": lambda: client.ls(path),
            "download": lambda: client.download(f"{path}/input"),
            "jobs": client.list_jobs,
        }
        due = chance.uniform(0, sum(PAUSE) / 2)
        while due < seconds:
            await asyncio.sleep(due - log.now)
            await calls[chance.choices([*mix], [*mix.values()])[0]]()
            due = max(due + chance.uniform(*PAUSE), log.now)

    async with AsyncExitStack() as stack:
        every = [
            await stack.enter_async_context(Client(target, user, log)) for user in clients.spread(CLIENTS, target.users)
        ]
        await asyncio.gather(*(one(client, number) for number, client in enumerate(every)))
