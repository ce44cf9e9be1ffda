"""Create directories over SFTP, and find out why something could not be created."""

from __future__ import annotations

import asyncio
import stat as stat_bits
from contextlib import suppress
from typing import TYPE_CHECKING

from flamecrest.server.errors import Conflict, Invalid, Upstream
from flamecrest.server.files.remote.access import check_writable
from flamecrest.server.files.remote.errors import operation_error
from flamecrest.server.ssh.channels.sftp_packets import FAILURE, NO_SUCH_FILE, SftpError

if TYPE_CHECKING:
    from flamecrest.server.ssh.channels.sftp import Sftp


async def make_directories(sftp: Sftp, path: bytes, prefix: str) -> None:
    """Create a directory and its missing parents. All requests are sent at once; existing directories are kept."""
    parts = path.split(b"/")
    steps = [b"/".join(parts[: n + 1]) for n in range(1, len(parts)) if parts[n]]
    results = await asyncio.gather(*map(sftp.mkdir, steps), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, SftpError):
            raise result
    last = results[-1] if results else None
    if not isinstance(last, SftpError):
        return
    if last.code != NO_SUCH_FILE:
        await explain_not_created(sftp, path, prefix, last, may_exist=True)
        return
    # the cause is the deepest directory that failed for another reason than its missing parent
    failed = [(step, error) for step, error in zip(steps, results, strict=True) if isinstance(error, SftpError)]
    step, cause = next((found for found in reversed(failed) if found[1].code != NO_SUCH_FILE), failed[-1])
    if cause.code != FAILURE:
        raise operation_error(cause, prefix)
    with suppress(SftpError):
        await sftp.lstat(step)
        raise Invalid(f"{prefix}: Not a directory")
    await explain_not_created(sftp, step, prefix, cause)


async def explain_not_created(
    sftp: Sftp, path: bytes, prefix: str, error: SftpError, *, may_exist: bool = False
) -> None:
    """Raise the reason why a path could not be created: SFTP version 3 answers FAILURE for most reasons.

    With `may_exist` return if the path is a directory.
    """
    try:
        existing = await sftp.lstat(path)
    except SftpError:
        existing = None
    if existing is not None:
        if may_exist and stat_bits.S_ISDIR((await sftp.stat(path)).mode or 0):
            return
        raise Conflict(f"{prefix}: File exists")
    if error.code != FAILURE:
        raise operation_error(error, prefix)
    folder = path.rpartition(b"/")[0] or b"/"
    try:
        above = await sftp.stat(folder)
    except SftpError as missing:
        raise operation_error(missing, prefix) from None
    if not stat_bits.S_ISDIR(above.mode or 0):
        raise Invalid(f"{prefix}: Not a directory")
    with suppress(SftpError):
        await check_writable(sftp, folder, prefix)
    raise Upstream(
        f"{prefix}: the cluster refused (disk full, quota, or a read-only file system)", detail=error.message
    )
