"""Jobs, nodes and partitions: many clients of one user by wrk."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import httpx

from bench.columns import GATEWAY
from bench.contenders import sites
from bench.contenders.servers import Contender
from bench.measure.load import Endpoint, Request
from bench.measure.slurm import SlurmMeter
from bench.results import Cell

from .throughput import Throughput
from .workload import Bench

JOBS = 20  # waiting jobs of one user
USER = (
    -2
)  # in the site's users: neither the first, whose history has the jobs of all other workloads, nor that of many-jobs
NAME = "flamecrest-bench"  # of these jobs
ENDING = 60  # seconds within which a job of one command ends


def room(endpoint: Endpoint, name: str) -> Endpoint:
    """The endpoint of another part of the API, `compute` or `status`."""
    return Endpoint(endpoint.url.replace("/filesystem/", f"/{name}/"), endpoint.token)


class JobThroughput(Throughput):
    """Lists of jobs, single jobs, nodes or partitions: 16 clients of one user. `part` and `target` make the path."""

    needs: Sequence[str] = ("c", GATEWAY)

    def __init__(self, name: str, title: str, part: str, target: str, connections: Sequence[int] = (16,)) -> None:
        super().__init__(name, title, connections)
        self._part = part
        self._target = target
        self._job = ""
        self._token = ""

    def endpoint(self, contender: Contender) -> Endpoint:
        own = contender.endpoint
        return room(replace(own, token=self._token) if self._token else own, self._part)

    def requests(self, _bench: Bench, _key: str) -> Sequence[Request]:
        return [Request(self._target.format(job=self._job))]

    async def prepare(self, bench: Bench) -> None:
        """Submit the jobs of an earlier run that are missing, and one that ends: sacct does not list jobs on hold."""
        present = (await bench.shell(f"squeue --noheader --format=%i --name={NAME}")).split()
        for _ in range(JOBS - len(present)):
            await bench.shell(f"sbatch --hold --job-name={NAME} --output=/dev/null --wrap='sleep 600'")
        self._job = (await bench.shell(f"squeue --noheader --format=%i --name={NAME}")).split()[0]
        ended = "sacct --allocations --noheader --state=COMPLETED --starttime=now-12hours --endtime=now --format=jobid"
        if not (await bench.shell(ended)).split():
            await bench.shell(f"sbatch --job-name={NAME} --output=/dev/null --wrap=true")
        for _ in range(ENDING):
            if (await bench.shell(ended)).split():
                return
            await asyncio.sleep(1)

    async def clean(self, bench: Bench) -> None:
        await bench.shell(f"scancel --name={NAME}")

    async def slurm(self, bench: Bench) -> SlurmMeter | None:
        return await SlurmMeter.of(bench.shell)

    async def run(self, bench: Bench) -> list[Cell]:
        if bench.has_no_scheduler(self.name):
            return []
        if bench.contenders[GATEWAY].pid is not None:
            bench = self._as_user(bench)
        try:
            return await super().run(bench)
        finally:
            await self.clean(bench)

    def _as_user(self, bench: Bench) -> Bench:
        """Have requests and commands be those of the user of these workloads. A running gateway's token is not ours."""
        site = bench.servers.site
        user = site.users[USER]
        self._token = bench.servers.issuer.mint(user)
        return replace(bench, shell=partial(sites.run_command, replace(site, users=(user,))))

    async def check(self, bench: Bench, key: str) -> int:
        endpoint = self.endpoint(bench.contenders[key])
        async with endpoint.client() as client:
            response = await client.get(self.requests(bench, key)[0].target)
        found = response.json()
        empty = not any(found.get(name) for name in ("jobs", "nodes", "partitions"))
        return int(response.status_code != httpx.codes.OK or empty)
