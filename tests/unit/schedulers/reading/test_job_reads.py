"""Shared reads of jobs over a scheduler in memory: how many questions it takes, and what may never be wrong."""

from __future__ import annotations

import asyncio

import pytest

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Invalid, NotFound, Timeout, Unavailable
from flamecrest.server.schedulers.dialect import JobQuery
from flamecrest.server.schedulers.values import JobTimes

from .toy_queue import NOW, World, element

pytestmark = pytest.mark.anyio


async def test_lists_and_single_jobs_of_one_user_take_one_question():
    world = World()
    for number in range(1, 6):
        world.cluster.put(str(number))
        world.cluster.account(str(number))
    everything = dict.fromkeys("12345", "RUNNING")
    assert await asyncio.gather(*(world.jobs() for _ in range(20))) == [everything] * 20
    assert [await world.job(job_id) for job_id in "12345"] == ["RUNNING"] * 5
    assert await world.jobs(name="another") == {}
    assert await world.many(*"12345") == everything
    assert (world.cluster.count("live"), world.cluster.count("history")) == (1, 1)
    assert world.counters.read()["queue.asked"] == 1


async def test_a_job_that_waits_needs_no_accounting():
    world = World()
    world.cluster.put("1", "PENDING")
    world.reads.written("alice", "1")
    assert [await world.job("1") for _ in range(5)] == ["PENDING"] * 5
    assert (world.cluster.count("live"), world.cluster.count("history")) == (1, 0)


async def test_an_ended_job_is_remembered():
    world = World(life=0.001)
    world.cluster.account("1", "FAILED")
    for _ in range(3):
        assert await world.job("1") == "FAILED"
        await asyncio.sleep(0.005)
    assert world.cluster.count("history") == 1


async def test_a_requeue_shows_although_the_end_is_remembered():
    world = World(life=0.001)
    world.cluster.account("1", "FAILED")
    assert await world.job("1") == "FAILED"
    world.cluster.put("1", "RUNNING", times=JobTimes(submit=int(NOW)))
    await asyncio.sleep(0.005)
    assert await world.job("1") == "RUNNING"
    del world.cluster.queue["1"]
    world.cluster.account("1", "COMPLETED", times=JobTimes(submit=int(NOW), end=int(NOW) + 1))
    await asyncio.sleep(0.005)
    assert await world.job("1") == "COMPLETED"


async def test_the_id_of_an_ended_job_may_be_that_of_a_new_one():
    """A controller that has lost its state counts from its first id again."""
    world = World(life=0.001, interval=0.001)
    world.cluster.account("1", "FAILED")
    assert await world.job("1") == "FAILED"
    assert await world.jobs() == {"1": "FAILED"}
    world.reads.written("alice", "1")
    del world.cluster.accounting["1"]  # which has the new job late
    with pytest.raises(NotFound):
        await world.job("1")
    world.cluster.account("1", "COMPLETED")
    await asyncio.sleep(0.005)
    assert await world.job("1") == "COMPLETED"
    assert await world.jobs() == {"1": "COMPLETED"}


async def test_the_state_never_goes_back_when_the_queue_forgets_before_the_accounting_knows():
    world = World(life=0.001)
    world.cluster.put("1", "COMPLETED")
    world.cluster.account("1", "RUNNING")
    assert await world.jobs() == {"1": "COMPLETED"}
    del world.cluster.queue["1"]
    await asyncio.sleep(0.005)
    assert await world.jobs() == {"1": "COMPLETED"}
    assert await world.job("1") == "COMPLETED"


async def test_the_state_never_goes_back_between_a_job_and_a_list():
    """An answer for one job is newer than the list that is kept."""
    world = World()
    world.cluster.put("1", "PENDING", user="bob")
    assert await world.jobs(all_users=True) == {"1": "PENDING"}
    world.cluster.put("1", "RUNNING", user="bob")
    assert await world.job("1") == "RUNNING"
    assert await world.jobs(all_users=True) == {"1": "RUNNING"}


