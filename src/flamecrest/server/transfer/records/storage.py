"""The files of transfers over SFTP, in a folder of the user's: create, read, end. It reads no data."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import Conflict, GatewayError, NotFound, Upstream
from flamecrest.server.files.remote.errors import operation_error
from flamecrest.server.files.remote.replacement.opening import opened_itself
from flamecrest.server.files.remote.writing import IN_FLIGHT_BYTES, within_stall_timeout
from flamecrest.server.files.resumable.lock import acquire
from flamecrest.server.ssh.channels.sftp_packets import (
    FAILURE,
    FLAG_APPEND,
    FLAG_CREATE,
    FLAG_EXCLUSIVE,
    FLAG_READ,
    FLAG_WRITE,
    NO_SUCH_FILE,
    Attrs,
    SftpError,
)
from flamecrest.server.transfer.records import names
from flamecrest.server.transfer.records.names import RecordFiles
from flamecrest.server.transfer.records.record import MAX_RECORD, End, Progress, Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flamecrest.server.ssh.channels.sftp import Sftp

NEW: Final = FLAG_WRITE | FLAG_CREATE | FLAG_EXCLUSIVE
PRIVATE: Final = Attrs(mode=0o600)
PIECE: Final = 32 * 1024  # bytes of a write
MOST_BATCHES: Final = 1500  # READDIR answers of the folder of records that are read
SEARCHED: Final = 500  # newest records that are searched for a job of the scheduler, or for the steps of a copy
READS: Final = 5  # of a file that is replaced again and again
UNLOGGED: Final = b" "  # at the end of the file of an end whose line is not in the log yet
LOGGED: Final = b"\n"
WRITTEN_WITHIN: Final = 3.0  # seconds; then who writes the file has died
LOOK: Final = 0.05  # seconds
REASON_BYTES: Final = 4096  # of the error log that are searched for the last error


async def create_folder(sftp: Sftp, folder: bytes) -> None:
    """Create the folder of records, which only its owner may read, and the two that it is in: the last is the user's.

    Raises the reason if that is not possible.
    """
    making, looking = sftp.mkdir(folder, Attrs(mode=0o700)), sftp.lstat(folder)  # in this order, in one round trip
    sftp.forget(making)
    shared = folder.rpartition(b"/")[0]  # of all clusters
    work = shared.rpartition(b"/")[0]
    try:
        await looking
    except SftpError as error:
        for path in (work, shared, folder):
            with suppress(SftpError):
                await sftp.mkdir(path, Attrs(mode=0o700))
        with suppress(SftpError):
            await sftp.lstat(folder)
            return
        with suppress(SftpError):
            await sftp.lstat(work)
            raise explained(error, f"transfer: the folder for records in {_shown(work)} cannot be created") from None
        raise NotFound(
            f"transfer: {_shown(work)}: No such file or directory. Records of transfers are kept there."
        ) from None


async def begin(sftp: Sftp, files: RecordFiles, record: Record, log: bytes, *, parts: bool = False) -> None:
    """Create the record and the logs of a transfer, and its file of parts. Raises SftpError, with none of them left."""
    content = {files.record: record.packed(), files.log: log, files.errors: b""}
    if parts or (record.method == "direct" and record.direction == "upload"):
        content[files.parts] = b""
    results = await asyncio.gather(*(create_file(sftp, *one) for one in content.items()), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            for path in content:
                sftp.forget(sftp.remove(path))
            raise result


async def write_urls(sftp: Sftp, files: RecordFiles, lines: Sequence[str]) -> None:
    """Write the file of URLs, in place of an older one."""
    with suppress(SftpError):
        await sftp.remove(files.urls)
    await create_file(sftp, files.urls, "".join(f"{line}\n" for line in lines).encode("ascii"))


async def create_file(sftp: Sftp, path: bytes, data: bytes) -> None:
    """Create a file that only its owner may read. Raises SftpError with FAILURE if there is one, or the disk is full.

    What cannot be written whole is removed: an empty file would be a damaged record.
    """
    async with sftp.handle(sftp.open_file(path, NEW, PRIVATE)) as handle:
        try:
            for start in range(0, len(data), IN_FLIGHT_BYTES):
                places = range(start, min(start + IN_FLIGHT_BYTES, len(data)), sftp.write_size)
                writes = [sftp.write(handle, at, data[at : at + sftp.write_size]) for at in places]
                await asyncio.gather(*(within_stall_timeout(sftp, write) for write in writes))
        except BaseException:
            sftp.forget(sftp.remove(path))
            raise


async def read_record(sftp: Sftp, files: RecordFiles) -> Record | None:
    """The record of a transfer; None if there is none. Raises Conflict if it is damaged."""
    data = await _read_written(sftp, files.record)
    return None if data is None else Record.parse(data)


async def read_end(sftp: Sftp, files: RecordFiles) -> End | None:
    """How a transfer has ended; None if it has not. Raises Conflict if that is damaged.

    It is in the log when this returns: one who has written the end but not the log is waited for, and then helped.
    """
    data = await _read_written(sftp, files.end)
    if data is None:
        return None
    end = End.parse(data)
    if data.endswith(UNLOGGED):
        with suppress(SftpError, GatewayError):
            async with opened_itself(sftp, files.end, FLAG_READ | FLAG_WRITE, "transfer") as (handle, _):
                await _log_end(sftp, files, end, handle, len(data) - len(UNLOGGED))
    return end


async def _read_written(sftp: Sftp, path: bytes) -> bytes | None:
    """A file that is written once; None if there is none. While it is being written, it is waited for."""
    until = time.monotonic() + WRITTEN_WITHIN
    while True:
        data = await read_file(sftp, path)
        if data is None or (data and not data.endswith(UNLOGGED)) or time.monotonic() > until:
            return data
        await asyncio.sleep(LOOK)


async def read_progress(sftp: Sftp, files: RecordFiles) -> Progress | None:
    """How far a transfer is; None if nothing was noted. Raises Conflict if that is damaged."""
    data = await read_progress_file(sftp, files)
    return None if data is None else Progress.parse(data)


async def read_progress_file(sftp: Sftp, files: RecordFiles) -> bytes | None:
    """The content of the file of progress, which may be replaced while it is opened; None if there is none."""
    for again in range(READS):
        try:
            return await read_file(sftp, files.progress)
        except Conflict:  # another file is there by now
            await asyncio.sleep(0.02 * again)
    return None


async def write_progress(sftp: Sftp, files: RecordFiles, progress: Progress) -> None:
    """Replace what is noted of the progress. Raises SftpError."""
    beside = files.progress + b"-" + secrets.token_hex(8).encode()
    await create_file(sftp, beside, progress.packed())
    try:
        await sftp.rename(beside, files.progress)
    except BaseException:
        sftp.forget(sftp.remove(beside))
        raise


async def read_file(sftp: Sftp, path: bytes) -> bytes | None:
    """A small file of a transfer; None if there is none."""
    try:
        async with opened_itself(sftp, path, FLAG_READ, "transfer") as (handle, _):
            return await within_stall_timeout(sftp, sftp.read(handle, 0, MAX_RECORD))
    except SftpError as error:
        if error.code == NO_SUCH_FILE:
            return None
        raise


async def finish(sftp: Sftp, files: RecordFiles, end: End, line: str) -> None:
    """Record how a transfer has ended, and write the last line of its log. It can be repeated.

    The line is the error of an end that has none. The file of the end is written in two steps, and the log between
    them: so who reads a whole end finds its line in the log, and only the one that has created the file writes there.
    """
    error = end.error if end.state == "COMPLETED" else end.error or line
    end = replace(end, error=error, line=line)
    opening, packed = sftp.open_file(files.end, NEW, PRIVATE), end.packed()
    try:
        await within_stall_timeout(sftp, opening)
    except SftpError as failure:
        if failure.code != FAILURE:  # the status for a file that exists
            raise
        return
    async with sftp.handle(opening) as handle:
        try:
            await within_stall_timeout(sftp, sftp.write(handle, 0, packed + UNLOGGED))
        except SftpError:  # the disk is full
            sftp.forget(sftp.remove(files.end))
            raise
        await _log_end(sftp, files, end, handle, len(packed))
    sftp.forget(sftp.remove(files.parts))


async def _log_end(sftp: Sftp, files: RecordFiles, end: End, handle: bytes, size: int) -> None:
    """Write the last line of the log, then to the open file of the end, of so many bytes, that it is there."""
    await append_log(sftp, files.log, end.line)
    if end.state != "COMPLETED":
        await append_log(sftp, files.errors, end.line)
    await within_stall_timeout(sftp, sftp.write(handle, size, LOGGED))


async def append_log(sftp: Sftp, path: bytes, *lines: str) -> None:
    """Append lines with the time to a log. A log that cannot be written stays as it is."""
    if not lines:
        return
    data = b"".join(map(log_line, lines))
    with suppress(SftpError):
        async with opened_itself(sftp, path, FLAG_READ | FLAG_WRITE | FLAG_APPEND, "transfer") as (handle, attrs):
            for start in range(0, len(data), PIECE):
                place = (attrs.size or 0) + start
                await within_stall_timeout(sftp, sftp.write(handle, place, data[start : start + PIECE]))


def log_line(text: str) -> bytes:
    """A line of a log, with the time in UTC."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return f"{now} {' '.join(text.split())}\n".encode("utf-8", "replace")


