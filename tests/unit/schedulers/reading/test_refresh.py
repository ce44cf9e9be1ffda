"""Answers are asked for anew before they end: who polls waits for no question, and nobody else is asked for."""

from __future__ import annotations

import asyncio

import pytest

from flamecrest.server.errors import Unavailable

from .test_joint_queues import USERS, poll
from .toy_controller import Controller, Site
from .virtual_time import now, run


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("every", [0.05, 0.3, 0.69])
def test_who_polls_waits_once(every: float, joint: bool):
    async def main() -> None:
        site = Site(Controller(), joint=joint)
        waited = await poll(site, "alice", every=every, until=100)
        assert waited[0] == pytest.approx(0.05, abs=1e-6)
        assert max(waited[1:]) == 0
        assert site.controller.own("alice") <= 100 / 0.75 + 2

    run(main())


def test_a_thousand_pollers_of_twenty_users_are_one_question():
    async def main() -> None:
        site = Site(Controller())
        await site.let_in(*USERS)
        polling = [poll(site, user, every=0.5, until=65, start=number / 50) for number in range(50) for user in USERS]
        waited = await asyncio.gather(*polling)
        assert max(max(one[1:]) for one in waited) == 0
        late = [(asker, users) for asker, at, users in site.controller.asked if at > 15]
        assert len(late) <= 50 / 0.7 + 2
        assert {asker for asker, _ in late} == {"service"}
        assert {users for _, users in late} == {tuple(USERS)}

    run(main())


def test_users_who_began_at_different_times_are_soon_asked_for_together():
    async def main() -> None:
        site = Site(Controller())
        await site.let_in(*USERS)
        polling = [poll(site, user, every=0.1, until=40, start=number / 19) for number, user in enumerate(USERS)]
        await asyncio.gather(*polling)
        late = [users for _, at, users in site.controller.asked if 15 < at < 39]
        assert set(late) == {tuple(USERS)}
        assert len(late) <= 24 / 0.7 + 2

    run(main())


def test_users_who_poll_about_once_in_the_life_of_an_answer_wait_neither():
    async def main() -> None:
        site = Site(Controller())
        await site.let_in(*USERS)
        polling = [poll(site, user, every=0.95, until=60, start=number / 19) for number, user in enumerate(USERS)]
        waited = await asyncio.gather(*polling)
        assert max(max(one[5:]) for one in waited) == 0
        late = [(asker, users) for asker, at, users in site.controller.asked if 25 < at < 58]
        assert {asker for asker, _ in late} == {"service"}
        assert len(late) <= 33 * 3  # of some 690 requests

    run(main())


def test_what_nobody_asks_for_again_is_not_refreshed():
    async def main() -> None:
        site = Site(Controller())
        await site.ask("alice")
        await asyncio.sleep(100)
        assert site.controller.own("alice") == 1
        await site.ask("alice")
        await site.ask("alice")
        await asyncio.sleep(100)
        assert site.controller.own("alice") == 3  # the last one was for somebody who did not come again

    run(main())


def test_an_answer_is_used_longer_only_while_the_next_one_is_under_way_and_not_for_more_than_two_lives():
    async def main() -> None:
        site = Site(Controller(), joint=False)
        first = await site.as_of("alice")
        got = now()
        site.controller.seconds = lambda: 5.0
        await site.ask("alice")
        while now() < got + 1.99:
            assert await site.as_of("alice") == first
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.02)
        assert await site.as_of("alice") == pytest.approx(got + 0.7, abs=0.01)  # joins the one under way
        assert now() > got + 5

    run(main())


def test_a_refresh_that_fails_is_tried_again_by_the_next_caller_who_is_told():
    async def main() -> None:
        site = Site(Controller(), joint=False)
        await site.ask("alice")
        await site.ask("alice")
        site.controller.faults["alice"] = Unavailable("down")
        await asyncio.sleep(0.9)
        assert site.counters.failures["queue_refresh"] == 1
        assert await site.as_of("alice") == 0  # it has not ended yet
        await asyncio.sleep(0.2)
        with pytest.raises(Unavailable, match="down"):
            await site.ask("alice")

    run(main())


def test_a_change_ends_the_refresh_under_way():
    async def main() -> None:
        site = Site(Controller(), joint=False)
        await site.ask("alice")
        await site.ask("alice")
        await asyncio.sleep(0.72)
        assert site.controller.own("alice") == 2
        site.written("alice")
        changed = now()
        await asyncio.sleep(1)
        assert await site.as_of("alice") >= changed + 1

    run(main())