async def test_a_job_is_never_lost_between_queue_and_accounting():
    """It has left the queue since the accounting was read: it is read again at once."""
    world = World(life=0.001)
    world.cluster.put("1", "RUNNING")
    assert await world.jobs() == {"1": "RUNNING"}
    del world.cluster.queue["1"]
    world.cluster.account("1", "COMPLETED")
    await asyncio.sleep(0.005)
    assert await world.jobs() == {"1": "COMPLETED"}
    assert world.cluster.count("history") == 2


async def test_lists_ask_the_accounting_once_in_a_while():
    world = World(life=0.001, interval=3600)
    world.cluster.account("1", "COMPLETED")
    for _ in range(4):
        assert await world.jobs() == {"1": "COMPLETED"}
        await asyncio.sleep(0.005)
    assert (world.cluster.count("live"), world.cluster.count("history")) == (4, 1)


async def test_the_accounting_is_asked_again_for_what_ended_since():
    world = World(life=0.001, interval=0.001)
    world.cluster.account("1", "COMPLETED")
    assert await world.jobs() == {"1": "COMPLETED"}
    world.cluster.account("2", "FAILED")
    await asyncio.sleep(0.005)
    assert await world.jobs() == {"1": "COMPLETED", "2": "FAILED"}
    windows = [query.window for source, query in world.cluster.asked if source == "history"]
    assert windows == [3600, 600]


async def test_nobody_waits_for_the_accounting_that_was_read_recently():
    world = World(life=0.001, interval=300)
    world.cluster.account("1", "COMPLETED")
    assert await world.jobs() == {"1": "COMPLETED"}
    world.late = 450.0
    world.cluster.account("2", "FAILED")
    world.cluster.hold_history.clear()
    assert await world.jobs() == {"1": "COMPLETED"}
    assert await world.jobs() == {"1": "COMPLETED"}
    world.cluster.hold_history.set()
    await world.until(lambda jobs: jobs == {"1": "COMPLETED", "2": "FAILED"})
    assert world.cluster.count("history") == 2


async def test_a_job_that_left_the_queue_is_waited_for_although_the_accounting_was_read_recently():
    world = World(life=0.001, interval=300)
    world.cluster.put("1", "RUNNING")
    assert await world.jobs() == {"1": "RUNNING"}
    world.late = 450.0
    del world.cluster.queue["1"]
    world.cluster.account("1", "COMPLETED")
    await asyncio.sleep(0.005)
    assert await world.jobs() == {"1": "COMPLETED"}


async def test_a_failure_behind_an_answer_is_counted():
    world = World(life=0.001, interval=300)
    await world.jobs()
    world.late = 450.0
    world.cluster.faults["history"] = Unavailable("down")
    assert await world.jobs() == {}
    await world.until(lambda _: world.counters.failures["history"] == 1)


async def test_a_wider_window_is_read_at_once():
    world = World()
    world.cluster.account("1", "COMPLETED")
    await world.jobs(window=3600)
    await world.jobs(window=86400)
    await world.jobs(window=3600)
    windows = [query.window for source, query in world.cluster.asked if source == "history"]
    assert windows == [3600, 86400]


async def test_while_the_accounting_is_down_what_is_remembered_is_shown():
    world = World(life=0.001, interval=0.001)
    world.cluster.account("1", "COMPLETED")
    assert await world.jobs() == {"1": "COMPLETED"}
    world.cluster.faults["history"] = Unavailable("down")
    await asyncio.sleep(0.005)
    assert await world.jobs() == {"1": "COMPLETED"}
    assert world.counters.failures["history"] == 1
    world.cluster.faults["live"] = Unavailable("down, too")
    await asyncio.sleep(0.005)
    with pytest.raises(Unavailable):
        await world.jobs()


# read your own writes


