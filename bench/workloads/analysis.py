"""Where a call's time goes (by the gateway's log), and what a request takes of the wire to the cluster (by counters).

It sends the requests of other workloads; what they mean is said in logs.py and counters.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from bench.columns import GATEWAY
from bench.contenders.servers import Contender
from bench.measure import counters, load, logs
from bench.results import Cell

from .throughput import Listings, Load, Reads, Uploads
from .workload import Bench

OPERATIONS: Sequence[Load] = (
    Reads("stat", "", (1,)),
    Reads("download", "", (1,)),
    Listings("ls", "", (1,), 1),
    Uploads("upload", "", (1,)),
)
COLUMNS = (*logs.PARTS, "total")
STATISTICS = ("mean", "p50", "p99")


class Calls:
    """Log analysis: each call's time split into the check of the token, waiting for its turn, SSH, and the rest."""

    name = "calls"
    title = "Log analysis: where the gateway spends the time of a call"
    rows = "operation"
    needs: Sequence[str] = (GATEWAY,)
    connections = (1, 64)

    async def run(self, bench: Bench) -> list[Cell]:
        gateway = bench.contenders[GATEWAY]
        if gateway.log is None or not load.have_wrk():
            bench.say(f"{self.name}: left out, the gateway's log is not ours, or wrk is missing")
            return []
        cells: list[Cell] = []
        for operation in OPERATIONS:
            await operation.prepare(bench)
            requests = operation.requests(bench, GATEWAY)
            await load.wrk(gateway.caller, requests, self.connections[0], 1)
            for connections in self.connections:
                bench.say(f"{self.name}: {operation.name}, {connections} at a time")
                start = gateway.log.stat().st_size
                burst = await load.wrk(gateway.caller, requests, connections, 1 if bench.quick else 4)
                lines = counters.since(gateway.log, start)
                cells += self._cells(lines, f"{connections} at a time", burst.wrong)
        return cells

    def _cells(self, lines: Sequence[bytes], when: str, wrong: int) -> Iterator[Cell]:
        note = "" if any(b'"ssh_ms"' in line for line in lines) else "this gateway's log does not split the time"
        for operation, found in logs.by_operation(logs.calls(lines)).items():
            for column in COLUMNS:
                spent = [one.total if column == "total" else one.parts[column] for one in found]
                values = (fmean(spent), logs.percentile(spent, 0.5), logs.percentile(spent, 0.99))
                for statistic, value in zip(STATISTICS, values, strict=True):
                    yield Cell(self.name, column, f"ms {statistic}, {when}", operation, (value,), note, wrong)


class Network:
    """Network analysis: connections, channels, messages and bytes to the cluster a request."""

    name = "network"
    title = "Network analysis: what a request takes of the wire to the cluster"
    rows = "operation"
    needs: Sequence[str] = ("a", "b", "c", GATEWAY)

    async def run(self, bench: Bench) -> list[Cell]:
        cells: list[Cell] = []
        for operation in OPERATIONS:
            await operation.prepare(bench)
            for key in self.needs:
                contender = bench.contenders[key]
                if contender.pid is None or contender.log is None:
                    continue
                bench.say(f"{self.name}: {operation.name}, {contender.title}")
                cells += await self._row(operation, bench, contender)
        return cells

    async def _row(self, operation: Load, bench: Bench, contender: Contender) -> list[Cell]:
        assert contender.pid is not None
        assert contender.log is not None
        every = operation.requests(bench, contender.key)
        count = 200 if contender.key in {"c", GATEWAY} else 50
        requests = (list(every) * count)[: count // 5 if bench.quick else count]
        await load.send(contender.caller, requests[:2])  # connections are there, as on a server that runs
        before = await counters.ask(contender.pid, contender.log)
        wrong = await load.send(contender.caller, requests)
        after = await counters.ask(contender.pid, contender.log)
        if before is None or after is None:
            bench.say(f"{self.name}: {contender.title} does not count")
            return []
        return [
            Cell(
                self.name,
                contender.key,
                f"{title} a request",
                operation.name,
                ((after[name] - before.get(name, 0)) / len(requests),),
                "",
                wrong,
            )
            for name, title in counters.COUNTS.items()
            if name in after
        ]
