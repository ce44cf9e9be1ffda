"""Operations at full load by wrk: rate, latency, and the processor time and memory that they use."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from bench.columns import GATEWAY, OTHER
from bench.contenders.servers import Contender
from bench.contenders.sites import FILES, SIZE
from bench.measure import load
from bench.measure.http_client import client
from bench.measure.load import Endpoint, Request
from bench.measure.resources import Meter
from bench.measure.slurm import SlurmMeter
from bench.results import Cell

from .workload import Bench

WARM_UP = 1  # seconds
BOUNDARY = "flamecrest-bench"
SETTLING = 10  # seconds for the requests that are still running when wrk ends
IDLE = 0.03  # seconds of processor time in a quarter of a second; less means idle


@dataclass(slots=True)
class Samples:
    """Samples of one contender at one number of connections."""

    by_quantity: dict[str, list[float]] = field(default_factory=dict)
    wrong: int = 0

    def add(self, values: Mapping[str, float]) -> None:
        for quantity, value in values.items():
            self.by_quantity.setdefault(quantity, []).append(value)


class Throughput:
    """One kind of request at several numbers of connections. The first number gets the most runs."""

    rows = "connections"
    needs: Sequence[str] = ("c", GATEWAY, "0")

    def __init__(self, name: str, title: str, connections: Sequence[int]) -> None:
        self.name = name
        self.title = f"{title}, by wrk"
        self._connections = connections

    def requests(self, bench: Bench, key: str) -> Sequence[Request]:
        """The requests for a contender."""
        raise NotImplementedError

    def endpoint(self, contender: Contender) -> Endpoint:
        """The endpoint that the requests are sent to."""
        return contender.endpoint

    async def prepare(self, bench: Bench) -> None:
        """Create the files that the requests need."""

    async def clean(self, bench: Bench) -> None:
        """Remove from the cluster what is not below the directory of the files."""

    async def slurm(self, _bench: Bench) -> SlurmMeter | None:
        """The meter of Slurm's daemons, if the requests are answered by them."""
        return None

    async def check(self, _bench: Bench, _key: str) -> int:
        """Check more than the status, which is all that wrk checks; return the number of wrong results."""
        return 0

    async def run(self, bench: Bench) -> list[Cell]:
        if not load.wrk_installed():
            bench.say(f"{self.name}: skipped, wrk is not installed (apt-get install wrk)")
            return []
        await self.prepare(bench)
        keys = bench.measured(self.needs)
        requests = {key: self.requests(bench, key) for key in keys}
        for contender in bench.turn(keys, 0):
            await load.wrk(self.endpoint(contender), requests[contender.key], self._connections[0], WARM_UP)
        cells = []
        for connections in sorted(self._connections):
            cells += await self._row(bench, requests, connections)
        wrong = {key: await self.check(bench, key) for key in keys}
        return [cell.with_errors(wrong[cell.contender]) for cell in cells]

    async def _row(self, bench: Bench, requests: Mapping[str, Sequence[Request]], connections: int) -> list[Cell]:
        found = {key: Samples() for key in requests}
        slurm = await self.slurm(bench)
        rounds, seconds = (5, 5) if connections == self._connections[0] else (2, 3)
        if bench.quick:
            rounds, seconds = (2, 2) if connections == self._connections[0] else (1, 2)
        if OTHER in requests:  # many short turns: other load on the machine changes within seconds
            rounds, seconds = rounds * 5, 1 if bench.quick else 2
        for turn in range(rounds):
            for contender in bench.turn([*requests], turn):
                bench.say(f"{self.name}: {connections} connections, round {turn + 1}, {contender.title}")
                before = None if slurm is None else await slurm.load()
                meter = Meter(contender.pid, bench.sshd) if contender.pid is not None else None
                memory = asyncio.create_task(_sample_memory(meter, seconds / 2))
                burst = await load.wrk(self.endpoint(contender), requests[contender.key], connections, seconds)
                await memory
                samples = found[contender.key]
                samples.wrong += burst.wrong
                samples.add(_quantities(burst, meter))
                if slurm is not None and before is not None and burst.requests:
                    samples.add(dict((await slurm.load()).since(before, "a request", burst.requests)))
                await _settle(meter)
        return [
            Cell(self.name, key, quantity, connections, tuple(values), "", samples.wrong)
            for key, samples in found.items()
            for quantity, values in samples.by_quantity.items()
        ]


