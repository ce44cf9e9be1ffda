"""The queues of several users by one question: who is asked when, and when a user's own question is asked instead."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flamecrest.server.errors import Denied, GatewayError, Timeout, Unavailable
from flamecrest.server.schedulers.merging import Snapshot
from flamecrest.server.schedulers.reading.joint_queues import LONG_QUEUE, MAX_USERS
from flamecrest.server.schedulers.reading.sharing import PAUSE, Kind

from .toy_controller import Controller, Site
from .toy_queue import record
from .virtual_time import now, run

USERS = [f"user{number:02d}" for number in range(20)]


async def poll(site: Site, user: str, *, every: float, until: float, start: float = 0.0) -> list[float]:
    """Ask again and again; returns how long each answer was waited for."""
    waited = []
    await asyncio.sleep(start)
    while now() < until:
        began = now()
        await site.ask(user)
        waited.append(now() - began)
        await asyncio.sleep(every)
    return waited


def test_users_whose_answers_have_ended_are_asked_for_together():
    async def main() -> None:
        site = Site(Controller())
        await site.let_in(*USERS)
        found = await asyncio.gather(*(site.ask(user) for user in USERS))
        assert [{job.user for job in jobs} for jobs in found] == [{user} for user in USERS]
        assert site.controller.joint() == [tuple(USERS)]
        assert sum(site.controller.own(user) for user in USERS) == 0
        assert site.counters.asked["queues"] == 1

    run(main())


def test_the_first_question_of_a_user_is_the_users_own():
    """Whom the cluster refuses gets the refusal, and no answer of the service account."""

    async def main() -> None:
        site = Site(Controller())
        await site.let_in("alice", "bob")
        site.controller.faults["mallory"] = Denied("mallory is refused")
        for _ in range(2):
            with pytest.raises(Denied, match="mallory is refused"):
                await asyncio.gather(*(site.ask(user) for user in ("alice", "bob", "mallory")))
            await asyncio.sleep(5)
        assert all("mallory" not in users for users in site.controller.joint())

    run(main())


def test_a_user_whose_login_has_ended_is_let_in_for_ten_minutes_at_most():
    async def main() -> None:
        site = Site(Controller())
        await site.let_in("alice", "mallory")
        site.controller.faults["mallory"] = Denied("mallory is refused")
        others = asyncio.create_task(poll(site, "alice", every=0.2, until=700))
        with pytest.raises(Denied):
            await poll(site, "mallory", every=0.2, until=620)
        assert now() > 500  # until then the answers were joint ones
        others.cancel()

    run(main())


def test_a_question_alone_is_the_users_own_and_waits_for_nothing():
    async def main() -> None:
        site = Site(Controller())
        await site.let_in("alice", "bob")
        began = now()
        await site.ask("alice")
        assert now() - began == pytest.approx(0.05, abs=1e-6)
        assert (site.controller.own("alice"), site.controller.joint()) == (1, [])

    run(main())


def test_what_comes_during_a_question_is_asked_together_after_it():
    async def main() -> None:
        site = Site(Controller())
        await site.let_in(*USERS)
        asking = [asyncio.create_task(site.ask(USERS[0]))]
        await asyncio.sleep(0.01)
        asking += [asyncio.create_task(site.ask(user)) for user in USERS[1:]]
        await asyncio.gather(*asking)
        assert site.controller.joint() == [tuple(USERS[1:])]

    run(main())


def test_a_slow_login_of_one_user_delays_nobody_else_for_long():
    async def main() -> None:
        site = Site(Controller(own_seconds=lambda: 0.01))
        await site.let_in("alice", "bob", "carol")
        site.controller.own_seconds = lambda: 30.0
        slow = asyncio.create_task(site.ask("alice"))
        await asyncio.sleep(0.01)
        began = now()
        await asyncio.gather(site.ask("bob"), site.ask("carol"))
        assert now() - began < 0.2
        slow.cancel()

    run(main())


@pytest.mark.parametrize("error", [Unavailable("no token"), Denied("refused"), Timeout("slow")])
def test_a_failure_of_the_account_is_none_of_the_users(error: GatewayError):
    """Each asks alone at once, and the account is not asked again for a while."""

    async def main() -> None:
        site = Site(Controller())
        await site.let_in(*USERS)
        site.controller.faults["service"] = error
        for _ in range(2):
            began = now()
            await asyncio.gather(*(site.ask(user) for user in USERS))
            assert now() - began <= 0.11
            await asyncio.sleep(5)
        assert len(site.controller.joint()) == 1
        assert [site.controller.own(user) for user in USERS] == [2] * len(USERS)
        assert site.counters.failures["queues"] == 1
        del site.controller.faults["service"]
        await asyncio.sleep(PAUSE)
        await asyncio.gather(*(site.ask(user) for user in USERS))
        assert len(site.controller.joint()) == 2

    run(main())


def test_an_account_that_hangs_delays_users_by_a_second_at_most():
    async def main() -> None:
        site = Site(Controller(own_seconds=lambda: 0.05))
        await site.let_in(*USERS)
        site.controller.seconds = lambda: 1000.0
        began = now()
        await asyncio.gather(*(site.ask(user) for user in USERS))
        assert now() - began < 1.2

    run(main())


def test_a_slow_scheduler_is_not_asked_more_often_because_it_is_slow():
    """After a joint question was given up, the next one has more time."""

    async def main() -> None:
        site = Site(Controller(seconds=lambda: 1.5))
        await site.let_in("alice", "bob")
        for _ in range(2):
            await asyncio.gather(site.ask("alice"), site.ask("bob"))
            await asyncio.sleep(PAUSE + 5)
        assert len(site.controller.joint()) == 2
        assert site.controller.own("alice") == 1

    run(main())


@pytest.mark.parametrize("private", [frozenset({Kind.JOBS}), frozenset(Kind)])
def test_private_jobs_are_asked_for_by_each_user(private: frozenset[Kind]):
    async def main() -> None:
        site = Site(Controller(private=private))
        await site.let_in(*USERS)
        await asyncio.gather(*(poll(site, user, every=0.2, until=100) for user in USERS))
        assert site.controller.joint() == []
        assert site.service.asked_privacy <= 3

    run(main())


def test_jobs_that_become_private_do_not_vanish():
    """From then on the account sees none. That is confirmed by the user, until the configuration has been read."""

    async def main() -> None:
        site = Site(Controller(jobs={"carol": 0}))
        await site.let_in("alice", "bob", "carol")
        site.controller.private = frozenset({Kind.JOBS})
        site.controller.several = lambda _: Snapshot()
        for _ in range(40):
            alice, bob, carol = await asyncio.gather(*(site.ask(user) for user in ("alice", "bob", "carol")))
            assert ([job.user for job in alice], [job.user for job in bob], carol) == (["alice"], ["bob"], [])
            await asyncio.sleep(3)
        asked = len(site.controller.joint())
        assert 1 <= asked <= 25
        await asyncio.gather(*(site.ask(user) for user in ("alice", "bob", "carol")))
        assert len(site.controller.joint()) == asked

    run(main())


NOBODYS = replace(record("9"), job=replace(record("9").job, user=None))


def _also(snapshot: Snapshot, **more) -> Snapshot:
    return replace(snapshot, **more)


@pytest.mark.parametrize(
    ("several", "alone"),
    [
        (lambda found: _also(found, unknown_users=frozenset({"carol"})), {"carol"}),
        (lambda found: _also(found, unreadable_rows=1), {"carol"}),  # the row may be a job of the user without any
        (lambda found: _also(found, records=found.records[1:]), {"alice"}),  # who had a job
        (lambda found: _also(found, records=[*found.records, record("9", user="root")]), set()),
        (lambda found: _also(found, records=[*found.records, record("9", user="alice,bob")]), set()),
        (
            lambda found: _also(found, records=[*found.records, NOBODYS]),
            {"alice", "bob", "carol"},
        ),
    ],
)
def test_who_asks_alone_when_the_joint_answer_is_not_certain(several, alone):
    async def main() -> None:
        site = Site(Controller(jobs={"carol": 0}))
        await site.let_in("alice", "bob", "carol")
        site.controller.several = several
        found = await asyncio.gather(*(site.ask(user) for user in ("alice", "bob", "carol")))
        assert [len(jobs) for jobs in found] == [1, 1, 0]
        assert {user for user in ("alice", "bob", "carol") if site.controller.own(user)} == alone

    run(main())


@pytest.mark.parametrize("name", ["1001", "-a", "--all", "a,b", "", "a b", "a\nb", "ä", "a" * 65, "root,", "$(id)"])
def test_a_name_that_means_something_else_to_a_program_is_never_in_a_list(name: str):
    async def main() -> None:
        site = Site(Controller())
        await site.let_in("alice", "bob", name)
        await asyncio.gather(*(site.ask(user) for user in ("alice", "bob", name)))
        assert site.controller.joint() == [("alice", "bob")]
        assert site.controller.own(name) == 1

    run(main())


def test_a_long_queue_is_asked_for_alone():
    async def main() -> None:
        site = Site(Controller(jobs={"carol": LONG_QUEUE + 1}))
        await site.let_in("alice", "bob", "carol")
        await asyncio.gather(*(site.ask(user) for user in ("alice", "bob", "carol")))
        assert site.controller.joint() == [("alice", "bob")]

    run(main())


def test_one_question_has_a_bounded_number_of_users_and_jobs():
    async def main() -> None:
        many = [f"user{number}" for number in range(MAX_USERS + 50)]
        site = Site(Controller(jobs=dict.fromkeys(many[:8], LONG_QUEUE)))
        await site.let_in(*many)
        await asyncio.gather(*(site.ask(user) for user in many))
        joint = site.controller.joint()
        assert sorted(user for users in joint for user in users) == sorted(many)
        assert len(joint) <= 4
        assert max(sum(site.controller.jobs.get(user, 1) for user in users) for users in joint) <= 2000

    run(main())


def test_after_a_change_the_users_own_question_is_asked_at_once():
    async def main() -> None:
        site = Site(Controller())
        await site.let_in("alice", "bob")
        asking = [asyncio.create_task(site.as_of(user)) for user in ("alice", "bob")]
        await asyncio.sleep(0.02)
        site.written("alice")
        changed = now()
        assert await site.as_of("alice") >= changed
        assert now() - changed == pytest.approx(0.05, abs=1e-6)
        assert max(await asyncio.gather(*asking)) < changed

    run(main())


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(USERS[:5]), st.floats(0.01, 3), st.floats(0, 2)), min_size=1, max_size=12),
    st.lists(st.tuples(st.sampled_from(USERS[:5]), st.floats(0, 20)), max_size=10),
    st.lists(st.floats(0.001, 2.5), min_size=1, max_size=7),
    st.booleans(),
)
def test_no_answer_is_too_old_or_older_than_a_change(pollers, changes, seconds, joint):
    """For any pollers, changes and durations of questions."""
    changed = dict.fromkeys(USERS, -1.0)
    place = 0

    def took() -> float:
        nonlocal place
        place += 1
        return float(seconds[place % len(seconds)])

    async def main() -> None:
        site = Site(Controller(seconds=took), joint=joint)

        async def polling(user: str, every: float, start: float) -> None:
            await asyncio.sleep(start)
            while now() < 20:
                before = changed[user]
                as_of = await site.as_of(user)
                assert as_of >= before
                assert now() - as_of <= 2 * 1.0 + max(seconds) + 0.001  # two lives and the longest question
                await asyncio.sleep(every)

        async def changing(user: str, at: float) -> None:
            await asyncio.sleep(at)
            changed[user] = now()
            site.written(user)

        tasks = [polling(*one) for one in pollers] + [changing(*one) for one in changes]
        await asyncio.gather(*tasks)
        asked, questions = site.answers, len(site.controller.asked)
        await asyncio.sleep(20)
        assert questions <= len(site.controller.asked) <= questions + 2 * len(USERS)
        assert asked <= site.answers
        settled = len(site.controller.asked)
        await asyncio.sleep(1000)
        assert len(site.controller.asked) == settled  # nobody asks any more

    run(main())
