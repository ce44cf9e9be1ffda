"""Helpers of the Files adapter: use SFTP and stat(2) with errors in the words of the operation."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, TypeVar

from flamecrest.server.errors import Upstream
from flamecrest.server.files.remote import agent_requests
from flamecrest.server.files.remote.commands import space
from flamecrest.server.files.remote.errors import REASONS, operation_error
from flamecrest.server.files.remote.writing import require_regular
from flamecrest.server.files.values import Stat
from flamecrest.server.ssh.channels.sftp_packets import FAILURE, SftpError
from flamecrest.server.ssh.errors import NoCommands, StatError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.command import Command
    from flamecrest.server.ssh.port import Session

T = TypeVar("T")


async def run(session: Session, command: Command[T], deadline: Deadline, operation: str) -> T:
    """Run a command; NoCommands names the operation."""
    try:
        return await session.run(command, deadline)
    except NoCommands as error:
        raise NoCommands(operation, detail=error.detail) from None


async def use_sftp(
    session: Session,
    use: Callable[[Sftp], Awaitable[T]],
    deadline: Deadline,
    prefix: str,
    *,
    changes: bytes | None = None,
) -> T:
    """Call `use` with the session's SFTP client. An SftpError becomes an error that begins with `prefix`.

    `changes` is the existing path that `use` changes: whether its file system is read-only is looked up on a failure.
    """
    try:
        return await session.sftp(use, deadline)
    except SftpError as error:
        if error.code != FAILURE:
            raise operation_error(error, prefix) from None
        if changes is not None:
            path = changes
            with suppress(SftpError):
                await session.sftp(lambda sftp: check_writable(sftp, path, prefix), deadline)
        raise Upstream(f"{prefix}: the cluster refused", detail=error.message) from None  # its message says no more


async def check_writable(sftp: Sftp, path: bytes, prefix: str) -> None:
    """Raise Denied if the file system of a path is read-only: SFTP version 3 answers FAILURE to all changes there.

    Raises SftpError if that is not known.
    """
    if space.from_statvfs(await sftp.statvfs(path)).read_only:
        reason, kind = REASONS[errno.EROFS]
        raise kind(f"{prefix}: {reason}")


async def stat_regular(sftp: Sftp, path: str, deadline: Deadline, prefix: str) -> Stat:
    """Return what SFTP knows of a regular file; raises Invalid for anything else."""
    try:
        async with deadline.enforce("Opening the file"):
            return require_regular(prefix, await sftp.stat(os.fsencode(path)))
    except SftpError as error:
        raise operation_error(error, prefix) from None


async def create(
    session: Session,
    what: Literal["file", "directory", "directories"],
    path: bytes,
    prefix: str,
    deadline: Deadline,
) -> bool | None:
    """Create an empty file or a directory, as the user's umask has it; False if the path exists; None: use SFTP."""
    try:
        return await session.ask(agent_requests.create(what, path), deadline)
    except StatError as error:
        raise operation_error(error, prefix) from None


async def stat_path(session: Session, path: str, deadline: Deadline, prefix: str, *, follow: bool) -> Stat:
    """Return the attributes of a path; the text of an error begins with `prefix` (see errors.py)."""
    try:
        return Stat(*await session.stat(path, deadline, follow=follow))
    except StatError as error:
        raise operation_error(error, prefix) from None
