"""Two workers beside one: measured shares of processor time, and a simulation with more processors than there are."""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from bench.columns import GATEWAY
from bench.contenders.accounts import many_users
from bench.contenders.servers import Servers
from bench.measure import load
from bench.measure.load import Request
from bench.measure.resources import Meter, listener
from bench.results import Cell
from bench.workloads.workload import Bench

from . import clients
from .clients import Log, Target

USERS, CONNECTIONS = 20, 64
PROCESSORS: Final = (2, 4, 8)
WORKERS: Final = (1, 2, 4)
REQUESTS: Final = 3000  # of a simulation

Process = tuple[str, int]  # "worker" and its number, or "sshd" and the number of its user


@dataclass(slots=True)
class Processes:
    """Processes with one thread each that serve requests in turn, on a number of processors."""

    processors: int
    busy: set[Process] = field(default_factory=set)
    queues: dict[Process, deque[int]] = field(default_factory=dict)
    ready: deque[Process] = field(default_factory=deque)  # with requests, and without a processor

    def add(self, process: Process, request: int) -> None:
        queue = self.queues.setdefault(process, deque())
        queue.append(request)
        if len(queue) == 1 and process not in self.busy:
            self.ready.append(process)

    def start(self) -> Iterator[tuple[Process, int]]:
        """The processes that get a processor now, with their requests."""
        while self.ready and len(self.busy) < self.processors:
            process = self.ready.popleft()
            self.busy.add(process)
            yield process, self.queues[process].popleft()

    def finish(self, process: Process) -> None:
        """The process has served its request, and gives the processor to others in between."""
        self.busy.remove(process)
        if self.queues[process]:
            self.ready.append(process)


def rate(shares: tuple[float, float], workers: int, processors: int, seed: int = 0) -> float:
    """Requests a second of CONNECTIONS clients who always wait for one answer, in a simulation.

    `shares`: the milliseconds of processor time that a request takes in the gateway and in the user's sshd; each is
    half of it to twice as long by chance. A user's requests go to one worker, by a hash. The clients run elsewhere.
    """
    chance, machine = random.Random(seed), Processes(processors)
    worker_of = [chance.randrange(workers) for _ in range(USERS)]
    events: list[tuple[float, int, Process]] = []  # end, request, process
    done, now = 0, 0.0
    for request in range(CONNECTIONS):
        machine.add(("worker", worker_of[request % USERS]), request)
    while done < REQUESTS:
        for process, request in machine.start():
            share = shares[0] if process[0] == "worker" else shares[1]
            heapq.heappush(events, (now + share * chance.uniform(0.5, 1.5), request, process))
        now, request, process = heapq.heappop(events)
        machine.finish(process)
        user = request % USERS
        if process[0] == "worker":
            machine.add(("sshd", user), request)
        else:
            done += 1
            machine.add(("worker", worker_of[user]), request)
    return 1000 * done / now


class Workers:
    """How much faster more workers are, where there are processors for them."""

    name = "workers"
    title = f"More workers, simulated from the measured shares of stat: {CONNECTIONS} clients of {USERS} users"
    rows = "processors"
    needs: Sequence[str] = ()

    async def run(self, bench: Bench) -> list[Cell]:
        if not load.wrk_installed() or bench.servers.other_checkout is not None:
            bench.say(f"{self.name}: skipped, wrk is not installed, or versions are compared")
            return []
        with ExitStack() as stack:
            many = many_users(bench.servers, USERS, sandbox=not bench.scheduler)
            servers = await asyncio.to_thread(stack.enter_context, many)
            shares = await self._shares(bench, servers)
        if shares is None:
            bench.say(f"{self.name}: skipped, the SSH server's processes cannot be seen")
            return []
        return await asyncio.to_thread(lambda: list(self.cells(shares)))

    async def _shares(self, bench: Bench, servers: Servers) -> tuple[float, float] | None:
        """The milliseconds of processor time of a stat in the gateway and in sshd."""
        seconds, folder = bench.runs(3, 10), f".flamecrest-bench-workers-{time.time_ns():x}"
        with ExitStack() as stack:
            gateway = await asyncio.to_thread(stack.enter_context, servers.gateway(GATEWAY, self.name))
            target = Target.of(servers, gateway.endpoint, USERS)
            await clients.in_uvloop(lambda: clients.with_folders(target, folder, Log(60)))
            requests = [
                Request(f"/ops/stat?path={quote(f'{home}/{folder}/input')}", token=target.tokens[user])
                for user, home in target.homes.items()
            ]
            await load.wrk(gateway.endpoint, requests, CONNECTIONS, 2)
            assert gateway.pid is not None
            meter = Meter(gateway.pid, listener(servers.site.port))
            burst = await load.wrk(gateway.endpoint, requests, CONNECTIONS, seconds)
            usage = meter.usage(burst.requests)
            await clients.in_uvloop(lambda: clients.with_folders(target, folder, Log(60), remove=True))
        return None if usage.sshd_ms is None else (usage.server_ms, usage.sshd_ms)

    def cells(self, shares: tuple[float, float]) -> Iterator[Cell]:
        """The rates and ratios for those shares: the mean of five ways to spread the users."""
        note = f"simulated: {shares[0]:.3f} ms in the gateway and {shares[1]:.3f} ms in sshd for a stat"
        for processors in PROCESSORS:
            row = f"{processors} processors"
            rates = {workers: [rate(shares, workers, processors, seed) for seed in range(5)] for workers in WORKERS}
            for workers, found in rates.items():
                yield Cell(self.name, _workers(workers), "requests/s", row, tuple(found), note)
            ratios = tuple(two / one for one, two in zip(rates[1], rates[2], strict=True))
            yield Cell(self.name, GATEWAY, "two workers : one", row, ratios, note)


def _workers(number: int) -> str:
    return "1 worker" if number == 1 else f"{number} workers"
