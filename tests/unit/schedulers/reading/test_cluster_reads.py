"""Nodes and partitions for many users: asked once for all where nothing is private, and only of those who may see."""

from __future__ import annotations

import asyncio

import pytest

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Denied, GatewayError, Unavailable
from flamecrest.server.schedulers.counters import SchedulerCounters
from flamecrest.server.schedulers.reading.cluster_reads import ClusterReads, Kind

pytestmark = pytest.mark.anyio


class Site:
    """A cluster with nodes; `private` is its configuration."""

    def __init__(self, *private: Kind) -> None:
        self.private: frozenset[Kind] | GatewayError = frozenset(private)
        self.refused: set[str] = set()
        self.asked: list[str] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.counters = SchedulerCounters()
        self.reads = ClusterReads(self.counters, life=60.0)

    async def nodes(self, user: str, kind: Kind = Kind.NODES, *, personal: bool = False) -> str:
        async def question(_: Deadline) -> str:
            self.asked.append(user)
            await self.hold.wait()
            if user in self.refused:
                raise Denied(f"{user} is refused")
            return f"nodes that {user} sees"

        async def privacy(_: Deadline) -> frozenset[Kind]:
            if isinstance(self.private, GatewayError):
                raise self.private
            return self.private

        found = await self.reads.read(user, kind, "key", question, None if personal else privacy, Deadline.after(30))
        return found.value


async def test_nodes_are_asked_once_for_all():
    site = Site()
    for user in ("alice", "bob", "alice", "bob"):
        await site.nodes(user)
    assert site.asked == ["alice", "bob"]  # each user has to be let in by the cluster once
    assert len({await site.nodes(user) for user in ("alice", "bob")}) == 1
    assert site.counters.asked == {"nodes": 2, "privacy": 1}


async def test_a_user_whom_the_cluster_refuses_gets_no_answer_to_others():
    site = Site()
    site.refused.add("mallory")
    await site.nodes("alice")
    for _ in range(2):
        with pytest.raises(Denied, match="mallory is refused"):
            await site.nodes("mallory")
    assert await site.nodes("alice") == "nodes that alice sees"


@pytest.mark.parametrize("private", [frozenset({Kind.NODES}), Unavailable("down")])
async def test_what_is_private_or_unknown_is_asked_by_each_user(private):
    site = Site()
    site.private = private
    for user in ("alice", "bob", "alice", "bob"):
        assert await site.nodes(user) == f"nodes that {user} sees"
    assert site.asked == ["alice", "bob"]


async def test_what_depends_on_the_user_is_never_shared():
    site = Site()
    for user in ("alice", "bob"):
        assert await site.nodes(user) == f"nodes that {user} sees"
        assert await site.nodes(user, Kind.PARTITIONS, personal=True) == f"nodes that {user} sees"
        assert await site.nodes(user, Kind.PARTITIONS, personal=True) == f"nodes that {user} sees"
    assert site.asked == ["alice", "alice", "bob", "bob"]


async def test_the_failure_of_one_user_is_not_that_of_another():
    """Both are let in; then the account of the one who asks is closed, while the other waits for the answer."""
    site = Site()
    site.reads = ClusterReads(site.counters, life=0.0)
    for user in ("mallory", "bob"):
        await site.nodes(user, Kind.RESERVATIONS)
        await site.nodes(user, Kind.RESERVATIONS)
    site.asked.clear()
    site.refused.add("mallory")
    site.hold.clear()
    asking = [asyncio.create_task(site.nodes(user)) for user in ("mallory", "bob")]
    await asyncio.sleep(0.01)
    assert site.asked == ["mallory"]
    site.hold.set()
    refused, answered = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(refused, Denied)
    assert answered == "nodes that bob sees"
