"""Find the file that a write replaces, and whether the user may write it, before any content is sent."""

from __future__ import annotations

import asyncio
import errno
import os
import stat as stat_bits
from typing import TYPE_CHECKING

from flamecrest.server.errors import Conflict, Invalid, PreconditionFailed
from flamecrest.server.files.paths import IsFolder, folder_in_the_way
from flamecrest.server.files.remote.errors import operation_error
from flamecrest.server.files.remote.replacement import questions
from flamecrest.server.files.remote.replacement.questions import Target
from flamecrest.server.files.remote.writing import require_regular
from flamecrest.server.ssh.channels.sftp_packets import FLAG_WRITE, NO_SUCH_FILE, Attrs, SftpError
from flamecrest.server.ssh.errors import StatError

if TYPE_CHECKING:
    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files.values import WriteOptions
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.port import Session


async def find_target(
    session: Session, sftp: Sftp, path: bytes, options: WriteOptions, prefix: str, deadline: Deadline
) -> Target:
    """Return what a write to `path` creates or replaces, in one round trip.

    Raises Denied if an existing file may not be written, Invalid if it is no regular file, Conflict for a link that
    leads nowhere, PreconditionFailed if there must be no file.
    """
    try:
        found = await session.ask(questions.target(path), deadline)
        if found is None:
            found = await _look_by_sftp(sftp, path, options, prefix)
    except StatError as error:
        if options.exclusive:
            raise PreconditionFailed(f"{prefix}: File exists") from None
        if error.errno == errno.EISDIR:
            raise folder_in_the_way(os.fsdecode(path)) from None
        raise operation_error(error, prefix) from None
    except IsFolder:
        raise folder_in_the_way(os.fsdecode(path)) from None
    if found.existing is None:
        return found
    if options.exclusive:
        raise PreconditionFailed(f"{prefix}: File exists")
    if not found.owned and (options.mode is not None or options.mtime is not None):
        raise operation_error(StatError(errno.EPERM), prefix)
    return found


async def _look_by_sftp(sftp: Sftp, path: bytes, options: WriteOptions, prefix: str) -> Target:
    try:
        target, existing = await resolve_target(sftp, path, prefix)
    except (Conflict, Invalid):
        if options.exclusive:  # a link that leads nowhere exists as well
            raise PreconditionFailed(f"{prefix}: File exists") from None
        raise
    if existing is None:
        return Target(target)
    found = require_regular(prefix, existing)
    if not options.exclusive:
        try:
            async with sftp.handle(sftp.open_file(target, FLAG_WRITE)):
                pass  # the file may be written
        except SftpError as error:
            raise operation_error(error, prefix) from None
    return Target(target, found)


async def resolve_target(sftp: Sftp, path: bytes, prefix: str) -> tuple[bytes, Attrs | None]:
    """Return the path to replace (the target of a link instead of the link) and its attributes, None if it is new."""
    itself, followed = await asyncio.gather(sftp.lstat(path), sftp.stat(path), return_exceptions=True)
    if isinstance(itself, SftpError):
        if itself.code == NO_SUCH_FILE:
            return path, None
        raise operation_error(itself, prefix)
    if isinstance(itself, BaseException):
        raise itself
    if isinstance(followed, SftpError):
        raise Conflict(f"{prefix}: the target is a symbolic link that leads nowhere")
    if isinstance(followed, BaseException):
        raise followed
    require_regular(prefix, followed)
    if stat_bits.S_ISLNK(itself.mode or 0):
        path = (await sftp.realpath(path))[0].name
    return path, followed