def _quantities(burst: load.Burst, meter: Meter | None) -> dict[str, float]:
    if not burst.requests:
        return {"requests/s": 0.0}
    found = {"requests/s": burst.rate, "ms p50": burst.p50, "ms p99": burst.p99}
    return found if meter is None else found | dict(meter.usage(burst.requests).quantities())


async def _settle(meter: Meter | None) -> None:
    """Wait until the server is idle: wrk closes its connections while requests are still running."""
    for _ in range(SETTLING * 4):
        before = 0.0 if meter is None else meter.processor_seconds()
        await asyncio.sleep(0.25)
        if meter is None or meter.processor_seconds() - before < IDLE:
            break


async def _sample_memory(meter: Meter | None, seconds: float) -> None:
    """Measure the memory in the middle of a burst, when all its connections are open."""
    if meter is not None:
        await asyncio.sleep(seconds)
        meter.sample_memory()


class ReadThroughput(Throughput):
    """A GET request for each of the files of 1 KB."""

    def requests(self, bench: Bench, _key: str) -> Sequence[Request]:
        return [Request(f"/ops/{self.name}?path={quote(path)}") for path in bench.files]


class ListingThroughput(Throughput):
    """Listings of one or more directories with those files, in rotation.

    The gateway sends one query to the cluster for all requests that wait for the same directory. The other
    contenders send one per request.
    """

    def __init__(self, name: str, title: str, connections: Sequence[int], directories: int) -> None:
        super().__init__(name, title, connections)
        self._directories = directories

    def requests(self, bench: Bench, _key: str) -> Sequence[Request]:
        return [Request(f"/ops/ls?path={quote(folder)}") for folder in self._folders(bench)]

    async def prepare(self, bench: Bench) -> None:
        for folder in self._folders(bench)[1:]:
            copy = shlex.quote(folder)
            await bench.shell(f"[ -d {copy} ] || cp -r {shlex.quote(bench.folder)} {copy}")

    async def check(self, bench: Bench, key: str) -> int:
        wrong = 0
        with client(bench.contenders[key].endpoint) as http:
            for request in self.requests(bench, key):
                response = await asyncio.to_thread(http.request, "GET", request.target, keep=True)
                wrong += response.status != 200 or len(json.loads(response.body)["output"]) != FILES
        return wrong

    def _folders(self, bench: Bench) -> list[str]:
        return [bench.folder, *(f"{bench.folder}.ls{number}" for number in range(1, self._directories))]


class UploadThroughput(Throughput):
    """Uploads of 1 KB as forms, with the same names repeatedly, into a directory of the contender's own."""

    content = "x" * SIZE

    def requests(self, bench: Bench, key: str) -> Sequence[Request]:
        target = f"/ops/upload?path={quote(self._folder(bench, key))}"
        media_type = f"multipart/form-data; boundary={BOUNDARY}"
        return [Request(target, self._form(f"u{number:04}"), media_type) for number in range(FILES)]

    async def prepare(self, bench: Bench) -> None:
        await bench.shell("mkdir -p " + " ".join(shlex.quote(self._folder(bench, key)) for key in bench.contenders))

    async def check(self, bench: Bench, key: str) -> int:
        """Count files with wrong content and superfluous files. The last requests of wrk may still be running."""
        if key == "0":  # writes no files
            return 0
        folder = shlex.quote(self._folder(bench, key))
        count = f"cd {folder} && ls -A | wc -l && find . -type f ! -size {SIZE}c | wc -l && cat -- * | tr -d x | wc -c"
        for _ in range(SETTLING):
            files, wrong_size, wrong_bytes = map(int, (await bench.shell(count)).split())
            wrong = max(0, files - FILES) + wrong_size + wrong_bytes + (files == 0)
            if wrong == 0:
                return 0
            await asyncio.sleep(1)
        examples = await bench.shell(f"cd {folder} && find . -type f ! -size {SIZE}c -printf '%f %s\\n' | head -3")
        bench.say(
            f"{self.name}: {files} files, {wrong_size} of wrong size, {wrong_bytes} wrong bytes: {examples.split()}"
        )
        return wrong

    def _form(self, name: str) -> str:
        head = (
            f'Content-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: application/octet-stream'
        )
        return f"--{BOUNDARY}\r\n{head}\r\n\r\n{self.content}\r\n--{BOUNDARY}--\r\n"

    @staticmethod
    def _folder(bench: Bench, key: str) -> str:
        return f"{bench.folder}.up/{key}"
