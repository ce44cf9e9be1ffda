"""Jobs that follow transfers which the gateway does not do itself: they are submitted when such a transfer is complete.

The process that has begun a transfer looks at it from time to time. After a restart of that process, the next look at
the transfer, by any replica, does the same.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import NotFound, Upstream
from flamecrest.server.ssh.channels.sftp_packets import FAILURE, SftpError
from flamecrest.server.transfer.records import storage
from flamecrest.server.transfer.records.names import RecordFiles

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from flamecrest.server.schedulers.values import JobSpec
    from flamecrest.server.ssh.channels.sftp import Sftp

    from .port import TransferView
    from .tools import UserTools

LOOK: Final = 60.0  # seconds that a look may take
NOT_RECORDED: Final = "thenSubmit: the transfer was started, but could not be recorded. Its job will not be submitted."

_log: Final = logging.getLogger(__name__)


class FollowingJobs:
    """Keeps and submits the jobs that follow transfers of one user on one cluster. `get` shows a transfer."""

    def __init__(self, tools: UserTools, get: Callable[[str, Deadline], Awaitable[TransferView]]) -> None:
        self._tools = tools
        self._get = get

    @contextmanager
    def room(self, spec: JobSpec) -> Iterator[None]:
        """Keep room for a job while its transfer is started.

        Raises Invalid for a job that cannot be kept, Busy if too many transfers are followed.
        """
        self._tools.then.pack("", spec)
        with self._tools.followed.room(self._tools.username):
            yield

    async def keep(self, transfer: str, spec: JobSpec, deadline: Deadline) -> None:
        """Keep a job for a transfer that was begun. One that is kept already stays. Raises Upstream, NotFound."""
        tools, folder = self._tools, self._tools.work.records
        await tools.running.written(transfer)

        async def use(sftp: Sftp) -> str:
            name = await storage.known_id(sftp, folder, transfer)
            if name is None:
                raise Upstream(NOT_RECORDED)
            files = RecordFiles(folder, name)
            try:
                await tools.then.keep(sftp, files, tools.then.pack(name, spec))
            except SftpError as error:
                if error.code != FAILURE or await tools.then.kept(sftp, files) is None:
                    raise
            return name

        try:
            name = await tools.session.sftp(use, deadline)
        except SftpError as error:
            raise storage.explained(error, "thenSubmit: the transfer was started, but not its job") from None
        self.follow(name)

    def follow(self, transfer: str) -> None:
        """Submit the job that is kept for a transfer when that is complete."""
        tools = self._tools
        files = RecordFiles(tools.work.records, transfer)

        async def look() -> bool:
            try:
                view = await self._get(transfer, Deadline.after(LOOK))
            except NotFound:
                return True  # it was removed
            if view.state == "COMPLETED":
                await tools.then.submit(files, tools.session)
            return view.ended is not None

        tools.followed.follow(tools.username, transfer, look)
