"""A cold start: many clients at once on a server that has no SSH connection yet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from typing import Final

from bench.columns import GATEWAY, OTHER
from bench.contenders.accounts import many_users
from bench.contenders.servers import Servers
from bench.measure.logs import percentile
from bench.measure.resources import Meter, listener
from bench.results import Cell
from bench.workloads.workload import Bench, rotated

from . import clients
from .clients import Client, Log, Target

CLIENTS, USERS = 440, 22
CALLS: Final = (1, 10)  # of each client, one after another: stat and download in turns
TITLES: Final = {1: "1 call each", 10: "10 calls each"}


class ColdStart:
    """The time until all clients of a new server have their answers. All of them begin at once."""

    name = "cold"
    title = f"Cold start: {CLIENTS} clients of {USERS} users at once, on a server without SSH connections"
    rows = "calls"
    needs: Sequence[str] = ()

    async def run(self, bench: Bench) -> list[Cell]:
        keys = [*(("c",) if bench.servers.other_checkout is None else ()), *bench.gateways]
        folder = f".flamecrest-bench-cold-{time.time_ns():x}"
        found: dict[tuple[str, int], list[tuple[Log, dict[str, float]]]] = {}
        with ExitStack() as stack:
            many = many_users(bench.servers, USERS, sandbox=not bench.scheduler)
            servers = await asyncio.to_thread(stack.enter_context, many)
            preparing = await asyncio.to_thread(stack.enter_context, servers.gateway(GATEWAY, f"{self.name}-files"))
            files = Target.of(servers, preparing.endpoint, USERS)
            first = Log(60)
            await clients.in_uvloop(lambda: clients.with_folders(files, folder, first))
            for turn in range(bench.runs(1, 3)):
                for key in rotated(keys, turn):
                    for calls in CALLS:
                        bench.say(f"{self.name}: turn {turn + 1}, {calls} calls each, {key}")
                        log, spent = await self._start(servers, key, folder, calls)
                        log.add_wrong(first)
                        clients.report(bench, self.name, log)
                        found.setdefault((key, calls), []).append((log, spent))
            await clients.in_uvloop(lambda: clients.with_folders(files, folder, Log(60), remove=True))
        return [cell for (key, calls), logs in found.items() for cell in self._cells(key, calls, logs)]

    async def _start(self, servers: Servers, key: str, folder: str, calls: int) -> tuple[Log, dict[str, float]]:
        """Start the server and have all clients call. The log's window ends with the last answer.

        Also the processor time of server and sshd for each call, which other load disturbs less.
        """
        with ExitStack() as stack:
            starting = servers.gateway(key, self.name) if key in {GATEWAY, OTHER} else servers.start(key)
            contender = await asyncio.to_thread(stack.enter_context, starting)
            target, log = Target.of(servers, contender.endpoint, USERS), Log(3600)
            assert contender.pid is not None
            meter = Meter(contender.pid, listener(servers.site.port))
            await clients.in_uvloop(lambda: _at_once(target, log, folder, calls))
            return log, dict(meter.processor_ms("a call", CLIENTS * calls))

    def _cells(self, key: str, calls: int, starts: Sequence[tuple[Log, dict[str, float]]]) -> Iterator[Cell]:
        logs = [log for log, _ in starts]
        wrong = sum(log.wrong.total() for log in logs)
        times = [log.of() for log in logs]
        values = {"seconds": [log.window for log in logs]}
        values["ms p99"] = [percentile(one, 0.99) for one in times if one]
        values |= {name: [spent[name] for _, spent in starts] for name in starts[0][1]}
        for name, samples in values.items():
            if samples:
                yield Cell(self.name, key, name, TITLES[calls], tuple(samples), "", wrong)


async def _at_once(target: Target, log: Log, folder: str, calls: int) -> None:
    async def one(client: Client) -> None:
        path = f"{client.home}/{folder}/input"
        for number in range(calls):
            await (client.download(path) if number % 2 else client.stat(path))

    async with AsyncExitStack() as stack:
        every = [
            await stack.enter_async_context(Client(target, user, log)) for user in clients.spread(CLIENTS, target.users)
        ]
        log.begun = time.perf_counter()
        await asyncio.gather(*map(one, every))
        log.window = log.now
