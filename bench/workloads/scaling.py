"""How the time of one call grows with what it moves: entries of a directory, bytes of a file."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Sequence
from typing import ClassVar
from urllib.parse import quote

from bench.columns import GATEWAY
from bench.measure.http_client import Answer, client
from bench.measure.resources import Growth
from bench.results import Cell

from .workload import Bench

NDJSON = {"Accept": "application/x-ndjson"}
MANY = 100_000


class Entries:
    """`ls` of directories of growing size, one call at a time; and what the gateway grows by in the largest."""

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
        for count, repeats in self.repeats.items():
            bench.say(f"{self.name}: {count} entries")
            samples: dict[str, list[float]] = {key: [] for key in self.needs}
            wrong = dict.fromkeys(self.needs, 0)
            for turn in range(max(1, repeats // 4) if bench.quick else repeats):
                for contender in bench.turn(self.needs, turn):
                    with client(contender.caller) as asking:
                        answer = await asyncio.to_thread(asking.ask, "GET", _ls(bench, count), keep=True)
                    samples[contender.key].append(answer.seconds * 1000)
                    wrong[contender.key] += _entries(answer) != count
            cells += [Cell(self.name, key, "ms", count, tuple(samples[key]), "", wrong[key]) for key in self.needs]
        if bench.contenders[GATEWAY].pid is not None:
            cells += await asyncio.to_thread(self._memory, bench)
        await bench.shell(f"rm -rf {shlex.quote(bench.folder)}.d*")
        return cells

    def _memory(self, bench: Bench) -> list[Cell]:
        """A gateway that has listed nothing large before: once as JSON, another one as NDJSON."""
        cells = []
        for quantity, headers in (("MiB more", {}), ("MiB more, as NDJSON", NDJSON)):
            bench.say(f"{self.name}: {quantity}")
            with bench.fresh() as gateway, client(gateway.caller) as asking:
                assert gateway.pid is not None
                asking.ask("GET", _ls(bench, 10), headers=headers)
                growth = Growth(gateway.pid)
                answer = asking.ask("GET", _ls(bench, MANY), headers=headers, keep=True)
                peak = growth.peak()
            found = len(answer.body.splitlines()) if headers else _entries(answer)
            wrong = int(answer.status != 200 or found != MANY)
            cells.append(Cell(self.name, GATEWAY, quantity, MANY, (peak,), "", wrong))
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
        for size, repeats in self.repeats.items():
            bench.say(f"{self.name}: {size} KiB")
            path = f"{bench.folder}.size"
            await bench.shell(f"head -c {size}K /dev/urandom > {shlex.quote(path)}")
            samples: dict[str, list[float]] = {key: [] for key in self.needs}
            wrong = dict.fromkeys(self.needs, 0)
            for turn in range(max(1, repeats // 3) if bench.quick else repeats):
                for contender in bench.turn(self.needs, turn):
                    with client(contender.caller) as asking:
                        answer = await asyncio.to_thread(asking.ask, "GET", f"/ops/download?path={quote(path)}")
                    samples[contender.key].append(answer.seconds * 1000)
                    wrong[contender.key] += answer.status != 200 or answer.length != size * 1024
            cells += [Cell(self.name, key, "ms", size, tuple(samples[key]), "", wrong[key]) for key in self.needs]
        return cells


def _folder(bench: Bench, count: int) -> str:
    return f"{bench.folder}.d{count}"


def _ls(bench: Bench, count: int) -> str:
    return f"/ops/ls?path={quote(_folder(bench, count))}"


def _entries(answer: Answer) -> int:
    return len(json.loads(answer.body)["output"]) if answer.status == 200 else -1
