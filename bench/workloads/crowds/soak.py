"""A soak: the mixed load of a workflow manager by a thousand clients for minutes, and what is left of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field, replace
from statistics import median

from bench.columns import GATEWAY
from bench.contenders.accounts import many_users, uids
from bench.contenders.servers import Contender, Servers
from bench.measure.logs import percentile
from bench.measure.resources import resident
from bench.results import Cell
from bench.workloads.workload import Bench

from . import clients
from .clients import Client, Log, Target
from .leaks import Holder
from .workflow import LAST_POLL, Submissions, Workflow

USERS = 50
MINUTES, QUICK_MINUTES = 10.0, 1.0
PAUSE = (1.0, 5.0)  # seconds between two calls of a client: 333 calls a second by 1000 clients, 26 of them about jobs
# Of all clients in the whole time, and open at a time: the centre has few processors, and ended jobs stay in the lists
# of their users, which the gateway keeps by design.
JOBS, OPEN_JOBS, MOST_JOBS_A_SECOND = 600, 100, 4.0
WINDOWS = 30  # in which the whole time is shown
IDLE = 8.0  # seconds after which the gateway closes an unused connection, so that what is left over shows
WARM_UP, LAST = 0.2, 0.1  # parts of the time: memory before and after is that of the LAST parts of both
ALL = "all"
WHOLE = "whole time"  # the quantity of what is measured once; its rows are the names


@dataclass(slots=True)
class Memory:
    """Resident memory of the gateway, once a second."""

    pid: int
    samples: list[tuple[float, float]] = field(default_factory=list)  # seconds, MiB

    async def watch(self, log: Log) -> None:
        """Sample until cancelled."""
        while True:
            self.samples.append((log.now, resident(self.pid)))
            await asyncio.sleep(1)

    def between(self, begin: float, end: float) -> float:
        """The median between two times; of all samples if there is none."""
        found = [mib for at, mib in self.samples if begin <= at < end]
        return median(found or [mib for _, mib in self.samples])

    def growth(self, seconds: float) -> tuple[float, float]:
        """The memory after the warm-up and at the end, in MiB."""
        after = self.between(WARM_UP * seconds, (WARM_UP + LAST) * seconds)
        return after, self.between((1 - LAST) * seconds, seconds)


class Soak:
    """Many clients of many users for minutes, on a gateway of its own.

    `idle`: seconds after which the gateway closes an unused connection. `pause` and `last_poll`: see Workflow.
    """

    name = "soak"
    title = "Soak: clients of a workflow manager (stat, ls, upload, download, submit, poll) of 50 users, for minutes"
    rows = "operation, or seconds"
    needs: Sequence[str] = ()

    def __init__(
        self,
        *,
        users: int = USERS,
        idle: float = IDLE,
        pause: tuple[float, float] = PAUSE,
        last_poll: float = LAST_POLL,
    ) -> None:
        self._users, self._idle, self._pause, self._last_poll = users, idle, pause, last_poll

    async def run(self, bench: Bench) -> list[Cell]:
        if bench.servers.other_checkout is not None:
            bench.say(f"{self.name}: skipped, versions are compared")
            return []
        with ExitStack() as stack:
            bench.say(f"{self.name}: makes users")
            many = many_users(bench.servers, self._users, sandbox=not bench.scheduler, new=True)
            servers = await asyncio.to_thread(stack.enter_context, many)
            servers = replace(servers, site=replace(servers.site, idle_timeout=self._idle))
            quiet = {"server": {"access_log": False}}  # hours of it would fill the disk
            gateway = await asyncio.to_thread(stack.enter_context, servers.gateway(GATEWAY, self.name, quiet))
            return await self._measure(bench, servers, gateway)

    async def _measure(self, bench: Bench, servers: Servers, gateway: Contender) -> list[Cell]:
        assert gateway.pid is not None
        minutes = bench.soak_minutes or (QUICK_MINUTES if bench.quick else MINUTES)
        folder = f".flamecrest-bench-soak-{time.time_ns():x}"
        target, log = Target.of(servers, gateway.endpoint, self._users), Log(minutes * 60 / WINDOWS)
        holder = Holder(gateway, uids(servers.site), servers.site.port)
        first = Log(60)
        await clients.in_uvloop(lambda: clients.with_folders(target, folder, first))
        log.add_wrong(first)
        before = await holder.settled()
        bench.say(f"{self.name}: {bench.clients} clients of {len(target.users)} users, {minutes:g} minutes; {before}")
        memory, jobs = Memory(gateway.pid), Submissions(min(MOST_JOBS_A_SECOND, JOBS / (minutes * 60)), OPEN_JOBS)
        log.begun = time.perf_counter()
        await clients.in_uvloop(lambda: self._load(bench, target, log, folder, memory, jobs, minutes * 60))
        await clients.in_uvloop(lambda: clients.with_folders(target, folder, log, remove=True))
        bench.say(f"{self.name}: {jobs.all} jobs, {jobs.open} open; waits until unused connections are closed")
        after = await holder.settled(before)
        bench.say(f"{self.name}: {after}")
        for command in await asyncio.to_thread(holder.left):
            bench.say(f"{self.name}: left over: {command}")
        clients.report(bench, self.name, log)
        cells = [
            *self._latencies(log),
            *self._over_time(log, memory, minutes * 60),
            *self._growth(memory, minutes * 60),
        ]
        left = {f"{name} left": float(more) for name, more in after.more_than(before)}
        left |= {"jobs": float(jobs.all), "users": float(len(target.users))}
        return cells + [Cell(self.name, GATEWAY, WHOLE, name, (value,)) for name, value in left.items()]

    async def _load(
        self, bench: Bench, target: Target, log: Log, folder: str, memory: Memory, jobs: Submissions, seconds: float
    ) -> None:
        """All clients, until they have finished."""
        watching = asyncio.create_task(memory.watch(log))
        try:
            async with AsyncExitStack() as stack:
                work, submissions = [], jobs if bench.scheduler else None
                for number, user in enumerate(clients.spread(bench.clients, target.users)):
                    client = await stack.enter_async_context(Client(target, user, log))
                    own = f"{client.home}/{folder}/{number}"
                    work.append(Workflow(client, own, self._pause, submissions, number, self._last_poll).run(seconds))
                await asyncio.gather(*work)
        finally:
            watching.cancel()

    def _latencies(self, log: Log) -> Iterator[Cell]:
        for operation in (ALL, *log.operations()):
            times = log.of(None if operation == ALL else operation)
            wrong = log.wrong.total() if operation == ALL else log.wrong[operation]
            values = {"calls": float(len(times))}
            values |= {f"ms p{part:g}": percentile(times, part / 100) for part in (50, 99, 99.9)} if times else {}
            values["wrong responses"] = float(wrong)
            for name, value in values.items():
                yield Cell(self.name, GATEWAY, name, operation, (value,), "", wrong)

    def _over_time(self, log: Log, memory: Memory, seconds: float) -> Iterator[Cell]:
        """The windows in which all clients worked, by their ends in seconds."""
        for window in log.windows():
            begin, end = window * log.window, (window + 1) * log.window
            if end > 1.001 * seconds:  # the last polls
                return
            times = log.of(None, range(window, window + 1))
            values = {f"ms p{part}": percentile(times, part / 100) for part in (50, 99)}
            values |= {"calls a second": len(times) / log.window, "MiB": memory.between(begin, end)}
            for name, value in values.items():
                yield Cell(self.name, GATEWAY, f"{name}, over time", round(end), (value,))

    def _growth(self, memory: Memory, seconds: float) -> Iterator[Cell]:
        after, last = memory.growth(seconds)
        found = {"MiB after warm-up": after, "MiB at the end": last, "% of memory more": 100 * (last - after) / after}
        for name, value in found.items():
            yield Cell(self.name, GATEWAY, WHOLE, name, (value,))
