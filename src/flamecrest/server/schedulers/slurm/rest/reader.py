"""One user's questions about jobs to slurmrestd: the JobReader of the REST API."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from flamecrest.server.errors import Timeout
from flamecrest.server.schedulers.job_lookup import JobSources
from flamecrest.server.schedulers.merging import JobRecord, Snapshot
from flamecrest.server.schedulers.slurm.ids import SlurmJobId
from flamecrest.server.schedulers.slurm.jobs import matches

from .client import LARGE_LIST
from .errors import UNKNOWN_JOB, Reply, error_of, is_failure
from .fields import items
from .jobs import parse_history, parse_live
from .rows import RowSplitter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flamecrest.server.auth.port import Identity
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.schedulers.dialect import JobQuery
    from flamecrest.server.schedulers.values import Job

    from .client import RestClient

FEW: Final = 8  # jobs that are asked one by one; for more the whole list takes less
MANY: Final = 200  # the same where lists are large
TOGETHER: Final = 100  # jobs in one question to the accounting; they are in the URL
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.+=@-]+")
_ACCOUNTING: Final = "slurmdb"


class RestReader:
    """A JobReader that asks slurmrestd as one user. `clock` returns seconds since the epoch."""

    has_history = True

    def __init__(self, client: RestClient, identity: Identity, *, clock: Callable[[], float] = time.time) -> None:
        self.user = identity.username
        self._client = client
        self._identity = identity
        self._clock = clock

    def sources(self, query: JobQuery) -> JobSources:
        """The two sources of a query."""
        return JobSources(partial(self.live, query), partial(self.history, query))

    async def live(self, query: JobQuery, deadline: Deadline) -> Snapshot:
        """The jobs that the controller knows. Without ids all of them: slurmrestd has no filter for users."""
        parse = partial(parse_live, now=self._clock())
        ids = _numbers(query)
        if ids is not None and len(ids) <= (MANY if self._client.lists_are_large else FEW):
            found = await _in_turn(self.rows(("job", number), deadline) for number in ids)
            return parse([row for rows in found for row in rows])
        return await self._list(parse, deadline, user=None if ids is not None else query.user)

    async def history(self, query: JobQuery, deadline: Deadline) -> Snapshot:
        """The jobs in the accounting, with their steps."""
        ids = _numbers(query)
        if ids is not None:
            return await self._recorded(ids, deadline)
        parameters = [("start_time", f"uts{int(self._clock()) - query.window}")] if query.window else []
        if query.account is not None and _PLAIN.fullmatch(query.account):
            parameters.append(("account", query.account.lower()))
        version = await self._client.version(self._identity, deadline)
        if query.user is not None and version.has_user_filter:
            parameters.append(("users", query.user))
        unfiltered = query.user is not None and not version.has_user_filter

        def parse(rows: Iterable[Mapping[str, Any]]) -> Snapshot:
            return parse_history([row for row in rows if _user(row) == query.user] if unfiltered else rows)

        return await self._list(parse, deadline, query=parameters, plugin=_ACCOUNTING)

    async def _recorded(self, ids: Sequence[str], deadline: Deadline) -> Snapshot:
        """These jobs in the accounting, many of them in few questions: each takes a tenth of a second."""
        version = await self._client.version(self._identity, deadline)
        if len(ids) > FEW and version.jobs_query(ids) is not None:
            parts = (ids[first : first + TOGETHER] for first in range(0, len(ids), TOGETHER))
            asked = (
                self._list(parse_history, deadline, query=version.jobs_query(part) or (), plugin=_ACCOUNTING)
                for part in parts
            )
            return _joined(await _in_turn(asked))
        found = await _in_turn(self.rows(("job", number), deadline, plugin=_ACCOUNTING) for number in ids)
        return parse_history([row for rows in found for row in rows])

    async def _list(
        self,
        parse: Callable[[Iterable[Mapping[str, Any]]], Snapshot],
        deadline: Deadline,
        *,
        user: str | None = None,
        query: Sequence[tuple[str, str]] = (),
        plugin: str = "slurm",
    ) -> Snapshot:
        """The jobs in a list, each parsed as it arrives: other requests go on, and no list is in memory as JSON."""
        parts: list[Snapshot] = []
        splitter = RowSplitter(lambda row: parts.append(parse((row,))), user)
        try:
            reply = await self._client.stream(("jobs",), self._identity, deadline, splitter, query=query, plugin=plugin)
        except Timeout:  # slurmrestd writes nothing before it has all jobs
            if plugin != _ACCOUNTING:
                self._client.note_list(LARGE_LIST)
            raise
        if is_failure(reply):
            raise error_of(reply, own_token=self._client.own_token)
        if plugin != _ACCOUNTING:
            self._client.note_list(splitter.size)
        return _joined(parts)

    async def rows(
        self,
        path: Sequence[str],
        deadline: Deadline,
        *,
        query: Sequence[tuple[str, str]] = (),
        plugin: str = "slurm",
    ) -> Sequence[Mapping[str, Any]]:
        """The jobs in one answer; none for an unknown job."""
        reply = await self._client.request("GET", path, self._identity, deadline, query=query, plugin=plugin)
        if is_failure(reply):
            if _is_unknown_job(reply):
                return ()
            raise error_of(reply, own_token=self._client.own_token)
        return items(reply.body.get("jobs"))

    def queue_id(self, job_id: str) -> str | None:
        """The number of the job or of its array; None for a job of another cluster."""
        job = SlurmJobId.parse(job_id)
        return None if job.cluster else job.base_id

    def select(self, job_id: str, records: Iterable[JobRecord]) -> Job | None:
        """The one job that the id means; see SlurmJobId."""
        return SlurmJobId.parse(job_id).select(records)

    def matches(self, query: JobQuery, job: Job) -> bool:
        """Whether account and name of the job are those of the query."""
        return matches(query, job)


def _numbers(query: JobQuery) -> Sequence[str] | None:
    """The numbers of the jobs that are asked for by their ids; None for a list."""
    if query.job_id is not None:
        return [SlurmJobId.parse(query.job_id).base_id]
    if query.job_ids:
        return list(dict.fromkeys(SlurmJobId.parse(job_id).base_id for job_id in query.job_ids))
    return None


def _user(row: Mapping[str, Any]) -> Any:
    association = row.get("association")
    return row.get("user") or (association.get("user") if isinstance(association, dict) else None)


def _is_unknown_job(reply: Reply) -> bool:
    return any(error.number == UNKNOWN_JOB for error in reply.errors)


async def _in_turn(asked: Iterable[Any]) -> list[Any]:
    """The results of the questions, FEW at a time."""
    waiting, found = list(asked), []
    for first in range(0, len(waiting), FEW):
        found += await asyncio.gather(*waiting[first : first + FEW])
    return found


def _joined(parts: Sequence[Snapshot]) -> Snapshot:
    return Snapshot(
        [record for part in parts for record in part.records],
        sum(part.unreadable_rows for part in parts),
        tuple(state for part in parts for state in part.unknown_states),
    )
