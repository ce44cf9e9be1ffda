"""The published workload: N small files, each downloaded by a request of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bench.columns import GATEWAY
from bench.contenders.sites import SIZE
from bench.measure import load
from bench.results import Cell

from .workload import Bench

TIMEOUT = 1800  # seconds for one burst of downloads


class HttpxDownloads:
    """N files of 1 KB, each downloaded by a request of its own."""

    name = "downloads"
    title = f"N files of 1 KB, one request each by httpx.AsyncClient, {load.IN_FLIGHT} at a time"
    rows = "files"
    needs: Sequence[str] = ("a", "b", "c", GATEWAY, "0")
    counts = (1, 10, 100, 1000)

    async def run(self, bench: Bench) -> list[Cell]:
        cells = []
        for contender in bench.turn(bench.measured(self.needs), 0):  # open connections, load keys and code
            await load.download_all(contender.endpoint, bench.files[:2], SIZE)
        for count in self.counts:
            cells += await self._row(bench, count)
        return cells

    async def _row(self, bench: Bench, count: int) -> list[Cell]:
        keys = bench.measured(self.needs)
        samples: dict[str, list[float]] = {key: [] for key in keys}
        wrong = dict.fromkeys(keys, 0)
        slow = bench.quick and count > 100  # (a) takes minutes for so many: extrapolate from a tenth
        for turn in range(bench.runs(2, 5)):
            for contender in bench.turn(keys, turn):
                key = contender.key
                if key == "a" and slow and turn > 0:
                    continue
                factor = 10 if key == "a" and slow else 1
                bench.say(f"{self.name}: {count} files, run {turn + 1}, {contender.title}")
                async with asyncio.timeout(TIMEOUT):
                    seconds, bad = await load.download_all(contender.endpoint, bench.files[: count // factor], SIZE)
                samples[key].append(seconds * factor)
                wrong[key] += bad
        note = f"extrapolated from one run of {count // 10} files"
        return [
            Cell(self.name, key, "seconds", count, tuple(samples[key]), note if key == "a" and slow else "", wrong[key])
            for key in keys
        ]