async def test_a_user_sees_what_the_user_has_changed():
    world = World()
    assert await world.jobs() == {}
    with pytest.raises(NotFound):
        await world.job("1")
    world.cluster.put("1", "PENDING")
    world.written()
    assert await world.job("1") == "PENDING"
    assert await world.jobs() == {"1": "PENDING"}
    assert await world.jobs(all_users=True) == {"1": "PENDING"}
    world.cluster.put("1", "CANCELLED")
    world.written()
    assert await world.jobs(name="job") == {"1": "CANCELLED"}
    assert await world.jobs(all_users=True) == {"1": "CANCELLED"}
    assert await world.many("1") == {"1": "CANCELLED"}


async def test_a_question_that_began_before_the_write_does_not_answer_after_it():
    world = World()
    world.cluster.hold.clear()
    early = asyncio.create_task(world.jobs())
    while not world.cluster.asked:
        await asyncio.sleep(0)
    world.cluster.put("1", "PENDING")
    world.written()
    late = asyncio.create_task(world.jobs())
    await asyncio.sleep(0)
    world.cluster.hold.set()
    assert await late == {"1": "PENDING"}
    await early
    assert await world.jobs() == {"1": "PENDING"}


# users


async def test_what_one_user_may_see_is_not_shown_to_another():
    world = World()
    world.cluster.put("1", user="alice")
    world.cluster.account("2", "COMPLETED", user="alice")
    assert await world.jobs("alice") == {"1": "RUNNING", "2": "COMPLETED"}
    assert await world.jobs("alice", all_users=True) == {"1": "RUNNING", "2": "COMPLETED"}
    assert await world.job("2", "alice") == "COMPLETED"
    world.cluster.queue.clear()
    world.cluster.accounting.clear()
    assert await world.jobs("bob") == {}
    assert await world.jobs("bob", all_users=True) == {}
    for job_id in "12":
        with pytest.raises(NotFound):
            await world.job(job_id, "bob")


async def test_a_list_of_all_users_is_made_once_for_requests_at_the_same_time():
    world = World()
    world.cluster.put("1", user="alice")

    async def listed(user: str):
        query = JobQuery(user=None, window=3600)
        return (await world.reads.jobs(world.reader(user), query, Deadline.after(30))).value

    found = await asyncio.gather(*(listed(user) for user in ("alice", "alice", "alice", "bob")))
    assert [one is found[0] for one in found] == [True, True, True, False]
    assert [job.id for job in found[0]] == ["1"]
    assert world.counters.saved["all_lists"] == 2


async def test_a_cancelled_asker_fails_nobody_else():
    world = World()
    world.cluster.put("1")
    world.cluster.hold.clear()
    asking = [asyncio.create_task(world.jobs()) for _ in range(3)]
    while len(world.cluster.asked) < 2:
        await asyncio.sleep(0)
    asking[0].cancel()
    await asyncio.gather(asking[0], return_exceptions=True)
    world.cluster.hold.set()
    assert await asyncio.gather(*asking[1:]) == [{"1": "RUNNING"}] * 2
    assert world.cluster.cancelled == 0


async def test_questions_end_with_the_last_asker():
    world = World()
    world.cluster.hold.clear()
    asking = [asyncio.create_task(one) for one in (world.jobs(), world.jobs(), world.job("1"))]
    while len(world.cluster.asked) < 4:
        await asyncio.sleep(0)
    for one in asking:
        one.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    for _ in range(5):
        await asyncio.sleep(0)
    assert world.cluster.cancelled == len(world.cluster.asked)


async def test_a_deadline_ends_the_wait():
    world = World()
    world.cluster.hold.clear()
    with pytest.raises(Timeout):
        await world.jobs(seconds=0.05)
    with pytest.raises(Timeout):
        await world.job("1", seconds=0.05)


# several jobs


async def test_many_unknown_jobs_take_one_question_to_each_source():
    world = World()
    world.cluster.put("1", user="bob")
    world.cluster.account("2", "FAILED", user="bob")
    expected = {"1": "RUNNING", "2": "FAILED", "3": "NotFound", "1;rm": "Invalid", "4.west": "NotFound"}
    assert await world.many("1", "2", "3", "1;rm", "4.west") == expected
    asked = [query.job_ids or query.job_id for _, query in world.cluster.asked]
    assert sorted(map(str, asked)) == sorted(map(str, [("1", "2", "3")] * 2 + ["4.west"] * 2))
    assert await world.many("2") == {"2": "FAILED"}


