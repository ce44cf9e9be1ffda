"""A simulation of users on four login nodes, in virtual time: one becomes ten times slower.

It asks the gateway's own functions which node a user gets and when users leave one.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bench.columns import GATEWAY
from bench.measure.logs import percentile
from bench.results import Cell
from bench.workloads.workload import Bench
from flamecrest.server.ssh.nodes.choice import NodeView, choose, leaves
from flamecrest.server.ssh.nodes.node import Health, Node, is_slow, slowness
from flamecrest.server.ssh.pool.host import Host

SERVICE, THINK, LOGIN = 0.005, 0.2, 0.1  # seconds, on average
SLOW_FROM, UNTIL, WINDOW = 60.0, 200.0, 10.0  # seconds
HEALTHY, SLOW, STAY = "all nodes healthy", "one node ten times slower", "the same, users stay where they are"
WHOLE = "whole time"


@dataclass
class World:
    """The nodes, the users on each, and the times of all requests. Users never move if not `steered`."""

    seed: int
    users: int = 60
    slow_from: float | None = None
    steered: bool = True
    now: float = 0.0
    moved: int = 0
    times: list[float] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)  # when, for each of the times

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.nodes = [Node(Host(name), 0.0) for name in "abcd"]
        self.flying = [0] * 4
        self.at: list[int] = []
        for _ in range(self.users):
            self.at.append(choose(self.views()))

    def views(self) -> list[NodeView]:
        return [
            NodeView(
                share=node.share(self.now),
                slowness=slowness(node, self.nodes, self.now),
                in_flight=self.flying[index],
                connections=self.at.count(index),
                failures=node.failures,
            )
            for index, node in enumerate(self.nodes)
        ]

    def seconds(self, index: int) -> float:
        slow = index == 0 and self.slow_from is not None and self.now >= self.slow_from
        return SERVICE * (10 if slow else 1) * self.random.lognormvariate(0, 0.5) * (1 + self.flying[index] / 20)

    def tick(self) -> None:
        """What the pool does once a second. One user has been away, and comes back."""
        for node in self.nodes:
            node.tick(self.now)
            if is_slow(node, self.nodes, self.now):
                node.slow("slow", self.now)
        for index, node in enumerate(self.nodes):
            if leaves(self.views(), index):
                there = [user for user, at in enumerate(self.at) if at == index]
                for user in there if node.health is Health.SLOW else there[:1]:
                    self.at[user] = choose(self.views())
                    self.moved += 1
        self.at[self.random.randrange(self.users)] = choose(self.views())

    def run(self, until: float) -> None:
        """Every user asks, waits for the answer, thinks, and asks again."""
        events: list[tuple[float, int, int, float]] = []  # time, user or -1, node of the answer or -1, asked at
        for user in range(self.users):
            heapq.heappush(events, (self.random.uniform(0, THINK), user, -1, 0.0))
        heapq.heappush(events, (1.0, -1, -1, 0.0))
        while events and events[0][0] < until:
            self.now, user, index, asked = heapq.heappop(events)
            if user < 0:
                if self.steered:
                    self.tick()
                heapq.heappush(events, (self.now + 1.0, -1, -1, 0.0))
            elif index < 0:
                node = self.at[user]
                heapq.heappush(events, (self.now + self.seconds(node), user, node, self.now))
                self.flying[node] += 1
            else:
                self.flying[index] -= 1
                self.times.append(self.now - asked)
                self.asked.append(asked)
                self.nodes[index].took(self.now - asked, self.now)
                heapq.heappush(events, (self.now + self.random.expovariate(1 / THINK), user, -1, 0.0))

    def percentile(self, part: float) -> float:
        return sorted(self.times)[int(part * len(self.times))]

    def over_time(self, part: float) -> Iterator[tuple[int, float]]:
        """The percentile in each window that is complete: its end in seconds, and seconds."""
        windows: dict[int, list[float]] = {}
        for asked, took in zip(self.asked, self.times, strict=True):
            windows.setdefault(int(asked // WINDOW), []).append(took)
        for window, times in sorted(windows.items()):
            yield round((window + 1) * WINDOW), percentile(times, part)


class LoginNodes:
    """The 99th percentile of latency over time, with and without a slow node, and if users did not move."""

    name = "login-nodes"
    title = "Simulation: 60 users on four login nodes; one becomes ten times slower after a minute"
    rows = "seconds"
    needs: Sequence[str] = ()

    async def run(self, bench: Bench) -> list[Cell]:
        bench.say(f"{self.name}: simulates")
        return await asyncio.to_thread(lambda: list(self.cells()))

    def cells(self) -> Iterator[Cell]:
        """Deterministic: the same numbers in every run."""
        whole = {}
        for name, slow_from, steered in ((HEALTHY, None, True), (SLOW, SLOW_FROM, True), (STAY, SLOW_FROM, False)):
            world = World(0, slow_from=slow_from, steered=steered)
            world.run(UNTIL)
            whole[name] = 1000 * world.percentile(0.99)
            for end, value in world.over_time(0.99):
                yield Cell(self.name, name, "ms p99", end, (1000 * value,))
            yield Cell(self.name, name, "ms p99", WHOLE, (whole[name],))
        yield Cell(self.name, GATEWAY, "p99 : p99 of healthy nodes", WHOLE, (whole[SLOW] / whole[HEALTHY],))
