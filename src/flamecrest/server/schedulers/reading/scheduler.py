"""What every adapter of the Scheduler port does alike about reading: jobs by a JobReader, from shared answers."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from flamecrest.server.errors import Conflict, Denied, GatewayError, NotFound
from flamecrest.server.schedulers.dialect import JobQuery
from flamecrest.server.schedulers.values import Stage

from .port import JobReader

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.schedulers.job_lookup import JobLookup, JobSources
    from flamecrest.server.schedulers.values import Job

    from .cluster_reads import ClusterReads
    from .job_reads import JobReads
    from .shared_answers import Answer

T = TypeVar("T")


class AdapterReader(JobReader, Protocol):
    """The JobReader of an adapter, which can also be asked without the shared reads."""

    def sources(self, query: JobQuery) -> JobSources:
        """The live source and the history of a query."""
        ...


class ReadingScheduler(ABC):
    """The part of the Scheduler port for one user that reads jobs. An adapter sets the attributes.

    Lookup and reads are those of the cluster. Without `_reads` and `_cluster_reads` every call asks the scheduler.
    """

    _lookup: JobLookup
    _username: str
    _reads: JobReads | None
    _cluster_reads: ClusterReads | None
    _clock: Callable[[], float]  # seconds since the epoch
    _asked: float | None = None  # monotonic

    @property
    @abstractmethod
    def _reader(self) -> AdapterReader:
        """The adapter's questions as the user."""

    @property
    def age(self) -> float:
        """The age of what was read; see the port."""
        return 0.0 if self._asked is None else max(0.0, time.monotonic() - self._asked)

    async def jobs(
        self, *, all_users: bool, account: str | None, name: str | None, window: int, deadline: Deadline
    ) -> list[Job]:
        """Jobs that were alive in the window; see the port. If the history fails, those of the live source."""
        user = None if all_users else self._username
        query = JobQuery(user=user, account=account or None, name=name or None, window=window)
        reader = self._reader
        if self._reads is not None:
            return self._taken(await self._reads.jobs(reader, query, deadline))
        since = self._clock() - window
        return [
            record.job
            for record in await self._lookup.records(reader.sources(query), deadline)
            if reader.matches(query, record.job)
            and (user is None or record.job.user in (None, user))
            and (record.stage is not Stage.ENDED or (record.job.times.end or since) >= since)
        ]

    async def job(self, job_id: str, deadline: Deadline) -> list[Job]:
        """The job; see the port."""
        reader = self._reader
        if self._reads is not None:
            return [self._taken(await self._reads.job(reader, job_id, deadline))]
        sources = reader.sources(JobQuery(job_id=job_id))
        return [await self._lookup.find(job_id, sources, partial(reader.select, job_id), deadline)]

    async def jobs_by_id(self, job_ids: Sequence[str], deadline: Deadline) -> dict[str, Job | GatewayError]:
        """Each of the jobs; see the port."""
        if self._reads is not None:
            found = await self._reads.jobs_by_id(self._reader, job_ids, deadline)
            return {job_id: one if isinstance(one, GatewayError) else self._taken(one) for job_id, one in found.items()}
        return {job_id: await self._job_or_error(job_id, deadline) for job_id in dict.fromkeys(job_ids)}

    async def _job_or_error(self, job_id: str, deadline: Deadline) -> Job | GatewayError:
        try:
            return (await self.job(job_id, deadline))[0]
        except GatewayError as error:
            return error

    async def wait_for_change(self, seconds: float) -> None:
        """Return when there may be news of the caller's jobs; see the port."""
        await (asyncio.sleep(seconds) if self._reads is None else self._reads.news(self._username, seconds))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A block that changes the user's jobs: what is read after it was asked after it, even if it fails."""
        try:
            yield
        finally:
            if self._reads is not None:
                self._reads.written(self._username)

    @asynccontextmanager
    async def _changing(self, job_id: str, deadline: Deadline) -> AsyncIterator[None]:
        """A block that changes a job. One that has ended is Conflict, also if the scheduler no longer knows it."""
        await self._check_component(job_id, deadline)
        try:
            with self._writing():
                yield
        except NotFound:
            found = await self._job_or_error(job_id, deadline)
            if isinstance(found, GatewayError) or found.stage is not Stage.ENDED:
                raise
            raise Conflict("The job has ended") from None

    def _check_own(self, job: Job) -> None:
        """Raise Denied for a job of another user. Of ended jobs schedulers do not say whether it may be cancelled."""
        if job.user not in {None, self._username}:
            raise Denied("Access/permission denied: the job is that of another user")

    async def _check_component(self, job_id: str, deadline: Deadline) -> None:
        """Raise NotFound for a component that does not exist: Slurm changes or cancels another job for it."""
        if "+" in job_id:
            await self.job(job_id, deadline)

    async def _check_part(self, job_id: str, deadline: Deadline) -> None:
        """Raise NotFound for an element or a component of a job that does not have it. Other failures are none here."""
        if any(sign in job_id for sign in "_+["):
            found = await self._job_or_error(job_id, deadline)
            if isinstance(found, NotFound):
                raise found

    def _taken(self, answer: Answer[T]) -> T:
        """The value of an answer, whose age counts."""
        self._asked = answer.asked if self._asked is None else min(self._asked, answer.asked)
        return answer.value
