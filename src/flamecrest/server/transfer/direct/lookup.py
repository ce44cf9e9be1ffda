"""Transfers through the gateway as jobs: clients wait for them, and cancel them, by the id of a job."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from flamecrest.server.errors import GatewayError, NotFound
from flamecrest.server.files.resumable.lock import acquire
from flamecrest.server.schedulers.job_errors import job_not_found
from flamecrest.server.schedulers.values import Job, JobMetadata, JobTimes, Stage
from flamecrest.server.ssh.channels.sftp_packets import SftpError
from flamecrest.server.transfer.direct.landing import is_landed
from flamecrest.server.transfer.direct.parts import DataFile
from flamecrest.server.transfer.direct.uploads import GONE, completed, read_slots
from flamecrest.server.transfer.records import names, storage
from flamecrest.server.transfer.records.names import RecordFiles, WorkFolder
from flamecrest.server.transfer.records.record import End

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.port import Session
    from flamecrest.server.transfer.direct.uploads import RemoteDirectUploads
    from flamecrest.server.transfer.records.record import Record

T = TypeVar("T")
COPY: Final = "CopyFiles"  # synchronizations, and copies to another cluster
_NAMES: Final = {"upload": "UploadFile", "download": "DownloadFile", "internal": COPY}


class TransferJobs:
    """The JobLookup port over the records of one user's transfers: nobody else can see them.

    `work` is the user's directory for logs and records.
    """

    def __init__(self, session: Session, username: str, work: WorkFolder, uploads: RemoteDirectUploads) -> None:
        self._session = session
        self._username = username
        self._work = work
        self._uploads = uploads

    @property
    def age(self) -> float:
        return 0.0

    async def wait_for_change(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def job(self, job_id: str, deadline: Deadline) -> list[Job]:
        files = self._files(job_id)

        async def use(sftp: Sftp) -> list[Job]:
            record, end, sent = await asyncio.gather(
                storage.read_record(sftp, files), storage.read_end(sftp, files), _size(sftp, files.parts)
            )
            if record is None or record.job_id:  # a job of the scheduler is known by its own id
                raise job_not_found(job_id)
            if end is None and record.method == "direct":
                end = await self.settle(sftp, files, record)
            return [self._shown(files, record, end, sent, await storage.error_of(sftp, files, end))]

        return await self._sftp(use, deadline)

    async def metadata(self, job_id: str, deadline: Deadline) -> list[JobMetadata]:
        files = self._files(job_id)

        async def use(sftp: Sftp) -> list[JobMetadata]:
            if await storage.read_record(sftp, files) is None:
                raise job_not_found(job_id)
            return [JobMetadata(job_id, None, None, os.fsdecode(files.log), os.fsdecode(files.errors))]

        return await self._sftp(use, deadline)

    async def cancel(self, job_id: str, deadline: Deadline) -> None:
        try:
            await self._uploads.cancel(self._files(job_id).transfer, deadline)
        except NotFound:
            raise job_not_found(job_id) from None

    async def _sftp(self, use: Callable[[Sftp], Awaitable[T]], deadline: Deadline) -> T:
        try:
            return await self._session.sftp(use, deadline, repeatable=True)
        except SftpError as error:
            raise storage.explained(error, "transfer") from None

    def _files(self, job_id: str) -> RecordFiles:
        if not names.is_transfer_id(job_id):
            raise job_not_found(job_id)
        return RecordFiles(self._work.records, job_id)

    async def settle(self, sftp: Sftp, files: RecordFiles, record: Record) -> End | None:
        """Record an end that no gateway has recorded: by expiry, or by a gateway that was killed at the last step."""
        if record.data and not await storage.exists(sftp, os.fsencode(record.data)):
            if await is_landed(self._session, record):
                return await completed(sftp, files, await read_slots(sftp, files, record))
            if DataFile.of(record).file:
                return await self._gone(sftp, files, record)
        if names.expiry(files.transfer) > time.time():
            return None
        await storage.expire(sftp, files, without_data=True)
        return await storage.read_end(sftp, files)

    async def _gone(self, sftp: Sftp, files: RecordFiles, record: Record) -> End | None:
        """Record that the data is gone, unless a request that completes the upload has just moved it."""
        with suppress(GatewayError, SftpError):
            async with acquire(sftp, files.lock):
                if not await storage.exists(sftp, os.fsencode(record.data)) and not await is_landed(
                    self._session, record
                ):
                    await storage.finish(sftp, files, End("FAILED", int(time.time())), GONE)
                return await storage.read_end(sftp, files)
        return None

    def _shown(self, files: RecordFiles, record: Record, end: End | None, sent: int, reason: str | None) -> Job:
        state = end.state if end is not None else "RUNNING" if sent or record.method != "direct" else "PENDING"
        stage = Stage.ENDED if end is not None else Stage.WAITING if state == "PENDING" else Stage.RUNNING
        until = end.at if end is not None else int(time.time())
        elapsed = max(0, until - record.created)
        return Job(
            files.transfer,
            _NAMES[record.direction],
            state,
            stage,
            user=self._username,
            reason=reason,
            exit_code=None if end is None else int(state != "COMPLETED"),
            times=JobTimes(
                submit=record.created,
                start=None if state == "PENDING" else record.created,
                end=None if end is None else end.at,
                elapsed=elapsed,
                limit=names.expiry(files.transfer) - record.created,
            ),
            working_directory=self._work.path,
            standard_output=os.fsdecode(files.log),
            standard_error=os.fsdecode(files.errors),
        )


async def _size(sftp: Sftp, path: bytes) -> int:
    with suppress(SftpError):
        return (await sftp.lstat(path)).size or 0
    return 0
