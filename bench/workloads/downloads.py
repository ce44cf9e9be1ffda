"""The published workload: so many small files, each downloaded by a request of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bench.columns import GATEWAY
from bench.contenders.sites import SIZE
from bench.measure import load
from bench.results import Cell

from .workload import Bench

PATIENCE = 1800  # seconds that one burst of downloads may take


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
