"""Records of transfers that cannot be read: their user has edited them, or they were written to a full disk."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from flamecrest.server.errors import Conflict, GatewayError, Invalid
from flamecrest.server.ssh.channels.sftp_packets import NO_SUCH_FILE, SftpError

from .record import DamagedRecord
from .storage import read_end, read_progress, read_record

if TYPE_CHECKING:
    from flamecrest.server.ssh.channels.sftp import Sftp

    from .names import RecordFiles


async def is_damaged(sftp: Sftp, files: RecordFiles, error: GatewayError) -> bool:
    """Whether what is recorded of a transfer, of which `error` was raised, cannot be used."""
    if isinstance(error, DamagedRecord):
        return True
    try:
        await asyncio.gather(read_record(sftp, files), read_end(sftp, files), read_progress(sftp, files))
    except (Conflict, Invalid):
        return True
    return False


async def written_at(sftp: Sftp, files: RecordFiles) -> int | None:
    """When a record was written, in seconds since the epoch; None if there is none. Raises SftpError."""
    try:
        return (await sftp.lstat(files.record)).mtime or 0
    except SftpError as error:
        if error.code != NO_SUCH_FILE:
            raise
        return None


async def remove(sftp: Sftp, files: RecordFiles) -> None:
    """Remove all files of a transfer: the record last, so that it can be repeated. Raises SftpError.

    The data of an upload, whose place is not known, is removed as that of any upload that nobody goes on with.
    """
    others = (
        files.parts, files.progress, files.end, files.then, files.job, files.lock, files.log, files.errors, files.urls,
        files.data,
    )  # fmt: skip
    for path in others:
        with suppress(SftpError):
            await sftp.remove(path)
    await sftp.remove(files.record)
