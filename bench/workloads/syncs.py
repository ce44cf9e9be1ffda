"""A synchronization of two folders that are alike: what it takes to find out that nothing has to be done."""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Sequence

import httpx

from bench.columns import GATEWAY
from bench.results import Cell

from .workload import Bench

FILES, IN_A_FOLDER = 10_000, 100
LOOK_EVERY = 0.02  # seconds
PATIENCE = 120.0  # seconds


class UnchangedSync:
    """The seconds from the request until the transfer has ended, and those of the plan alone (`dryRun`)."""

    name = "sync"
    title = f"Synchronization of {FILES} unchanged files in {FILES // IN_A_FOLDER} folders"
    rows = "files"
    needs: Sequence[str] = (GATEWAY,)

    async def run(self, bench: Bench) -> list[Cell]:
        source, target = f"{bench.folder}.sync", f"{bench.folder}.sync-copy"
        await bench.shell(
            f"mkdir {shlex.quote(source)} && cd {shlex.quote(source)} && "
            f"seq {FILES} | split -l {IN_A_FOLDER} -d -a 3 --filter='mkdir $FILE; cd $FILE; xargs touch' - d && "
            f"cp -a {shlex.quote(source)} {shlex.quote(target)}"
        )
        cells: list[Cell] = []
        wanted = {"path": source, "targetPath": target}
        for key in bench.measured(self.needs):
            taken: dict[str, list[float]] = {"seconds": [], "seconds, plan": []}
            wrong = 0
            async with bench.contenders[key].endpoint.client() as client:
                for _ in range(1 + bench.runs(2, 5)):
                    bench.say(f"{self.name}: {bench.contenders[key].title}")
                    for quantity, ask in (("seconds, plan", planned), ("seconds", synchronized)):
                        since = time.perf_counter()
                        wrong += not await ask(client, wanted)
                        taken[quantity].append(time.perf_counter() - since)
            cells += [Cell(self.name, key, name, FILES, tuple(found[1:]), "", wrong) for name, found in taken.items()]
        return cells


async def planned(client: httpx.AsyncClient, wanted: dict[str, str]) -> bool:
    """Get the plan; whether it is to do nothing."""
    response = await client.post("/transfer/sync", json={**wanted, "dryRun": True})
    return response.is_success and response.json()["plan"]["bytes"] == 0 and not response.json()["plan"]["steps"]


async def synchronized(client: httpx.AsyncClient, wanted: dict[str, str]) -> bool:
    """Synchronize; whether that has succeeded."""
    response = await client.post("/transfer/sync", json=wanted)
    if not response.is_success:
        return False
    transfer, until = response.json()["transferJob"]["jobId"], time.monotonic() + PATIENCE
    while time.monotonic() < until:
        state = (await client.get(f"/transfer/{transfer}")).json()["transfer"]["state"]
        if state not in {"PENDING", "RUNNING"}:
            return str(state) == "COMPLETED"
        await asyncio.sleep(LOOK_EVERY)
    return False
