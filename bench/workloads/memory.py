"""How much memory the gateway takes: idle, and with a pooled connection for each of many users."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from bench.columns import GATEWAY
from bench.measure.load import Caller
from bench.measure.resources import resident
from bench.results import Cell

if TYPE_CHECKING:
    from .workload import Bench

USERS = 100
AT_ONCE = 8  # users that come in at a time: logins are what sshd is slowest at


def connected(pid: int, port: int) -> int:
    """How many TCP connections to that port a process holds."""
    established = "01"
    inodes = set()
    for line in Path(f"/proc/{pid}/net/tcp").read_text("ascii").splitlines()[1:]:
        fields = line.split()
        if fields[3] == established and int(fields[2].partition(":")[2], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    return sum(str(link.readlink()) in inodes for link in Path(f"/proc/{pid}/fd").iterdir())


class Memory:
    """A gateway of its own, before and after that many users have read something."""

    name = "memory"
    title = "Resident memory of the gateway, by users with a pooled connection"
    rows = "users"
    needs: Sequence[str] = ()

    async def run(self, bench: Bench) -> list[Cell]:
        cells = []
        with bench.crowd(USERS) as crowd:
            bench.say(f"{self.name}: idle, then {len(crowd.callers)} users")
            idle = resident(crowd.pid)
            cells.append(Cell(self.name, GATEWAY, "MiB", 0, (idle,)))
            wrong = done = 0
            for users in (1, USERS):
                wrong += await visit(crowd.callers[done:users], crowd.homes[done:users])
                wrong += max(0, users - connected(crowd.pid, crowd.port))  # who has no connection was not measured
                done = users
                cells.append(Cell(self.name, GATEWAY, "MiB", users, (resident(crowd.pid),), "", wrong))
        more = cells[-1].mean - idle
        return [*cells, Cell(self.name, GATEWAY, "MiB more", USERS, (more,), "", wrong)]


async def visit(callers: Sequence[Caller], homes: Sequence[str]) -> int:
    """Have every user ask for the metadata of their home, a few times; how many answers were wrong."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(caller: Caller, home: str) -> int:
        async with turn, caller.client() as client:
            answers = [await client.get("/ops/stat", params={"path": home}) for _ in range(3)]
        return sum(answer.status_code != httpx.codes.OK for answer in answers)

    return sum(await asyncio.gather(*map(one, callers, homes)))
