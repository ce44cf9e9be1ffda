"""Checks of a path before a job is submitted that sends or receives the file, so that the request fails at once."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, TypeVar

from flamecrest.server.errors import Invalid
from flamecrest.server.files.paths import check_new_file
from flamecrest.server.files.remote.replacement.targets import find_target
from flamecrest.server.files.remote.writing import require_regular
from flamecrest.server.files.values import DEFAULT_WRITE
from flamecrest.server.ssh.channels.sftp_packets import FLAG_READ, SftpError
from flamecrest.server.transfer.records.storage import explained

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.port import Session


T = TypeVar("T")


async def check_target(session: Session, path: str, deadline: Deadline) -> str:
    """The file that is written, behind links. Raises NotFound, Denied, Invalid, Conflict if that is not possible."""
    prefix = f"upload: {path}"
    check_new_file(path)

    async def use(sftp: Sftp) -> str:
        target = await find_target(session, sftp, os.fsencode(path), DEFAULT_WRITE, prefix, deadline)
        if target.existing is None:
            folder = await sftp.stat(target.path.rpartition(b"/")[0] or b"/")
            if not stat.S_ISDIR(folder.mode or 0):
                raise Invalid(f"{prefix}: Not a directory")
        return os.fsdecode(target.path)

    return await _explained(session, use, deadline, prefix)


async def check_source(session: Session, path: str, deadline: Deadline) -> int:
    """The size of a file in bytes. Raises NotFound, Denied or Invalid if `path` is not a file that can be read."""
    prefix = f"download: {path}"

    async def use(sftp: Sftp) -> int:
        name = os.fsencode(path)
        size = require_regular(prefix, await sftp.stat(name)).size
        async with sftp.handle(sftp.open_file(name, FLAG_READ)):
            pass  # the file may be read
        return size or 0

    return await _explained(session, use, deadline, prefix)


async def _explained(session: Session, use: Callable[[Sftp], Awaitable[T]], deadline: Deadline, prefix: str) -> T:
    try:
        return await session.sftp(use, deadline)
    except SftpError as error:
        raise explained(error, prefix) from None
