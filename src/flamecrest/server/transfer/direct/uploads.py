"""The DirectUploads port over SFTP: parts go to their place in one file, which becomes the target at the end."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import (
    Conflict,
    Denied,
    GatewayError,
    Gone,
    Invalid,
    NotFound,
    TooLarge,
    Unavailable,
    Upstream,
)
from flamecrest.server.files.remote.replacement.landing import through_cancellation
from flamecrest.server.files.remote.replacement.opening import opened_itself
from flamecrest.server.files.remote.writing import within_stall_timeout
from flamecrest.server.files.resumable.lock import UploadLock, acquire
from flamecrest.server.ssh.channels.sftp_packets import FLAG_READ, FLAG_WRITE, NO_SUCH_FILE, SftpError
from flamecrest.server.ssh.errors import Lost
from flamecrest.server.transfer.direct import slots
from flamecrest.server.transfer.direct.landing import beating, is_landed, land_data, md5_of, opened_data
from flamecrest.server.transfer.direct.parts import plan_of
from flamecrest.server.transfer.direct.receive import LOOK, PartWriter, Writers
from flamecrest.server.transfer.direct.slots import Slot
from flamecrest.server.transfer.direct.write_out import WriteOut
from flamecrest.server.transfer.records import storage
from flamecrest.server.transfer.records.names import RecordFiles
from flamecrest.server.transfer.records.record import End, Record, sha256_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from flamecrest.server.files.remote.replacement.opening import OpenFile
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.port import Session
    from flamecrest.server.transfer.direct.links import Ticket

NOTE_TIMEOUT: Final = 10.0  # seconds to write the reason of a failure to the log
SLOWEST_SUM: Final = 20 * 1024 * 1024  # bytes per second at which a checksum is computed at least
GONE: Final = "The data of the upload is gone. Start the transfer again."
UPLOADED: Final = "Multipart file upload successfully completed. File was successfully uploaded."  # clients read it


class RemoteDirectUploads:
    """The DirectUploads port over one user's session.

    `folder` has the records. `writers` and `write_out` belong to the cluster. `sha256` computes the checksum of a file
    on the cluster.
    """

    def __init__(
        self,
        session: Session,
        folder: bytes,
        writers: Writers,
        write_out: WriteOut,
        sha256: Callable[[str, Deadline], Awaitable[str]],
    ) -> None:
        self._session = session
        self._folder = folder
        self._writers = writers
        self._write_out = write_out
        self._sha256 = sha256

    async def put_part(self, ticket: Ticket, number: int, chunks: AsyncIterator[bytes], deadline: Deadline) -> str:
        try:
            span = ticket.plan.span(number)
        except ValueError:
            raise NotFound(f"The upload has no part {number}") from None
        files = RecordFiles(self._folder, ticket.transfer)
        mine, stopped = await self._writers.begin(ticket.transfer, number, self._session.stall_timeout)
        try:
            async with self._opened(ticket, files, deadline) as (sftp, data, parts):
                await _require_open(sftp, files, ticket)  # else the line of a part that is there would be lost
                slot = Slot.begin(await _slot(sftp, parts, number), stopped=stopped)
                written = partial(self._write_out.wrote, self._session, os.fsencode(ticket.data))
                writer = PartWriter(sftp, data, parts, number, slot, mine, written)
                try:
                    await writer.begin()
                    await _require_open(sftp, files, ticket)
                    md5 = await writer.take(chunks, *span)
                except Exception:
                    with suppress(SftpError, GatewayError):
                        await writer.fail(lambda: self._writers.is_latest(ticket.transfer, number, mine))
                    raise
                finally:
                    writer.forget()
                self._writers.ended(ticket.transfer, number, mine)
        except (Conflict, Denied, Invalid, TooLarge, Upstream) as error:
            await self._note(files, f"Part {number} has to be sent again: {error.public}")
            raise
        return md5

    async def complete(
        self, ticket: Ticket, sums: Mapping[int, str] | None, sha256: bytes | None, deadline: Deadline
    ) -> str:
        files = RecordFiles(self._folder, ticket.transfer)
        await self._writers.stop(ticket.transfer)
        try:
            async with self._locked(ticket, files, deadline) as (sftp, lock, record):
                if (end := await storage.read_end(sftp, files)) is not None:
                    if end.state != "COMPLETED":
                        raise _over()
                    return end.etag
                found = await read_slots(sftp, files, record)
                sha256 = _wanted(sha256, record)
                if await _is_there(sftp, record) or not await is_landed(self._session, record):
                    listed = sums if record.size else sums or None
                    end = await self._put_in_place(sftp, files, record, lock, ticket, found, listed, sha256)
                else:
                    end = await completed(sftp, files, found, sha256)
                return end.etag
        except Gone:
            raise
        except (Conflict, Denied, Invalid, NotFound, Upstream) as error:
            await self._note(files, f"The upload could not be completed: {error.public}")
            raise

    async def abort(self, ticket: Ticket, deadline: Deadline) -> bool:
        return await self.cancel(ticket.transfer, deadline) == "COMPLETED"

    async def cancel(self, transfer: str, deadline: Deadline) -> str:
        """End a transfer and remove its data; returns how it has ended. One that has ended stays as it is.

        Raises NotFound; also for a transfer that a scheduler's job does.
        """
        files = RecordFiles(self._folder, transfer)
        await self._writers.stop(transfer)
        async with self._sftp(deadline) as sftp, acquire(sftp, files.lock) as lock, beating(lock):
            record = await storage.read_record(sftp, files)
            if record is None or record.job_id:
                sftp.forget(sftp.remove(files.lock))
                raise NotFound("There is no such transfer")
            if (end := await storage.read_end(sftp, files)) is not None:
                return end.state
            await storage.discard(sftp, record.data)
            if record.method == "direct" and await is_landed(self._session, record):  # before it could be recorded
                return (await completed(sftp, files, await read_slots(sftp, files, record))).state
            end = End("CANCELLED", int(time.time()))
            await storage.finish(sftp, files, end, "The transfer was cancelled.")
            return end.state

    # --- steps of complete

    async def _put_in_place(
        self,
        sftp: Sftp,
        files: RecordFiles,
        record: Record,
        lock: UploadLock,
        ticket: Ticket,
        found: Sequence[Slot | None],
        sums: Mapping[int, str] | None,
        sha256: bytes | None,
    ) -> End:
        async def land_and_record(file: OpenFile) -> End:
            await land_data(self._session, sftp, record, ticket.path, file, lock)
            return await completed(sftp, files, found, sha256)

        _require_parts(found, sums)
        owner = (await sftp.lstat(files.record)).uid
        try:
            async with opened_data(self._session, sftp, record, owner) as file:
                await self._check_content(sftp, file, record, found, sha256)
                return await through_cancellation(land_and_record(file))  # the record says what is at the target
        except SftpError as error:
            if error.code == NO_SUCH_FILE:
                raise Conflict(GONE) from None
            raise

    async def _check_content(
        self, sftp: Sftp, file: OpenFile, record: Record, found: Sequence[Slot | None], sha256: bytes | None
    ) -> None:
        """Raise unless the data is what the parts were, and has the digest."""
        if file.attrs.size != record.size:
            raise Conflict("The data of the upload does not have the size of the file. Start the transfer again.")
        if any(slot is not None and slot.shared for slot in found):
            await asyncio.sleep(LOOK)  # a request at another gateway, whose part was sent again, has seen that by then
        for number, slot in enumerate(found, 1):
            if slot is not None and slot.shared:
                start, size = plan_of(record).span(number)
                if await md5_of(sftp, file.handle, start, size) != slot.md5:
                    raise Invalid(f"Two requests have sent part {number}. Send it again, then complete the upload.")
        if sha256 is not None:
            deadline = Deadline.after(NOTE_TIMEOUT + record.size / SLOWEST_SUM)
            if bytes.fromhex(await self._sha256(record.data, deadline)) != sha256:
                raise Invalid("The file does not have the SHA-256 that was given. Send the parts again.")

    # --- helpers

    @asynccontextmanager
    async def _sftp(self, deadline: Deadline) -> AsyncIterator[Sftp]:
        try:
            async with self._session.open_sftp(deadline) as sftp:
                yield sftp
        except SftpError as error:
            raise storage.explained(error, "transfer") from None
        except Lost as error:
            raise Unavailable(
                "The connection to the cluster was lost. Send the request again.", detail=error.detail, retry_after=1
            ) from None

    @asynccontextmanager
    async def _opened(
        self, ticket: Ticket, files: RecordFiles, deadline: Deadline
    ) -> AsyncIterator[tuple[Sftp, bytes, bytes]]:
        """The handles of the data and of the file of parts. Raises Gone if the transfer has ended."""
        path = os.fsencode(ticket.data)
        async with self._sftp(deadline) as sftp:
            try:
                async with (
                    opened_itself(sftp, files.parts, FLAG_READ | FLAG_WRITE, "upload") as parts,
                    opened_itself(sftp, path, FLAG_READ | FLAG_WRITE, "upload") as data,
                ):
                    if data.attrs.uid != parts.attrs.uid:
                        raise Conflict("upload: another file is in the place of the data")
                    yield sftp, data.handle, parts.handle
                    await sftp.lstat(path)  # the upload has not ended meanwhile
            except SftpError as error:
                if error.code == NO_SUCH_FILE:
                    raise _over() from None
                raise

    @asynccontextmanager
    async def _locked(
        self, ticket: Ticket, files: RecordFiles, deadline: Deadline
    ) -> AsyncIterator[tuple[Sftp, UploadLock, Record]]:
        async with self._sftp(deadline) as sftp:
            record = await storage.read_record(sftp, files)
            if record is None or record.data != ticket.data or plan_of(record) != ticket.plan:
                raise _over()
            async with acquire(sftp, files.lock) as lock, beating(lock):
                yield sftp, lock, record

    async def _note(self, files: RecordFiles, line: str) -> None:
        """Write the reason of a failure to the error log, if that is possible in a short time."""

        async def use(sftp: Sftp) -> None:
            await storage.append_log(sftp, files.errors, line)

        with suppress(GatewayError, SftpError):
            await self._session.sftp(use, Deadline.after(NOTE_TIMEOUT))


def _over() -> Gone:
    return Gone("There is no such upload any more: it was completed, cancelled, or has expired")


async def _require_open(sftp: Sftp, files: RecordFiles, ticket: Ticket) -> None:
    """Raise Locked or Gone if a request ends the upload. A lock that a killed gateway has left is removed.

    Who completes an upload takes the lock, then reads the lines of the parts; a part has its line written before it
    looks here. So one of them sees the other, and nothing is written into a file that is checked, or in its place.
    """
    data = os.fsencode(ticket.data)
    locked, there = await asyncio.gather(storage.exists(sftp, files.lock), storage.exists(sftp, data))
    if locked:
        async with acquire(sftp, files.lock):
            there = await storage.exists(sftp, data)
    if not there:
        raise _over()


async def _slot(sftp: Sftp, parts: bytes, number: int) -> Slot | None:
    return Slot.parse(await within_stall_timeout(sftp, sftp.read(parts, slots.place(number), slots.SIZE)))


async def completed(sftp: Sftp, files: RecordFiles, found: Sequence[Slot | None], sha256: bytes | None = None) -> End:
    """Record that an upload was completed, with the digest if that was verified."""
    end = End("COMPLETED", int(time.time()), etag_of(found), (sha256 or b"").hex())
    await storage.finish(sftp, files, end, UPLOADED)
    return end


async def read_slots(sftp: Sftp, files: RecordFiles, record: Record) -> list[Slot | None]:
    """The lines of all parts. The empty part of an empty file need not be sent: some clients send none."""
    if not record.size:
        return [slots.EMPTY]
    count = plan_of(record).count
    async with opened_itself(sftp, files.parts, FLAG_READ, "upload") as (handle, _):
        places = range(0, slots.place(count + 1), sftp.read_size)
        reads = [sftp.read(handle, at, sftp.read_size) for at in places]
        data = b"".join(await asyncio.gather(*(within_stall_timeout(sftp, read) for read in reads)))
    return slots.parse_all(data, count)


def _wanted(sha256: bytes | None, record: Record) -> bytes | None:
    """The digest that the file must have. Raises Invalid if another one was given when the upload was started."""
    first = bytes.fromhex(sha256_of(record)) or None
    if None not in (first, sha256) and first != sha256:
        raise Invalid("The SHA-256 is not the one that was given when the upload was started")
    return sha256 or first


def is_done(slot: Slot | None) -> bool:
    """Whether a part is there, and nobody else may still write it."""
    return slot is not None and slot.complete and not slot.shared


async def _is_there(sftp: Sftp, record: Record) -> bool:
    with suppress(SftpError):
        await sftp.lstat(os.fsencode(record.data))
        return True
    return False


def _require_parts(found: Sequence[Slot | None], sums: Mapping[int, str] | None) -> None:
    """Raise Invalid unless all parts are there, and are those that the client has sent."""
    missing = [number for number, slot in enumerate(found, 1) if slot is None or not slot.complete]
    if missing:
        raise Invalid(f"Parts have not been sent: {_some(missing)}")
    if sums is None:
        return
    if unlisted := [number for number in range(1, len(found) + 1) if number not in sums]:
        raise Invalid(f"The list of parts lacks parts: {_some(unlisted)}")
    if unknown := [number for number in sums if number > len(found)]:
        raise Invalid(f"The upload has no such parts: {_some(unknown)}")
    if others := [number for number, slot in enumerate(found, 1) if slot is not None and slot.md5 != sums[number]]:
        raise Invalid(f"Parts have another ETag than the list says: {_some(others)}")


def _some(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:20]))
    return shown if len(numbers) <= 20 else f"{shown} and {len(numbers) - 20} more"


def etag_of(found: Sequence[Slot | None]) -> str:
    """The entity tag of a file that came in parts, as S3 makes it: the MD5 of the parts' MD5s, and their number."""
    sums = b"".join(bytes.fromhex(slot.md5) for slot in found if slot is not None)
    return f"{hashlib.md5(sums, usedforsecurity=False).hexdigest()}-{len(found)}"
