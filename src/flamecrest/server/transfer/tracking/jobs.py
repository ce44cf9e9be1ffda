"""The state of a transfer that a scheduler's job does, from the job and its logs; and copies that are shown as jobs."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import GatewayError, NotFound
from flamecrest.server.schedulers.values import Stage
from flamecrest.server.ssh.channels.sftp_packets import SftpError
from flamecrest.server.transfer.direct.lookup import COPY
from flamecrest.server.transfer.passed_on import PassedOnJobs
from flamecrest.server.transfer.records import storage
from flamecrest.server.transfer.records.record import End, Progress, Record

from .job_log import JobLog, read_job_log
from .view import state_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.schedulers.port import JobLookup
    from flamecrest.server.schedulers.values import Job
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.transfer.records.names import RecordFiles

    from .port import State, TransferView
    from .tools import UserTools

UNKNOWN: Final = 600  # seconds after its submission for which a job may be unknown to the scheduler
ABANDONED: Final = "The gateway that copied it was stopped. How far it is, is known on the other system."
# what Slurm writes into the log of such a job names processes and nodes
_ENDED_BY: Final = MappingProxyType(
    {"CANCELLED": "The job was cancelled.", "TIMEOUT": "The job has reached its time limit."}
)
FORGOTTEN: Final = "The scheduler does not know the job any more, and its log does not say that it has succeeded."


@dataclass(frozen=True, slots=True)
class Standing:
    """How a transfer stands. `reason` is why its job waits, in the scheduler's words."""

    state: State
    end: End | None = None
    progress: Progress | None = None
    reason: str = ""
    abandoned: bool = False  # see TransferView


async def state_of_job(
    tools: UserTools, sftp: Sftp, files: RecordFiles, record: Record, deadline: Deadline
) -> Standing:
    """How a transfer without an end stands. The end is recorded: schedulers forget their jobs."""
    try:
        (job, *_) = await tools.shown().job(record.job_id, deadline)
    except NotFound:
        if time.time() - record.created < UNKNOWN:
            return Standing("PENDING")
        log = await read_job_log(sftp, record)
        end = End("COMPLETED", int(time.time()))
        if not log.succeeded:
            end = End("FAILED", end.at, error=log.reason or FORGOTTEN)
        return await _ended(sftp, files, record, log, end, "The job has ended.")
    state = state_of(job)
    if state == "PENDING":
        return Standing(state, reason=why(job) or "")
    log = await read_job_log(sftp, record)
    if state == "RUNNING":
        return Standing(state, progress=_progress(record, log))
    error = "" if state == "COMPLETED" else _ENDED_BY.get(job.state) or log.reason or why(job) or job.state
    end = End(state, job.times.end or int(time.time()), error=error)
    return await _ended(sftp, files, record, log, end, f"The job has ended: {job.state}")


async def _ended(sftp: Sftp, files: RecordFiles, record: Record, log: JobLog, end: End, line: str) -> Standing:
    progress = _progress(record, log)
    with suppress(SftpError, GatewayError):
        if progress is not None:
            await storage.write_progress(sftp, files, progress)
        await storage.finish(sftp, files, end, line)
    return Standing(end.state, end, progress)


def why(job: Job) -> str | None:
    """The scheduler's reason. Slurm's of jobs without one is `None`."""
    return job.reason if job.reason != "None" else None


def _progress(record: Record, log: JobLog) -> Progress | None:
    if log.done is None:
        return None
    return Progress(int(time.time()), log.done, log.total or record.size)


class CopyJobs(PassedOnJobs):
    """The JobLookup port over that of transfers: synchronizations and copies whose gateway has died are noticed.

    `get` shows a transfer, and records the end of one that died. What only the other system knows has the reason
    ABANDONED.
    """

    def __init__(self, jobs: JobLookup, get: Callable[[str, Deadline], Awaitable[TransferView]]) -> None:
        super().__init__(jobs)
        self._get = get

    async def job(self, job_id: str, deadline: Deadline) -> list[Job]:
        found = await self._jobs.job(job_id, deadline)
        if any(one.name == COPY and one.stage is Stage.RUNNING for one in found):
            seen = await self._get(job_id, deadline)
            if seen.ended is not None:
                return await self._jobs.job(job_id, deadline)
            if seen.abandoned:
                return [replace(one, reason=ABANDONED) for one in found]
        return found
