"""Resident memory of the gateway: idle, and with a pooled connection for each of many users."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import httpx

from bench.columns import TITLES
from bench.contenders.servers import MultiUserGateway
from bench.measure.load import Endpoint
from bench.measure.resources import resident
from bench.results import Cell

from .workload import Bench

USERS = 100
AT_ONCE = 8  # users that log in at a time; sshd is slow at logins


def connected(pid: int, port: int) -> int:
    """The number of established TCP connections from a process to a port."""
    established = "01"
    inodes = set()
    for line in Path(f"/proc/{pid}/net/tcp").read_text("ascii").splitlines()[1:]:
        fields = line.split()
        if fields[3] == established and int(fields[2].partition(":")[2], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    return sum(str(link.readlink()) in inodes for link in Path(f"/proc/{pid}/fd").iterdir())


class Memory:
    """A new gateway, before and after many users have sent requests."""

    name = "memory"
    title = "Resident memory of the gateway, by users with a pooled connection"
    rows = "users"
    needs: Sequence[str] = ()

    async def run(self, bench: Bench) -> list[Cell]:
        cells = []
        for key in bench.gateways:
            with bench.servers.multi_user_gateway(key, USERS) as gateway:
                bench.say(f"{self.name}: idle, then {USERS} users, {TITLES[key]}")
                cells += await self._measure(key, gateway)
        return cells

    async def _measure(self, key: str, gateway: MultiUserGateway) -> list[Cell]:
        idle = resident(gateway.pid)
        cells = [Cell(self.name, key, "MiB", 0, (idle,))]
        wrong = done = 0
        for users in (1, USERS):
            wrong += await visit(gateway.endpoints[done:users], gateway.homes[done:users])
            wrong += max(0, users - connected(gateway.pid, gateway.ssh_port))  # users without a pooled connection
            done = users
            cells.append(Cell(self.name, key, "MiB", users, (resident(gateway.pid),), "", wrong))
        return [*cells, Cell(self.name, key, "MiB more", USERS, (cells[-1].mean - idle,), "", wrong)]


async def visit(endpoints: Sequence[Endpoint], homes: Sequence[str]) -> int:
    """Let every user send three stat requests for the own home directory; return the number of wrong responses."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(endpoint: Endpoint, home: str) -> int:
        async with limit, endpoint.client() as client:
            responses = [await client.get("/ops/stat", params={"path": home}) for _ in range(3)]
        return sum(response.status_code != httpx.codes.OK for response in responses)

    return sum(await asyncio.gather(*map(one, endpoints, homes)))