async def test_a_failure_is_that_of_each_job():
    world = World()
    world.cluster.faults |= {"live": Unavailable("down"), "history": Unavailable("down")}
    assert await world.many("1", "2") == {"1": "Unavailable", "2": "Unavailable"}


# arrays and other ids


async def test_ended_elements_of_an_array_are_not_forgotten_with_the_queue():
    world = World(life=0.001)
    first, second = element("7", 1, "FAILED"), element("7", 2, "RUNNING")
    world.cluster.accounting = {"7_1": first}
    world.cluster.queue = {"7_2": second}
    assert await world.job("7") == "RUNNING"
    world.cluster.queue = {"7_2": element("7", 2, "COMPLETED")}
    world.cluster.accounting["7_2"] = element("7", 2, "COMPLETED")
    await asyncio.sleep(0.005)
    assert await world.job("7") == "FAILED"
    assert await world.job("7_2") == "COMPLETED"
    assert await world.job("1001") == "FAILED"


async def test_a_job_of_another_cluster_is_not_one_of_the_queue():
    world = World()
    world.cluster.put("1")
    await world.jobs()
    with pytest.raises(Invalid):
        await world.job("1.batch")
    del world.cluster.queue["1"]
    with pytest.raises(NotFound):
        await world.job("1.west")


# bounds


async def test_memory_is_bounded():
    world = World(max_jobs=50)
    for number in range(1, 200):
        world.cluster.account(str(number), "COMPLETED", user=f"user{number % 20}")
    for number in range(20):
        await world.jobs(f"user{number}")
    for number in range(1, 200):
        await world.job(str(number), f"user{number % 20}")
    assert sum(user.weight for user in world.reads._users.values()) <= 50
    assert len(await world.jobs("user0")) == 9


async def test_a_user_with_more_jobs_than_are_remembered_sees_all():
    world = World(max_jobs=10, life=0.001)
    for number in range(1, 100):
        world.cluster.put(str(number))
        world.cluster.account(str(number + 100), "COMPLETED")
    for _ in range(2):
        assert len(await world.jobs()) == 198
        assert await world.job("150") == "COMPLETED"
        await asyncio.sleep(0.005)


async def test_who_waits_for_news_is_woken_by_the_users_own_change():
    world = World()
    waiting = [asyncio.create_task(world.reads.news("alice", 60)) for _ in range(3)]
    other = asyncio.create_task(world.reads.news("bob", 60))
    await asyncio.sleep(0)
    world.written("alice")
    await asyncio.gather(*waiting)
    assert not other.done()
    other.cancel()
    await world.reads.news("alice", 0.001)


async def test_a_job_that_was_held_until_it_was_cancelled_stays_in_lists():
    """The accounting's lists do not have it, and the queue has forgotten it between two requests."""
    world = World(life=0.0)
    for number in ("1", "2", "3"):
        world.cluster.put(number, "PENDING")
        world.cluster.account(number, "CANCELLED")
        world.cluster.never_eligible.add(number)
    assert await world.jobs() == dict.fromkeys("123", "PENDING")
    del world.cluster.queue["1"], world.cluster.queue["2"]
    assert await world.jobs() == {"1": "CANCELLED", "2": "CANCELLED", "3": "PENDING"}
    by_id = [query.job_ids for source, query in world.cluster.asked if source == "history" and query.job_ids]
    assert by_id == [("1", "2")]
    world.cluster.faults["history"] = Unavailable("down")
    del world.cluster.queue["3"]
    await world.jobs()
    world.cluster.faults.clear()
    world.late += 150  # two intervals: the next list is read before the answer
    assert await world.jobs() == dict.fromkeys("123", "CANCELLED")