async def error_of(sftp: Sftp, files: RecordFiles, end: End | None) -> str | None:
    """Why a transfer has failed, or what has gone wrong so far; None if nothing has."""
    if end is not None and (end.error or end.state == "COMPLETED"):
        return end.error or None
    return await last_error(sftp, files)


async def last_error(sftp: Sftp, files: RecordFiles) -> str | None:
    """The text of the last line of the error log; None without one."""
    with suppress(SftpError, GatewayError):
        async with opened_itself(sftp, files.errors, FLAG_READ, "transfer") as (handle, attrs):
            start = max(0, (attrs.size or 0) - REASON_BYTES)
            lines = (await within_stall_timeout(sftp, sftp.read(handle, start, REASON_BYTES))).decode(
                "utf-8", "replace"
            )
            if lines.strip():
                return lines.strip().rpartition("\n")[2].partition(" ")[2]
    return None


async def discard(sftp: Sftp, data: str) -> None:
    """Remove the data of an upload that is not needed any more."""
    if data:
        with suppress(SftpError):
            await sftp.remove(data.encode("utf-8", "surrogateescape"))


async def newest(sftp: Sftp, folder: bytes) -> Sequence[str]:
    """The ids of all transfers with a record, the newest first. Raises SftpError."""
    found: list[tuple[int, str]] = []
    try:
        async with sftp.handle(sftp.opendir(folder)) as handle:
            for _ in range(MOST_BATCHES):
                batch = await sftp.readdir(handle)
                if not batch:
                    break
                found.extend(
                    (one.attrs.mtime or 0, name)
                    for one in batch
                    if one.name.endswith(b".json") and (name := names.transfer_of(one.name)) is not None
                )
    except SftpError as error:
        if error.code != NO_SUCH_FILE:
            raise
    return [name for _, name in sorted(found, reverse=True)]


