"""Users on four login nodes, in virtual time: one becomes ten times slower."""

from __future__ import annotations

import pytest
from bench.workloads.crowds.login_nodes import World

from flamecrest.server.ssh.nodes.choice import choose
from flamecrest.server.ssh.nodes.node import Health


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
