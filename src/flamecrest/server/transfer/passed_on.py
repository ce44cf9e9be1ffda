"""A JobLookup that another one answers, for those that change a part of its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.schedulers.port import JobLookup
    from flamecrest.server.schedulers.values import Job, JobMetadata


class PassedOnJobs:
    """The JobLookup port over another one, which gets every call."""

    def __init__(self, jobs: JobLookup) -> None:
        self._jobs = jobs

    @property
    def age(self) -> float:
        return self._jobs.age

    async def wait_for_change(self, seconds: float) -> None:
        await self._jobs.wait_for_change(seconds)

    async def job(self, job_id: str, deadline: Deadline) -> list[Job]:
        return await self._jobs.job(job_id, deadline)

    async def metadata(self, job_id: str, deadline: Deadline) -> list[JobMetadata]:
        return await self._jobs.metadata(job_id, deadline)

    async def cancel(self, job_id: str, deadline: Deadline) -> None:
        await self._jobs.cancel(job_id, deadline)
