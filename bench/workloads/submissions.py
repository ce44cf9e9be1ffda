"""Submissions of jobs: one after the other, by clients at the same time, and many jobs in one request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Any, Final

import httpx

from bench.columns import GATEWAY, REST, TITLES
from bench.contenders.servers import Contender
from bench.measure.load import Endpoint
from bench.results import Cell

from .jobs import room
from .workload import Bench, rotated

NAME: Final = "flamecrest-bench-submitted"  # of the jobs, which are held and cancelled at the end
SINGLE, TOGETHER, MANY = 50, 160, 500  # jobs
CLIENTS: Final = 8


class Submissions:
    """Milliseconds a job. The gateway asks sbatch, and another one slurmrestd."""

    name = "submit"
    title = f"Submission: {SINGLE} jobs one by one, {TOGETHER} by {CLIENTS} clients, {MANY} in one request"
    rows = "submitted"
    needs: Sequence[str] = ("c", GATEWAY)

    async def run(self, bench: Bench) -> list[Cell]:
        if bench.has_no_scheduler(self.name):
            return []
        cells: list[Cell] = []
        with ExitStack() as stack:
            endpoints = {key: bench.contenders[key].endpoint for key in bench.measured(self.needs)}
            if bench.servers.other_checkout is None:
                endpoints[REST] = (await asyncio.to_thread(stack.enter_context, by_rest(bench))).endpoint
            for turn in range(bench.runs(1, 3)):
                for key in rotated([*endpoints], turn):
                    bench.say(f"{self.name}: run {turn + 1}, {TITLES[key]}")
                    try:
                        cells += await self._measured(bench, key, room(endpoints[key], "compute"))
                    finally:
                        await bench.shell(f"scancel --name={NAME}")
        return _joined(cells)

    async def _measured(self, bench: Bench, key: str, endpoint: Endpoint) -> list[Cell]:
        job = {
            "name": NAME,
            "workingDirectory": bench.folder,
            "standardOutput": "/dev/null",
            "script": "#!/bin/sh\n#SBATCH --hold\ntrue\n",
        }
        async with endpoint.client() as client:
            await client.post("/jobs", json={"job": job})  # opens the connections
            took, wrong = await _submit(client, job, SINGLE, 1)
            cells = [Cell(self.name, key, "ms a job", "one by one", (took,), "", wrong)]
            took, wrong = await _submit(client, job, TOGETHER, CLIENTS)
            cells.append(Cell(self.name, key, "ms a job", f"by {CLIENTS} clients", (took,), "", wrong))
            if key != "c":
                since = time.perf_counter()
                response = await client.post("/bulk/submit", json={"jobs": [job] * MANY})
                took = (time.perf_counter() - since) * 1000 / MANY
                found = response.json().get("results", []) if response.status_code == httpx.codes.OK else []
                wrong = MANY - sum(1 for one in found if one["jobId"])
                cells.append(Cell(self.name, key, "ms a job", "many at once", (took,), "", wrong))
        return cells


def by_rest(bench: Bench) -> AbstractContextManager[Contender]:
    """Another gateway, which reaches the scheduler by slurmrestd."""
    servers = bench.servers
    return replace(servers, site=replace(servers.site, connection_mode="rest")).gateway(GATEWAY, REST)


async def _submit(client: httpx.AsyncClient, job: dict[str, Any], count: int, clients: int) -> tuple[float, int]:
    """Submit jobs; the milliseconds a job of all clients together, and the number of wrong responses."""

    async def submit() -> int:
        wrong = 0
        for _ in range(count // clients):
            response = await client.post("/jobs", json={"job": job})
            wrong += response.status_code != httpx.codes.CREATED
        return wrong

    since = time.perf_counter()
    wrong = sum(await asyncio.gather(*(submit() for _ in range(clients))))
    return (time.perf_counter() - since) * 1000 / count, wrong


def _joined(cells: Sequence[Cell]) -> list[Cell]:
    """One cell for each place in the table, with the samples of all turns."""
    found: dict[Any, Cell] = {}
    for cell in cells:
        before = found.get(cell.at)
        samples = cell.samples if before is None else before.samples + cell.samples
        errors = cell.errors if before is None else before.errors + cell.errors
        found[cell.at] = replace(cell, samples=samples, errors=errors)
    return list(found.values())
