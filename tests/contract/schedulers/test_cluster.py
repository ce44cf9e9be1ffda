"""Contract of the Scheduler port: nodes, partitions, reservations, accounts."""

from __future__ import annotations

import pytest

from flamecrest.wire.status import NodeState
from tests.contract.capabilities import needs
from tests.contract.gateways import soon

from .conftest import Place

pytestmark = pytest.mark.anyio


@needs("cluster")
async def test_nodes(place: Place):
    nodes = await place.scheduler.nodes(soon())
    names = [node.name for node in nodes]
    assert names
    assert names == sorted(set(names))
    assert all(node.cpus > 0 for node in nodes)
    assert {state for node in nodes for state in node.states} <= {state.value for state in NodeState}


@needs("cluster")
async def test_partitions(place: Place):
    shown = await place.scheduler.partitions(soon(), hidden=False)
    every = await place.scheduler.partitions(soon(), hidden=True)
    assert shown
    assert {one.name for one in shown} <= {one.name for one in every}
    assert {"UP"} <= {one.state for one in every}


@needs("hidden_partitions")
async def test_hidden_partitions_are_listed_only_on_request(place: Place):
    shown = await place.scheduler.partitions(soon(), hidden=False)
    every = await place.scheduler.partitions(soon(), hidden=True)
    assert {one.name for one in shown} < {one.name for one in every}


@needs("reservations")
async def test_reservations(place: Place):
    found = await place.scheduler.reservations(soon())
    assert found
    assert all(one.name and one.nodes and one.start < one.end for one in found)


@needs("accounts")
async def test_accounts(place: Place):
    accounts = await place.scheduler.accounts(soon())
    assert accounts
    assert len([one for one in accounts if one.default]) == 1
    assert len({one.name for one in accounts}) == len(accounts)


async def test_ping(place: Place):
    await place.scheduler.ping(soon())
