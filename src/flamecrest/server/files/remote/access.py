"""The ways in which files are asked about: SFTP and stat(2), their failures told in the words of the operation."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

from flamecrest.server.errors import Upstream
from flamecrest.server.files.remote.writing import require_regular
from flamecrest.server.files.values import Stat
from flamecrest.server.ssh.channels.agent_protocol import StatError
from flamecrest.server.ssh.channels.sftp_packets import FAILURE, SftpError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files.remote.cluster_facts import ClusterFacts
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.port import Session

T = TypeVar("T")


class Access:
    """One user's session on one cluster, and what all of the cluster's users share."""

    def __init__(self, session: Session, site: ClusterFacts) -> None:
        self._session = session
        self._site = site

    async def _sftp(self, use: Callable[[Sftp], Awaitable[T]], deadline: Deadline, words: str) -> T:
        try:
            return await self._session.sftp(use, deadline)
        except SftpError as error:
            if error.code == FAILURE:
                # version 3 has no codes for most reasons: stat(2) knows some of them
                raise Upstream(f"{words}: the cluster refused", detail=error.message) from None
            raise error.explained(words) from None

    async def _stat(self, path: str, deadline: Deadline, words: str, *, follow: bool) -> Stat:
        try:
            numbers = await self._session.stat(path, deadline, follow=follow)
        except StatError as error:
            raise error.explained(words) from None
        return Stat.of(numbers)

    async def _regular(self, sftp: Sftp, path: str, words: str, deadline: Deadline) -> Stat:
        try:
            async with deadline.enforce("Opening the file"):
                return require_regular(words, await sftp.stat(os.fsencode(path)))
        except SftpError as error:
            raise error.explained(words) from None

    def _owner(self, deadline: Deadline) -> Callable[[int, int], Awaitable[tuple[str, str]]]:
        return lambda uid, gid: self._site.owner(self._session, uid, gid, deadline)


def explained(error: BaseException, words: str) -> BaseException:
    """An SFTP failure in the words of the operation; any other error as it is."""
    return error.explained(words) if isinstance(error, SftpError) else error


def close(sftp: Sftp, handle: bytes | BaseException) -> None:
    """Close what was opened, if it was, without waiting."""
    if isinstance(handle, bytes):
        sftp.forget(sftp.close_handle(handle))
