"""The list of a user's 10,000 jobs, and the memory that it takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import asyncssh
import httpx

from bench.columns import GATEWAY
from bench.contenders import sites
from bench.contenders.servers import Contender
from bench.measure.load import Endpoint
from bench.measure.resources import Growth
from bench.results import Cell

from .jobs import room
from .workload import Bench

JOBS = 10_000
ARRAY = 1000  # elements of one array; Slurm's default limit is 1001
NAME = "flamecrest-bench-many"
PAUSE = 1.2  # seconds, after which no answer is used any longer
# An element that was changed has a row of its own: so ten arrays are 10,000 jobs in the queue. They are cancelled by
# array: scancel by name sends a message for each job.
_SUBMIT = f"""
for number in $(seq {JOBS // ARRAY}); do
  job=$(sbatch --parsable --hold --array=0-{ARRAY - 1} --job-name={NAME} --output=/dev/null --wrap=true) || exit
  scontrol update jobid="${{job}}_[1-{ARRAY - 1}]" nice=1 || exit
  echo "$job"
done
"""


@dataclass(frozen=True, slots=True)
class Lists:
    """What lists took: the seconds of the first, and of each later one; `wrong` are without all the jobs."""

    first: float
    later: tuple[float, ...]
    wrong: int


class ManyJobs:
    """Lists by one client. No answer of an earlier one is used; the accounting is read when the gateway wants it."""

    name = "many-jobs"
    title = "List of a user's 10,000 jobs"
    rows = "jobs"
    needs: Sequence[str] = (GATEWAY,)  # the accounting, which the baselines ask, has no jobs that are held

    async def run(self, bench: Bench) -> list[Cell]:
        if bench.has_no_scheduler(self.name):
            return []
        site = bench.servers.site
        user = site.users[-1]  # not one of the pollers
        shell = partial(sites.run_command, replace(site, users=(user,)))
        jobs: list[str] = []
        cells: list[Cell] = []
        try:
            try:
                jobs += (await shell(_SUBMIT)).split()
            except asyncssh.ProcessError as error:
                bench.say(f"{self.name}: skipped, the jobs were not accepted: {error.stderr!r}")
                return []
            for key in bench.measured(self.needs):
                bench.say(f"{self.name}: {bench.contenders[key].title}")
                lists = await self._lists(bench, bench.contenders[key].endpoint, user)
                cells.append(Cell(self.name, key, "seconds, first list", JOBS, (lists.first,), "", lists.wrong))
                cells.append(Cell(self.name, key, "seconds", JOBS, lists.later, "", lists.wrong))
            started = [key for key in bench.gateways if bench.contenders[key].pid is not None]
            cells += [await self._memory(bench, key, user) for key in started]
        finally:
            await shell(f"scancel {' '.join(jobs)}" if jobs else f"scancel --name={NAME} --user={user}")
        return cells

    async def _lists(self, bench: Bench, endpoint: Endpoint, user: str) -> Lists:
        async with room(Endpoint(endpoint.url, bench.servers.issuer.mint(user)), "compute").client() as client:
            taken, wrong = [], 0
            for _ in range(1 + bench.runs(3, 8)):
                await asyncio.sleep(PAUSE)
                since = time.perf_counter()
                response = await client.get("/jobs")
                taken.append(time.perf_counter() - since)
                wrong += response.status_code != httpx.codes.OK or len(response.json()["jobs"]) < JOBS
        return Lists(taken[0], tuple(taken[1:]), wrong)

    async def _memory(self, bench: Bench, key: str, user: str) -> Cell:
        """The growth of a new gateway by lists of one client."""
        bench.say(f"{self.name}: memory, {key}")
        with ExitStack() as stack:
            gateway: Contender = await asyncio.to_thread(stack.enter_context, bench.servers.gateway(key, "many"))
            assert gateway.pid is not None
            async with room(gateway.endpoint, "status").client() as client:
                await client.get("/nodes")
            growth = Growth(gateway.pid)
            lists = await self._lists(bench, gateway.endpoint, user)
            return Cell(self.name, key, "MiB more", JOBS, (growth.peak(),), "", lists.wrong)
