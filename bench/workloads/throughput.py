"""Operations as often as possible by wrk: rate, latency, and what they take of processors and memory meanwhile."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from bench.columns import GATEWAY
from bench.contenders.sites import FILES, SIZE
from bench.measure import load
from bench.measure.http_client import client
from bench.measure.load import Request
from bench.measure.resources import Meter
from bench.results import Cell

from .workload import Bench

WARM_UP = 1  # seconds
BOUNDARY = "flamecrest-bench"
SETTLING = 10  # seconds in which requests that wrk has left behind must be over
IDLE = 0.03  # seconds of processor time in a quarter of a second: nobody is at work


@dataclass(slots=True)
class Measured:
    """Samples of one contender at one number of connections."""

    samples: dict[str, list[float]] = field(default_factory=dict)
    wrong: int = 0

    def add(self, values: Mapping[str, float]) -> None:
        for quantity, value in values.items():
            self.samples.setdefault(quantity, []).append(value)


class Load:
    """One kind of request, at numbers of connections of which the first is measured thoroughly."""

    rows = "connections"
    needs: Sequence[str] = ("c", GATEWAY, "0")

    def __init__(self, name: str, title: str, connections: Sequence[int]) -> None:
        self.name = name
        self.title = f"{title}, by wrk"
        self._connections = connections

    def requests(self, bench: Bench, key: str) -> Sequence[Request]:
        """What is sent to that contender."""
        raise NotImplementedError

    async def prepare(self, bench: Bench) -> None:
        """Make what the requests need."""

    async def check(self, _bench: Bench, _key: str) -> int:
        """Look closer than wrk does, which sees the status only: how many answers were wrong."""
        return 0

    async def run(self, bench: Bench) -> list[Cell]:
        if not load.have_wrk():
            bench.say(f"{self.name}: left out, wrk is missing (apt-get install wrk)")
            return []
        await self.prepare(bench)
        requests = {key: self.requests(bench, key) for key in self.needs}
        for contender in bench.turn(self.needs, 0):
            await load.wrk(contender.caller, requests[contender.key], self._connections[0], WARM_UP)
        cells = []
        for connections in sorted(self._connections):
            cells += await self._row(bench, requests, connections)
        wrong = {key: await self.check(bench, key) for key in self.needs}
        return [cell.with_errors(wrong[cell.contender]) for cell in cells]

    async def _row(self, bench: Bench, requests: Mapping[str, Sequence[Request]], connections: int) -> list[Cell]:
        found = {key: Measured() for key in self.needs}
        rounds, seconds = (5, 5) if connections == self._connections[0] else (2, 3)
        if bench.quick:
            rounds, seconds = (2, 2) if connections == self._connections[0] else (1, 2)
        for turn in range(rounds):
            for contender in bench.turn(self.needs, turn):
                bench.say(f"{self.name}: {connections} connections, round {turn + 1}, {contender.title}")
                meter = Meter(contender.pid, bench.sshd) if contender.pid is not None else None
                looking = asyncio.create_task(_look(meter, seconds / 2))
                burst = await load.wrk(contender.caller, requests[contender.key], connections, seconds)
                await looking
                measured = found[contender.key]
                measured.wrong += burst.wrong
                measured.add(_taken(burst, meter))
                await _settle(meter)
        return [
            Cell(self.name, key, quantity, connections, tuple(samples), "", measured.wrong)
            for key, measured in found.items()
            for quantity, samples in measured.samples.items()
        ]


def _taken(burst: load.Burst, meter: Meter | None) -> dict[str, float]:
    if not burst.requests:
        return {"requests/s": 0.0}
    found = {"requests/s": burst.rate, "ms p50": burst.p50, "ms p99": burst.p99}
    return found if meter is None else found | dict(meter.load(burst.requests).quantities())


async def _settle(meter: Meter | None) -> None:
    """wrk hangs up on what is still under way: let that be over before somebody else is measured."""
    for _ in range(SETTLING * 4):
        before = 0.0 if meter is None else meter.spent()
        await asyncio.sleep(0.25)
        if meter is None or meter.spent() - before < IDLE:
            break


async def _look(meter: Meter | None, seconds: float) -> None:
    """Have the memory measured in the middle of a burst, when all its connections are there."""
    if meter is not None:
        await asyncio.sleep(seconds)
        meter.look()


class Reads(Load):
    """Something small about each of the files of 1 KB."""

    def requests(self, bench: Bench, _key: str) -> Sequence[Request]:
        return [Request(f"/ops/{self.name}?path={quote(path)}") for path in bench.files]


class Listings(Load):
    """Directories that hold those files, in turn: one for all, or as many as there are connections.

    The gateway asks the cluster once for those that wait for the same directory; the others ask each time.
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
        with client(bench.contenders[key].caller) as asking:
            for request in self.requests(bench, key):
                answer = await asyncio.to_thread(asking.ask, "GET", request.target, keep=True)
                wrong += answer.status != 200 or len(json.loads(answer.body)["output"]) != FILES
        return wrong

    def _folders(self, bench: Bench) -> list[str]:
        return [bench.folder, *(f"{bench.folder}.ls{number}" for number in range(1, self._directories))]


class Uploads(Load):
    """Files of 1 KB, a form each, into a directory of the contender's own: the same names again and again."""

    content = "x" * SIZE

    def requests(self, bench: Bench, key: str) -> Sequence[Request]:
        target = f"/ops/upload?path={quote(self._folder(bench, key))}"
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        return [Request(target, self._form(f"u{number:04}"), kind) for number in range(FILES)]

    async def prepare(self, bench: Bench) -> None:
        await bench.shell("mkdir -p " + " ".join(shlex.quote(self._folder(bench, key)) for key in bench.contenders))

    async def check(self, bench: Bench, key: str) -> int:
        """Files that are too many, or not what was sent; wrk hangs up on the last few, which may still run."""
        if key == "0":  # does nothing
            return 0
        folder = shlex.quote(self._folder(bench, key))
        count = f"cd {folder} && ls -A | wc -l && find . -type f ! -size {SIZE}c | wc -l && cat -- * | tr -d x | wc -c"
        for _ in range(SETTLING):
            here, odd, strange = map(int, (await bench.shell(count)).split())
            wrong = max(0, here - FILES) + odd + strange + (here == 0)
            if wrong == 0:
                return 0
            await asyncio.sleep(1)
        odd_ones = await bench.shell(f"cd {folder} && find . -type f ! -size {SIZE}c -printf '%f %s\\n' | head -3")
        bench.say(f"{self.name}: {here} files, {odd} of another size, {strange} wrong bytes: {odd_ones.split()}")
        return wrong

    def _form(self, name: str) -> str:
        head = (
            f'Content-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: application/octet-stream'
        )
        return f"--{BOUNDARY}\r\n{head}\r\n\r\n{self.content}\r\n--{BOUNDARY}--\r\n"

    @staticmethod
    def _folder(bench: Bench, key: str) -> str:
        return f"{bench.folder}.up/{key}"
