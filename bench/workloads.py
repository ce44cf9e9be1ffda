"""What is measured. To add a workload: write a class with these attributes and put it into WORKLOADS.

Contenders take turns within each run, in another order each time, so that what disturbs the machine
disturbs all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from . import load
from .memory import Memory
from .place import SIZE
from .results import Cell
from .targets import GATEWAY

if TYPE_CHECKING:
    from .contenders import Contender, Crowd

PATIENCE = 1800  # seconds that one burst of downloads may take


@dataclass(frozen=True, slots=True)
class Bench:
    """What a workload is given: who is measured, on which files, and how thoroughly."""

    contenders: Mapping[str, Contender]
    files: Sequence[str]
    quick: bool
    crowd: Callable[[], AbstractContextManager[Crowd]]  # starts a gateway on a site with many users
    say: Callable[[str], None]  # progress, for people

    def turn(self, keys: Sequence[str], number: int) -> list[Contender]:
        """The contenders in the order of that turn."""
        start = number % len(keys)
        return [self.contenders[key] for key in (*keys[start:], *keys[:start])]


class Workload(Protocol):
    """One kind of load. `needs` names the contenders that it is run on."""

    name: str
    title: str
    rows: str  # what the parameter of its cells counts
    needs: Sequence[str]

    async def run(self, bench: Bench) -> list[Cell]:
        """Measure."""
        ...


class Downloads:
    """The published workload: so many files of 1 KB, each downloaded by a request of its own."""

    name = "downloads"
    title = f"N files of 1 KB, one request each by httpx.AsyncClient, {load.IN_FLIGHT} at a time"
    rows = "files"
    needs: Sequence[str] = ("a", "b", "c", GATEWAY, "0")
    counts = (1, 10, 100, 1000)

    async def run(self, bench: Bench) -> list[Cell]:
        cells = []
        for key in self.needs:  # connections, keys and code are warm, as on a server that runs
            await load.download_all(bench.contenders[key].caller, bench.files[:2], SIZE)
        for count in self.counts:
            cells += await self._row(bench, count)
        return cells

    async def _row(self, bench: Bench, count: int) -> list[Cell]:
        samples: dict[str, list[float]] = {key: [] for key in self.needs}
        wrong = dict.fromkeys(self.needs, 0)
        slow = bench.quick and count > 100  # (a) takes minutes for these: from a tenth of them
        for turn in range(2 if bench.quick else 5):
            for contender in bench.turn(self.needs, turn):
                key = contender.key
                if key == "a" and slow and turn > 0:
                    continue
                factor = 10 if key == "a" and slow else 1
                bench.say(f"{self.name}: {count} files, run {turn + 1}, {contender.title}")
                async with asyncio.timeout(PATIENCE):
                    seconds, bad = await load.download_all(contender.caller, bench.files[: count // factor], SIZE)
                samples[key].append(seconds * factor)
                wrong[key] += bad
        note = f"extrapolated from one run of {count // 10} files"
        return [
            Cell(self.name, key, "seconds", count, tuple(samples[key]), note if key == "a" and slow else "", wrong[key])
            for key in self.needs
        ]


class Reads:
    """One operation as often as possible over 64 connections, by wrk."""

    rows = "connections"
    needs: Sequence[str] = ("c", GATEWAY, "0")
    connections = 64

    def __init__(self, operation: str, title: str) -> None:
        self.name = operation
        self.title = f"{title}, {self.connections} connections, by wrk"

    async def run(self, bench: Bench) -> list[Cell]:
        if not load.have_wrk():
            bench.say(f"{self.name}: left out, wrk is missing (apt-get install wrk)")
            return []
        requests = [f"/ops/{self.name}?path={quote(path)}" for path in bench.files]
        bursts: dict[str, list[load.Burst]] = {key: [] for key in self.needs}
        rounds, seconds = (2, 2) if bench.quick else (5, 5)
        for contender in bench.turn(self.needs, 0):
            await load.wrk(contender.caller, requests, self.connections, 1)
        for turn in range(rounds):
            for contender in bench.turn(self.needs, turn):
                bench.say(f"{self.name}: round {turn + 1}, {contender.title}")
                bursts[contender.key].append(await load.wrk(contender.caller, requests, self.connections, seconds))
        return [cell for key in self.needs for cell in self._cells(key, bursts[key])]

    def _cells(self, key: str, bursts: Sequence[load.Burst]) -> list[Cell]:
        wrong = sum(burst.wrong for burst in bursts)
        columns = {
            "requests/s": [burst.rate for burst in bursts],
            "ms p50": [burst.p50 for burst in bursts],
            "ms p99": [burst.p99 for burst in bursts],
        }
        return [
            Cell(self.name, key, quantity, self.connections, tuple(samples), "", wrong)
            for quantity, samples in columns.items()
        ]


WORKLOADS: Sequence[Workload] = (
    Downloads(),
    Reads("stat", "Metadata of a file"),
    Reads("download", "Download of 1 KB"),
    Memory(),
)