async def known_id(sftp: Sftp, folder: bytes, transfer: str) -> str | None:
    """The id under which a transfer was recorded: an earlier request may have submitted the same job. Raises SftpError.

    None: it was not recorded.
    """
    if await exists(sftp, RecordFiles(folder, transfer).record):
        return transfer
    return next((name for name in await newest(sftp, folder) if names.is_same(name, transfer)), None)


async def exists(sftp: Sftp, path: bytes) -> bool:
    """Whether there is a file."""
    with suppress(SftpError):
        await sftp.lstat(path)
        return True
    return False


async def expire(sftp: Sftp, files: RecordFiles, *, without_data: bool = False) -> None:
    """Record that a transfer has expired, and remove its data. Raises Locked while a request works on it.

    One whose data is not there any more may have put it in its place, so it is left to who knows; not `without_data`.
    """
    async with acquire(sftp, files.lock):
        record = await read_record(sftp, files)
        if record is None or record.job_id or await read_end(sftp, files) is not None:
            return
        if without_data or not record.data or await exists(sftp, os.fsencode(record.data)):
            await discard(sftp, record.data)
            await finish(sftp, files, End("TIMEOUT", int(time.time())), "The transfer was not finished in time.")


def explained(error: SftpError, prefix: str) -> GatewayError:
    """The error of a failed request for the caller."""
    if error.code == FAILURE:
        return Upstream(f"{prefix}: disk full, quota exceeded, or a read-only file system", detail=error.message)
    return operation_error(error, prefix)


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "replace")
