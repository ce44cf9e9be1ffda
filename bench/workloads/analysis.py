"""Where the time of a call goes, from the gateway's log, and the SSH traffic of a request, from counters.

The requests are those of the throughput workloads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from bench.columns import GATEWAY, OTHER
from bench.contenders.servers import Contender
from bench.measure import counters, load, logs
from bench.results import Cell

from .jobs import JobThroughput
from .throughput import ListingThroughput, ReadThroughput, Throughput, UploadThroughput
from .workload import Bench

OPERATIONS: Sequence[Throughput] = (
    ReadThroughput("stat", "", (1,)),
    ReadThroughput("download", "", (1,)),
    ListingThroughput("ls", "", (1,), 1),
    UploadThroughput("upload", "", (1,)),
)
JOB_OPERATIONS: Sequence[Throughput] = (
    JobThroughput("jobs", "", "compute", "/jobs", (1,)),
    JobThroughput("job", "", "compute", "/jobs/{job}", (1,)),
    JobThroughput("nodes", "", "status", "/nodes", (1,)),
)


def operations(bench: Bench) -> Sequence[Throughput]:
    """The operations that the site can do."""
    return (*OPERATIONS, *JOB_OPERATIONS) if bench.scheduler else OPERATIONS


COLUMNS = (*logs.PARTS, "total")
STATISTICS = ("mean", "p50", "p99")


class Calls:
    """Log analysis: the time of a call for the token check, waiting for a turn, SSH, and the rest."""

    name = "calls"
    title = "Log analysis: where the gateway spends the time of a call"
    rows = "operation"
    needs: Sequence[str] = (GATEWAY,)
    connections = (1, 64)

    async def run(self, bench: Bench) -> list[Cell]:
        cells: list[Cell] = []
        for key in bench.gateways:
            gateway = bench.contenders[key]
            if gateway.log is None or not load.wrk_installed():
                bench.say(f"{self.name}: skipped, the gateway's log cannot be read, or wrk is not installed")
                return []
            for operation in operations(bench):
                await operation.prepare(bench)
                endpoint = operation.endpoint(gateway)
                requests = operation.requests(bench, key)
                await load.wrk(endpoint, requests, self.connections[0], 1)
                for connections in self.connections:
                    bench.say(f"{self.name}: {operation.name}, {connections} at a time, {gateway.title}")
                    start = gateway.log.stat().st_size
                    burst = await load.wrk(endpoint, requests, connections, 1 if bench.quick else 4)
                    lines = counters.since(gateway.log, start)
                    cells += self._cells(lines, f"{connections} at a time", burst.wrong, key)
                await operation.clean(bench)
        return cells

    def _cells(self, lines: Sequence[bytes], when: str, wrong: int, key: str) -> Iterator[Cell]:
        note = "" if any(b'"ssh_ms"' in line for line in lines) else "this gateway's log does not split the time"
        for operation, found in logs.by_operation(logs.calls(lines)).items():
            row = operation if key == GATEWAY else f"{operation}, other checkout"
            for column in COLUMNS:
                spent = [one.total if column == "total" else one.parts[column] for one in found]
                values = (fmean(spent), logs.percentile(spent, 0.5), logs.percentile(spent, 0.99))
                for statistic, value in zip(STATISTICS, values, strict=True):
                    yield Cell(self.name, column, f"ms {statistic}, {when}", row, (value,), note, wrong)


class Network:
    """Network analysis: SSH connections, channels, messages and bytes per request."""

    name = "network"
    title = "Network analysis: SSH traffic to the cluster per request"
    rows = "operation"
    needs: Sequence[str] = ("a", "b", "c", GATEWAY)

    async def run(self, bench: Bench) -> list[Cell]:
        cells: list[Cell] = []
        for operation in operations(bench):
            await operation.prepare(bench)
            for key in bench.measured(self.needs):
                contender = bench.contenders[key]
                if contender.pid is None or contender.log is None:
                    continue
                bench.say(f"{self.name}: {operation.name}, {contender.title}")
                cells += await self._row(operation, bench, contender)
            await operation.clean(bench)
        return cells

    async def _row(self, operation: Throughput, bench: Bench, contender: Contender) -> list[Cell]:
        assert contender.pid is not None
        assert contender.log is not None
        every = operation.requests(bench, contender.key)
        count = 200 if contender.key in {"c", GATEWAY, OTHER} else 50
        requests = (list(every) * count)[: count // 5 if bench.quick else count]
        endpoint, slurm = operation.endpoint(contender), await operation.slurm(bench)
        await load.send(endpoint, requests[:2])  # open the connections
        asked = None if slurm is None else await slurm.load()
        before = await counters.read_counters(contender.pid, contender.log)
        wrong = await load.send(endpoint, requests)
        after = await counters.read_counters(contender.pid, contender.log)
        if before is None or after is None:
            bench.say(f"{self.name}: {contender.title} has no counters")
            return []
        counts = counters.COUNTS.items()
        found = {
            f"{title} a request": (after[name] - before.get(name, 0)) / len(requests)
            for name, title in counts
            if name in after
        }
        if slurm is not None and asked is not None:
            found |= dict((await slurm.load()).since(asked, "a request", len(requests)))
        return [
            Cell(self.name, contender.key, quantity, operation.name, (value,), "", wrong)
            for quantity, value in found.items()
        ]
