"""Jobs of the streamer are shown as running when they listen: clients connect once, as soon as a job is running."""

from __future__ import annotations

import os
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import GatewayError, NotFound
from flamecrest.server.schedulers.values import Stage
from flamecrest.server.ssh.channels.sftp_packets import FLAG_READ, NO_SUCH_FILE, SftpError
from flamecrest.server.transfer.passed_on import PassedOnJobs

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.schedulers.port import JobLookup
    from flamecrest.server.schedulers.values import Job
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.port import Session

NAMES: Final = ("IngressFileTransfer", "OutgressFileTransfer")  # FirecREST's
STARTING: Final = 120  # seconds after the start of a job, in which its log is read
LISTENING: Final = b"Listening on port "  # see programs/server.py
_LOG: Final = re.compile(r".*/\.f7t_file_handling_job_error_[0-9a-f-]{36}\.log", re.DOTALL)
_READ: Final = 16 * 1024  # bytes of a log


class ListeningJobs(PassedOnJobs):
    """The JobLookup port over that of a scheduler."""

    def __init__(self, jobs: JobLookup, session: Session) -> None:
        super().__init__(jobs)
        self._session = session

    async def job(self, job_id: str, deadline: Deadline) -> list[Job]:
        found = await self._jobs.job(job_id, deadline)
        if len(found) != 1 or not _is_starting(found[0]) or await self._listens(job_id, deadline):
            return found
        return [replace(found[0], state="PENDING", stage=Stage.WAITING, reason="The job does not listen yet")]

    async def _listens(self, job_id: str, deadline: Deadline) -> bool:
        """Whether the job's log says that it listens, or nothing can be said."""
        try:
            log = next((one.standard_error or "" for one in await self._jobs.metadata(job_id, deadline)), "")
        except NotFound:
            return True
        if not _LOG.fullmatch(log):
            return True

        async def use(sftp: Sftp) -> bytes:
            async with sftp.handle(sftp.open_file(os.fsencode(log), FLAG_READ)) as handle:
                return await sftp.read(handle, 0, _READ)

        try:
            return LISTENING in await self._session.sftp(use, deadline, repeatable=True)
        except SftpError as error:
            return error.code != NO_SUCH_FILE
        except GatewayError:
            return True


def _is_starting(job: Job) -> bool:
    start = job.times.start
    return job.state == "RUNNING" and job.name in NAMES and start is not None and time.time() - start < STARTING
