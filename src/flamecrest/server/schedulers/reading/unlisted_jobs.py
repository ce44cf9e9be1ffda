"""Asks the accounting by their ids for jobs that have left the queue and are in none of its lists."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from flamecrest.server.schedulers.dialect import JobQuery
from flamecrest.server.schedulers.job_lookup import RECOVERABLE_HISTORY

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.schedulers.job_lookup import JobLookup

    from .port import JobReader
    from .user_jobs import UserJobs


async def read_unlisted(lookup: JobLookup, reader: JobReader, user: UserJobs, deadline: Deadline) -> None:
    """Ask one question for all such jobs of the user, behind a list that has been added. A failure is noted only."""
    if not (ids := user.unlisted()):
        return
    try:
        snapshot = await lookup.read("history", partial(reader.history, JobQuery(job_ids=ids)), deadline)
    except RECOVERABLE_HISTORY as error:
        lookup.note_failure("history", error)
    else:
        user.add_unlisted(snapshot.records)
