"""What the output of squeue and sacct shows of these programs: over a user's login it holds for that user alone."""

from __future__ import annotations

from typing import Any

import pytest

from flamecrest.server.schedulers.dialect import JobQuery
from flamecrest.server.schedulers.job_errors import AskAgain
from flamecrest.server.schedulers.slurm.job_lists import LEARNT_FOR, JobLists
from flamecrest.server.schedulers.slurm.jobs import SACCT_DETAILS, SQUEUE_DETAILS
from flamecrest.server.ssh.command import Command, Output

from .recorded import SEP, line_of

UNKNOWN_SQUEUE = b'squeue: error: Invalid job format specification: "StdOut"\n'
UNKNOWN_SACCT = b'sacct: error: Invalid field requested: "StdOut"\n'
TEXT = b"Welcome! No jobs today.\n"


def of(user: str) -> JobQuery:
    return JobQuery(user=user, asker=user)


def shows(lists: JobLists, user: str) -> list[str]:
    return [line_of(lists.live(of(user))), line_of(lists.history(of(user)))]


def refuse(command: Command[Any], output: Output) -> None:
    with pytest.raises(AskAgain):
        command.parse(output)


def teach(lists: JobLists, user: str) -> None:
    """All that the programs of one user can say."""
    refuse(lists.live(of(user)), Output(0, stderr=UNKNOWN_SQUEUE))
    refuse(lists.history(of(user)), Output(1, stderr=UNKNOWN_SACCT))
    refuse(lists.live(of(user)), Output(0, TEXT))
    refuse(lists.history(of(user)), Output(0, TEXT))
    refuse(lists.history(of(user)), Output(1))


def test_what_one_users_programs_print_changes_no_command_of_another_user():
    lists = JobLists("", lambda: SEP, details=True)
    before = shows(lists, "bob")
    teach(lists, "mallory")
    assert shows(lists, "bob") == before
    assert shows(lists, "mallory") != before
    alone = line_of(lists.live_of(["bob", "mallory"]))
    assert all(name in alone for name in SQUEUE_DETAILS)
    assert "--noheader" in alone


def test_what_the_clusters_account_is_shown_holds_for_all():
    lists = JobLists("", lambda: SEP, details=True)
    refuse(lists.live_of(["bob", "eve"]), Output(0, stderr=b"squeue: error: Invalid job format specification: QOS\n"))
    squeue, sacct = shows(lists, "carol")
    assert "QOS" not in squeue
    assert all(name in squeue for name in SQUEUE_DETAILS if name != "QOS")
    assert all(name in sacct for name in SACCT_DETAILS)


def test_what_was_shown_is_asked_for_again_a_day_later():
    now = 0.0
    lists = JobLists("", lambda: SEP, details=True, clock=lambda: now)
    before = shows(lists, "mallory")
    teach(lists, "mallory")
    shows(lists, "mallory")  # the one without further columns
    assert shows(lists, "mallory") != before
    now = LEARNT_FOR + 1
    assert shows(lists, "mallory") == before


def test_rows_of_another_user_are_not_kept_for_that_user():
    """The columns of two users may differ, so the same text may mean another job."""
    lists = JobLists("", lambda: SEP, details=True)
    row = SEP.join(["7", "7", "RUNNING"] + ["x"] * 18) + SEP
    refuse(lists.live(of("mallory")), Output(0, stderr=b"squeue: error: Invalid job format specification\n"))
    lists.live(JobQuery(user="bob", asker="mallory")).parse(Output(0, row.encode()))
    assert "bob" not in lists._rows
