"""The time of one call by the number of directory entries, and by the size of a file."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Sequence
from typing import ClassVar
from urllib.parse import quote

from bench.columns import GATEWAY
from bench.measure.http_client import Response, client
from bench.measure.resources import Growth
from bench.results import Cell

from .workload import Bench

NDJSON = {"Accept": "application/x-ndjson"}
MANY = 100_000


class Entries:
    """`ls` of directories of growing size, one call at a time, and the gateway's memory growth in the largest."""

    name = "entries"
    title = "ls of a directory, one call at a time"
    rows = "entries"
    needs: Sequence[str] = ("c", GATEWAY)
    repeats: ClassVar = {10: 20, 100: 20, 1000: 20, 10_000: 5, MANY: 3}

    async def run(self, bench: Bench) -> list[Cell]:
        for count in self.repeats:
            folder = shlex.quote(_folder(bench, count))
            await bench.shell(f"mkdir {folder} && cd {folder} && seq -f entry-%.0f {count} | xargs touch")
        cells = []
        keys = bench.measured(self.needs)
        for count, repeats in self.repeats.items():
            bench.say(f"{self.name}: {count} entries")
            samples: dict[str, list[float]] = {key: [] for key in keys}
            wrong = dict.fromkeys(keys, 0)
            for turn in range(bench.runs(max(1, repeats // 4), repeats)):
                for contender in bench.turn(keys, turn):
                    with client(contender.endpoint) as http:
                        response = await asyncio.to_thread(http.request, "GET", _ls(bench, count), keep=True)
                    samples[contender.key].append(response.seconds * 1000)
                    wrong[contender.key] += _entries(response) != count
            cells += [Cell(self.name, key, "ms", count, tuple(samples[key]), "", wrong[key]) for key in keys]
        if bench.contenders[GATEWAY].pid is not None:
            for key in bench.gateways:
                cells += await asyncio.to_thread(self._memory, bench, key)
        await bench.shell(f"rm -rf {shlex.quote(bench.folder)}.d*")
        return cells

    def _memory(self, bench: Bench, key: str) -> list[Cell]:
        """The growth of a new gateway in one large listing, as JSON and, in another new gateway, as NDJSON."""
        cells = []
        for quantity, headers in (("MiB more", {}), ("MiB more, as NDJSON", NDJSON)):
            bench.say(f"{self.name}: {quantity}, {key}")
            with bench.servers.gateway(key, "new") as gateway, client(gateway.endpoint) as http:
                assert gateway.pid is not None
                http.request("GET", _ls(bench, 10), headers=headers)
                growth = Growth(gateway.pid)
                response = http.request("GET", _ls(bench, MANY), headers=headers, keep=True)
                peak = growth.peak()
            found = len(response.body.splitlines()) if headers else _entries(response)
            wrong = int(response.status != 200 or found != MANY)
            cells.append(Cell(self.name, key, quantity, MANY, (peak,), "", wrong))
        return cells


class Sizes:
    """Downloads of one file of growing size, one at a time."""

    name = "sizes"
    title = "Download of one file, one call at a time"
    rows = "KiB"
    needs: Sequence[str] = ("c", GATEWAY)
    repeats: ClassVar = {1: 50, 16: 50, 256: 20, 4096: 5, 65536: 3}

    async def run(self, bench: Bench) -> list[Cell]:
        cells = []
        keys = bench.measured(self.needs)
        for size, repeats in self.repeats.items():
            bench.say(f"{self.name}: {size} KiB")
            path = f"{bench.folder}.size"
            await bench.shell(f"head -c {size}K /dev/urandom > {shlex.quote(path)}")
            samples: dict[str, list[float]] = {key: [] for key in keys}
            wrong = dict.fromkeys(keys, 0)
            for turn in range(bench.runs(max(1, repeats // 3), repeats)):
                for contender in bench.turn(keys, turn):
                    with client(contender.endpoint) as http:
                        response = await asyncio.to_thread(http.request, "GET", f"/ops/download?path={quote(path)}")
                    samples[contender.key].append(response.seconds * 1000)
                    wrong[contender.key] += response.status != 200 or response.length != size * 1024
            cells += [Cell(self.name, key, "ms", size, tuple(samples[key]), "", wrong[key]) for key in keys]
        return cells


def _folder(bench: Bench, count: int) -> str:
    return f"{bench.folder}.d{count}"


def _ls(bench: Bench, count: int) -> str:
    return f"/ops/ls?path={quote(_folder(bench, count))}"


def _entries(response: Response) -> int:
    return len(json.loads(response.body)["output"]) if response.status == 200 else -1
