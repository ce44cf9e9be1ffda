"""A simulation of users on four login nodes, in virtual time: one becomes ten times slower."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

import pytest

from flamecrest.server.ssh.nodes.choice import NodeView, choose, leaves
from flamecrest.server.ssh.nodes.node import Health, Node, is_slow, slowness
from flamecrest.server.ssh.pool.host import Host

SERVICE, THINK, LOGIN = 0.005, 0.2, 0.1  # seconds, on average


@dataclass
class World:
    """The nodes, the users on each, and the times of all requests."""

    seed: int
    users: int = 60
    slow_from: float | None = None
    now: float = 0.0
    moved: int = 0
    times: list[float] = field(default_factory=list)

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
                self.tick()
                heapq.heappush(events, (self.now + 1.0, -1, -1, 0.0))
            elif index < 0:
                node = self.at[user]
                heapq.heappush(events, (self.now + self.seconds(node), user, node, self.now))
                self.flying[node] += 1
            else:
                self.flying[index] -= 1
                self.times.append(self.now - asked)
                self.nodes[index].took(self.now - asked, self.now)
                heapq.heappush(events, (self.now + self.random.expovariate(1 / THINK), user, -1, 0.0))

    def percentile(self, part: float) -> float:
        return sorted(self.times)[int(part * len(self.times))]


@pytest.mark.parametrize("seed", range(3))
def test_a_node_that_is_ten_times_slower_costs_little(seed):
    """With it, 99 of 100 requests take at most 1.5 times as long as with all nodes healthy."""
    healthy, slow = World(seed), World(seed, slow_from=30.0)
    healthy.run(200)
    slow.run(200)
    assert not healthy.moved, "no node is slow by chance"
    assert slow.percentile(0.99) <= 1.5 * healthy.percentile(0.99)
    assert slow.moved >= slow.users // 8, "its users have moved"


def test_a_node_that_has_recovered_gets_its_share_again():
    world = World(0, slow_from=10.0)
    world.run(40)
    assert world.nodes[0].failures
    world.slow_from = None
    world.at = [at or 1 for at in world.at]
    world.times.clear()
    world.now += 100
    for _ in range(40):
        world.now += 1
        world.nodes[0].tick(world.now)
    assert world.nodes[0].health is Health.UP
    assert choose(world.views()) == 0
