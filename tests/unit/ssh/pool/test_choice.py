"""The choice among login nodes, and a node's way down and back: rules without I/O."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.ssh.nodes.choice import SLOW, NodeView, choose, leaves
from flamecrest.server.ssh.nodes.node import SLOW_START, WITNESSES, Health, Node, is_slow
from flamecrest.server.ssh.pool.host import Host


def state(node: Node) -> Health:
    return node.health


views = st.builds(
    NodeView,
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    slowness=st.floats(1, 50),
    in_flight=st.integers(0, 100),
    connections=st.integers(0, 100),
    weight=st.sampled_from([0.5, 1.0, 2.0]),
    near=st.booleans(),
    warm=st.booleans(),
    failures=st.integers(0, 5),
)


@given(st.lists(views, min_size=1, max_size=6))
def test_a_node_that_is_down_or_slow_is_the_last_choice(nodes):
    chosen = nodes[choose(nodes)]
    assert chosen.share > 0 or all(node.share == 0 for node in nodes)
    if chosen.share > 0:
        assert chosen.slowness < SLOW or all(node.slowness >= SLOW for node in nodes if node.share > 0)


@given(st.lists(views, min_size=1, max_size=6), st.data())
def test_nobody_moves_from_a_node_to_a_worse_one(nodes, data):
    current = data.draw(st.integers(0, len(nodes) - 1))
    if leaves(nodes, current):
        best = nodes[choose(nodes)]
        assert (best.share == 0, best.slowness >= SLOW) <= (nodes[current].share == 0, nodes[current].slowness >= SLOW)
        assert choose([view._replace(warm=False) for view in nodes]) != current or nodes[current].warm


@given(st.integers(2, 5), st.lists(st.floats(0.5, 4), min_size=5, max_size=5))
def test_work_is_spread_by_weight(count, weights):
    """Requests that stay are spread so that no node has more than its share, give or take one request."""
    load = [0] * count
    for _ in range(200):
        load[choose([NodeView(in_flight=n, weight=w) for n, w in zip(load, weights, strict=False)])] += 1
    total = sum(weights[:count])
    for number, weight in zip(load, weights, strict=False):
        assert abs(number - 200 * weight / total) <= 2 + count * weight


def test_a_warm_connection_decides_between_equals_and_loses_to_a_free_node():
    assert choose([NodeView(), NodeView(warm=True)]) == 1
    assert choose([NodeView(), NodeView(warm=True, in_flight=5)]) == 0


def test_a_node_of_another_zone_is_used_when_those_of_this_one_are_busy_or_down():
    assert choose([NodeView(near=False), NodeView(in_flight=2)]) == 1
    assert choose([NodeView(near=False), NodeView(in_flight=9)]) == 0
    assert choose([NodeView(near=False), NodeView(share=0.0)]) == 0


def test_a_node_comes_back_gently_and_its_pauses_grow():
    node, other = Node(Host("a"), 0.0), Node(Host("b"), 0.0)
    for _ in range(5):
        node.took(0.1, 1.0)
        other.took(0.001, 1.0)
    assert is_slow(node, [node, other], 1.0)
    assert not is_slow(other, [node, other], 1.0)
    node.slow("slow", 1.0)
    node.tick(5.9)
    assert node.share(5.9) == 0.0
    node.tick(6.0)
    assert state(node) is Health.RETURNING
    assert node.share(6.0) < 0.2 < node.share(6.0 + SLOW_START / 2) < 0.8
    assert not is_slow(node, [node, other], 6.0), "it is measured anew"
    node.slow("slow", 7.0)
    node.tick(16.9)
    assert state(node) is Health.SLOW, "the second pause is longer"
    node.tick(17.0)
    node.tick(17.0 + SLOW_START)
    assert state(node) is Health.UP


def test_a_node_whose_connections_got_no_answer_for_a_moment_is_back_at_once():
    node = Node(Host("a"), 0.0)
    assert node.down("no answer", 10.0, silent=True)
    assert not node.down("no answer", 10.1, silent=True)
    assert node.share(10.1) == 0.0
    node.back(10.5)
    assert state(node) is Health.UP
    node.down("connection refused", 20.0)
    assert not node.may_be_tried(21.0)
    assert node.may_be_tried(22.0)
    node.back(22.0)
    assert state(node) is Health.RETURNING


def test_one_slow_request_makes_no_node_slow():
    node, other = Node(Host("a"), 0.0), Node(Host("b"), 0.0)
    for _ in range(20):
        node.took(0.001, 1.0)
        other.took(0.001, 1.0)
    node.took(60.0, 1.0)
    assert not is_slow(node, [node, other], 1.0)


def test_a_nodes_latency_is_that_of_the_user_in_the_middle():
    node = Node(Host("a"), 0.0)
    for number in range(2 * WITNESSES):
        for _ in range(5 + 50 * (number % 3 == 0)):
            node.took(9.0 if number % 3 == 0 else 0.001, 1.0, f"user{number}")
    assert node.latency(1.0) == pytest.approx(0.001)
    assert len(node.witnesses(1.0)) == WITNESSES
    assert not node.witnesses(60.0)
