"""When the accounting is read again for a user's lists. No I/O: times are given."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flamecrest.server.schedulers.array_elements import ArrayElements
from flamecrest.server.schedulers.merging import JobRecord, Snapshot
from flamecrest.server.schedulers.reading.shared_answers import Answer
from flamecrest.server.schedulers.reading.user_jobs import UserJobs

from .toy_queue import NOW, element, record

HOUR = 3600


def remembered() -> UserJobs:
    """The memory after a list that was read at 100 and a queue with one job."""
    user = UserJobs("alice", life=1.0, interval=10.0)
    user.observe(Answer(Snapshot([record("1")]), 99.0), whole=True)
    user.add_list([], HOUR, 100.0, NOW)
    return user


@pytest.mark.parametrize(
    ("now", "window", "due", "recent"),
    [
        (109.0, HOUR, False, True),
        (111.0, HOUR, True, True),
        (119.0, HOUR, True, True),
        (121.0, HOUR, True, False),
        (111.0, 2 * HOUR, True, False),
    ],
)
def test_lists_of_the_accounting_are_recent_for_two_intervals(now: float, window: int, due: bool, recent: bool):
    user = remembered()
    assert (user.list_due(window, now, NOW + now - 100) is not None) is due
    assert user.is_recent(window, now, NOW + now - 100) is recent


def test_a_list_is_not_recent_once_a_job_has_left_the_queue():
    user = remembered()
    user.observe(Answer(Snapshot([]), 105.0), whole=True)
    assert user.list_due(HOUR, 106.0, NOW + 6) is not None
    assert not user.is_recent(HOUR, 106.0, NOW + 6)


def test_a_list_that_was_asked_for_before_a_job_left_the_queue_does_not_end_the_search():
    user = remembered()
    user.observe(Answer(Snapshot([]), 112.0), whole=True)
    user.add_list([], HOUR, 111.0, NOW + 11)
    assert user.list_due(HOUR, 113.0, NOW + 13) is not None
    user.add_list([record("1", "COMPLETED")], HOUR, 113.0, NOW + 13)
    assert user.list_due(HOUR, 114.0, NOW + 14) is None


def array(elements: str, state: str = "PENDING") -> JobRecord:
    return replace(record(f"7_[{elements}]", state), base_id="7", elements=ArrayElements.parse(elements))


def test_a_job_in_no_list_is_asked_for_by_its_id():
    user = remembered()
    user.observe(Answer(Snapshot([]), 105.0), whole=True)
    assert user.unlisted() == ()  # the list was asked for before
    user.add_list([], HOUR, 106.0, NOW + 6)
    assert user.unlisted() == ("1",)
    user.add_unlisted([record("1", "PENDING")])  # of which the accounting has not got the end
    assert user.listed() == []
    assert user.unlisted() == ("1",)
    user.add_unlisted([record("1", "CANCELLED")])
    assert user.unlisted() == ()
    assert [one.job.state for one in user.listed()] == ["CANCELLED"]
    user.add_list([record("2", "COMPLETED")], HOUR, 107.0, NOW + 7)  # only what ended since
    user.add_list([record("2", "COMPLETED")], 2 * HOUR, 2000.0, NOW + 1900)  # in full
    assert {one.job.id for one in user.listed()} == {"1", "2"}


def test_a_job_that_the_accounting_never_gets_is_not_asked_for_without_end():
    user = remembered()
    user.observe(Answer(Snapshot([]), 105.0), whole=True)
    user.add_list([], HOUR, 106.0, NOW + 6)
    assert [user.unlisted() for _ in range(5)] == [("1",)] * 3 + [()] * 2


def test_elements_that_start_have_not_left_the_queue():
    user = UserJobs("alice", life=1.0, interval=10.0)
    user.add_list([], HOUR, 98.0, NOW)
    user.observe(Answer(Snapshot([array("1-4")]), 99.0), whole=True)
    user.observe(Answer(Snapshot([element("7", 1, "RUNNING"), array("2-4")]), 100.0), whole=True)
    assert not user.vanished
    user.observe(Answer(Snapshot([element("7", 1, "RUNNING")]), 101.0), whole=True)
    assert user.vanished
    user.add_list([element("7", 2, "COMPLETED")], HOUR, 102.0, NOW + 2)
    assert user.unlisted() == ("7",)
    user.add_unlisted([element("7", 2, "COMPLETED"), array("3-4", "CANCELLED")])
    assert user.unlisted() == ()


# an ended job is remembered once


def asked_alone(*records: JobRecord, then: JobRecord | None = None) -> UserJobs:
    """The memory after a question for job 1 alone, at 101; `then` is what the queue shows after it."""
    user = UserJobs("alice", life=1.0, interval=10.0)
    user.add_list([], HOUR, 100.0, NOW)
    user.observe(Answer(Snapshot([record("1")]), 100.0), whole=True)
    user.observe(Answer(Snapshot([then] if then else []), 101.0), whole=True)
    user.add_job("1", records, 101.0)
    return user


@pytest.mark.parametrize("then", [None, record("1", "COMPLETED")])
def test_a_job_that_has_ended_is_kept_once_when_a_list_has_it(then: JobRecord | None):
    end = record("1", "COMPLETED")
    user = asked_alone(end, then=then)
    before = user.weight
    user.add_list([record("1", "COMPLETED")], HOUR, 112.0, NOW + 12)
    assert user.weight == before - 1  # the question and its record became that of the list
    assert user.past("1", "1")[0] is end
    assert not user.job_due("1", "1", user.seen("1"), 113.0)
    user.observe(Answer(Snapshot([]), 113.0), whole=True)
    assert user.seen("1") == []
    assert [job.state for job in user.merged().select(None, 0)] == ["COMPLETED"]
    assert not user.job_due("1", "1", [], 114.0)


def test_what_was_asked_of_a_job_is_kept_if_it_runs_again_or_the_list_says_something_else():
    end = record("1", "COMPLETED")
    for user, listed in (
        (asked_alone(end, then=record("1")), end),
        (asked_alone(end), record("1", "FAILED")),
        (asked_alone(end, element("1", 2, "COMPLETED")), end),
    ):
        asked, before = user.past("1", "1"), user.weight
        user.add_list([listed], HOUR, 112.0, NOW + 12)
        assert user.weight == before + 1
        assert len(user.past("1", "1")) == len(asked)


def test_a_job_that_no_list_has_any_more_is_asked_for_again():
    user = asked_alone(record("1", "COMPLETED"))
    user.add_list([record("1", "COMPLETED")], HOUR, 112.0, NOW + 12)
    user.add_list([], 2 * HOUR, 2000.0, NOW + 1900)  # in full
    assert user.job_due("1", "1", [], 2001.0)


def test_an_id_that_is_used_again_is_no_job_that_has_ended():
    user = asked_alone(record("1", "COMPLETED"))
    user.add_list([record("1", "COMPLETED")], HOUR, 112.0, NOW + 12)
    user.changed = 113.0
    user.own.add("1")
    assert user.job_due("1", "1", [], 114.0)
    assert user.past("1", "1") == []
