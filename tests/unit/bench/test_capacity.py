"""The simulation of a centre's busiest minute."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench.capacity.__main__ import ACTIVE, KINDS, MEASURED, SIZES, table
from bench.capacity.simulation import MINUTE, Kind, Need, need, serve

from tests.live.process import ROOT

STEADY = Kind(1.0, burst=1, gap=0.0, pause=1.0, operations={"stat": 1})


def simulated(users: int, **changed) -> Need:
    return need(users, KINDS, replace(MEASURED, **changed), active=ACTIVE)


def test_table_of_the_operators_page_is_what_the_simulation_prints() -> None:
    printed = table([simulated(users) for users in SIZES])
    assert printed in (ROOT / "docs" / "operators" / "capacity.md").read_text("utf-8"), printed


def test_requests_are_served_one_after_another_by_one_core() -> None:
    requests = [(MINUTE + 1.0, 1, 0.5), (MINUTE + 1.1, 2, 0.5), (MINUTE + 5.0, 1, 0.5)]
    served = serve(requests, replace(MEASURED, login=0.1))
    assert served.waits == pytest.approx([0.0, 0.5, 0.0])
    assert served.busy == pytest.approx((3 * 0.5 + 2 * 0.1) / MINUTE)
    assert (served.ssh, served.logins) == (2, 2)


def test_an_unused_connection_is_closed_and_opened_again() -> None:
    requests = [(0.0, 1, 0.0), (MINUTE - 1, 2, 0.0), (MINUTE + 1, 2, 0.0), (2 * MINUTE - 1, 1, 0.0)]
    served = serve(requests, MEASURED)
    assert (served.ssh, served.logins) == (2, 1)


def test_rate_is_that_of_the_users() -> None:
    found = need(10_000, [STEADY], MEASURED, active=0.1)
    assert found.active == 1000
    assert found.rate == pytest.approx(1000, rel=0.05)
    assert found.busy * found.replicas == pytest.approx(1000 * MEASURED.request["stat"], rel=0.1)


def test_a_user_whose_own_requests_wait_for_each_other_needs_no_second_replica() -> None:
    burst = Kind(1.0, burst=20, gap=0.0, pause=1.0, operations={"submit": 1})
    found = need(10, [burst], replace(MEASURED, request={"submit": 0.02}), active=0.1)
    assert (found.active, found.replicas, found.limit) == (1, 1, "wait")


def test_what_is_full_first_decides() -> None:
    costs = {name: 5 * cost for name, cost in MEASURED.request.items()}
    slow = simulated(3_000, request=costs)
    narrow = simulated(3_000, connections=50)
    assert (slow.limit in {"processor", "wait"}, slow.replicas > 1) == (True, True)
    assert (narrow.limit, narrow.replicas >= 6) == ("HTTP connections", True)
