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
