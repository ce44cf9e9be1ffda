"""Three replicas behind HAProxy: a user's requests are steered to one of them, beside requests in turn."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

from tests.live.proxies.replicas import STORE, Replicas, behind, haproxy

from bench.columns import GATEWAY
from bench.measure import load
from bench.measure.counters import read_counters
from bench.measure.load import Endpoint, Request
from bench.results import Cell
from bench.workloads.workload import Bench

USERS = 12
CONNECTIONS = 48
STEERED, UNSTEERED = "steered", "in turn"

Command = Callable[..., list[str]]


class Steering:
    """stat of several users: connections to the login node, rate and latency."""

    name = "steering"
    title = f"stat of {USERS} users over {CONNECTIONS} connections to HAProxy in front of three replicas"
    rows = "requests go to a replica"
    needs: Sequence[str] = ()

    async def run(self, bench: Bench) -> list[Cell]:
        if not load.wrk_installed() or shutil.which("haproxy") is None or shutil.which(STORE) is None:
            bench.say(f"{self.name}: skipped, it needs wrk, haproxy and redis-server")
            return []
        found: dict[tuple[str, str], list[float]] = {}
        wrong = 0
        for turn in range(bench.runs(1, 3)):
            for row, command in ((STEERED, haproxy), (UNSTEERED, in_turn)):
                folder = bench.servers.folder / f"{self.name}-{turn}-{row.replace(' ', '-')}"
                folder.mkdir()
                values, errors = await self._measure(bench, folder, command)
                wrong += errors
                for quantity, value in values.items():
                    found.setdefault((quantity, row), []).append(value)
        return [
            Cell(self.name, GATEWAY, quantity, row, tuple(samples), "", wrong)
            for (quantity, row), samples in found.items()
        ]

    @staticmethod
    async def _measure(bench: Bench, folder: Path, command: Command) -> tuple[dict[str, float], int]:
        """The quantities of one run, and the number of wrong answers."""
        site, issuer = bench.servers.site, bench.servers.issuer
        users = [user for user in site.users if user.startswith("user")][:USERS]
        with ExitStack() as stack:
            replicas = await asyncio.to_thread(Replicas, site, issuer, folder, stack, rate=100_000)
            url = await asyncio.to_thread(stack.enter_context, behind(command, replicas, folder, issuer))
            endpoint = Endpoint(f"{url}/filesystem/{site.system}", issuer.mint(users[0]))
            requests = [Request(f"/ops/stat?path={quote(site.home(user))}", token=issuer.mint(user)) for user in users]
            await load.send(endpoint, [Request(one.target, token=one.token) for one in requests])
            await load.wrk(endpoint, requests, CONNECTIONS, 2)  # logs in wherever requests come
            burst = await load.wrk(endpoint, requests, CONNECTIONS, bench.runs(5, 15))
            counters = [
                await read_counters(pid, replicas.log(number)) or {} for number, pid in enumerate(replicas.pids)
            ]
        opened = sum(one.get("opened", 0) for one in counters)
        return {
            "SSH connections": float(opened),
            "requests/s": burst.rate,
            "ms p50": burst.p50,
            "ms p99": burst.p99,
        }, burst.wrong


def in_turn(folder: Path, *more: object) -> list[str]:
    """The command line of HAProxy with the example, whose replicas get the requests in turn."""
    argv = haproxy(folder, *more)  # type: ignore[arg-type]
    file = Path(argv[-1])
    before = file.read_text()
    file.write_text(before.replace("balance hash var(txn.steer)", "balance roundrobin"))
    assert file.read_text() != before
    return argv
