"""Transfers through an object store as jobs: the state of each, from its record, its object and its mover job."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from flamecrest.server.schedulers.values import Stage
from flamecrest.server.transfer.records.names import is_transfer_id

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.schedulers.port import JobLookup
    from flamecrest.server.schedulers.values import Job, JobMetadata

    from .moves import StoreMoves


class StoreJobs:
    """The JobLookup port over the records of one user's transfers, of which some go through an object store.

    `records` shows all of them; a lookup takes the next step of those that go through the store.
    """

    def __init__(self, records: JobLookup, moves: StoreMoves) -> None:
        self._records = records
        self._moves = moves

    @property
    def age(self) -> float:
        return self._records.age

    async def wait_for_change(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def job(self, job_id: str, deadline: Deadline) -> list[Job]:
        standing = await self._moves.settle(job_id, deadline) if is_transfer_id(job_id) else None
        jobs = await self._records.job(job_id, deadline)
        if standing is None:
            return jobs
        state, stage, reason = standing.state, standing.stage, standing.reason
        return [
            job if job.stage is Stage.ENDED else replace(job, state=state, stage=stage, reason=reason) for job in jobs
        ]

    async def metadata(self, job_id: str, deadline: Deadline) -> list[JobMetadata]:
        return await self._records.metadata(job_id, deadline)

    async def cancel(self, job_id: str, deadline: Deadline) -> None:
        if not is_transfer_id(job_id) or not await self._moves.cancel(job_id, deadline):
            await self._records.cancel(job_id, deadline)
