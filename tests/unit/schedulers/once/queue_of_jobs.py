"""A scheduler in memory that keeps the markers of jobs, and can lose answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import GatewayError, Timeout, Upstream
from flamecrest.server.schedulers.job_errors import NotRecordedYet, maybe_submitted
from flamecrest.server.schedulers.once.marked_jobs import MarkedJobs
from flamecrest.server.schedulers.values import JobSpec


@dataclass
class JobQueue:
    """The jobs of one user. `late`: jobs that are shown only after so many searches."""

    jobs: dict[str, str] = field(default_factory=dict)  # marker by id
    cancelled: list[str] = field(default_factory=list)
    searches: int = 0
    late: int = 0
    unrecorded: int = 0  # searches that are not certain
    number: int = 0
    broken: GatewayError | None = None  # raised by searches
    at_submission: Callable[[str], object] = lambda _: None  # called with the marker before the job is made
    loses: str = ""  # "answer": the job is made, "request": it is not
    settled: asyncio.Event | None = None
    hold: asyncio.Event | None = None
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, marker: str) -> str:
        self.number += 1
        self.jobs[str(self.number)] = marker
        return str(self.number)

    async def submit_marked(self, spec: JobSpec, deadline: Deadline) -> str:
        assert spec.marker is not None
        self.begun.set()
        self.at_submission(spec.marker)
        if self.hold is not None:
            async with deadline.enforce("The submission"):
                await self.hold.wait()
        if self.loses == "request":
            raise maybe_submitted(Upstream("The connection was lost"))
        job_id = self.add(spec.marker)
        if self.loses == "answer":
            raise maybe_submitted(Timeout("sbatch did not finish in time"))
        return job_id

    async def settle(self, prefix: str, deadline: Deadline) -> None:
        if self.settled is not None:
            async with deadline.enforce(prefix):
                await self.settled.wait()

    async def find(self, marker: str, deadline: Deadline) -> str | None:
        self.searches += 1
        if self.broken is not None:
            raise self.broken
        if self.searches <= self.unrecorded:
            raise NotRecordedYet
        if self.searches <= self.late:
            return None
        return await self.find_live(marker, deadline)

    async def find_live(self, marker: str, deadline: Deadline) -> str | None:
        del deadline
        return next((job_id for job_id, text in self.jobs.items() if text.startswith(marker)), None)

    async def marked(self, deadline: Deadline) -> MarkedJobs:
        self.searches += 1
        if self.broken is not None:
            raise self.broken
        found = await self.marked_live(deadline)
        return MarkedJobs(found.ids, frozenset() if self.searches > self.unrecorded else frozenset({"flamecrest-"}))

    async def marked_live(self, deadline: Deadline) -> MarkedJobs:
        del deadline
        return MarkedJobs.of((text, job_id) for job_id, text in self.jobs.items())

    async def cancel(self, job_id: str, deadline: Deadline) -> None:
        del deadline
        self.cancelled.append(job_id)
