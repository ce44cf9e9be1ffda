"""What happens on the cluster's side of a transfer through an object store: when the data is moved, and by whom.

An upload waits here, outside the scheduler, until its object is complete. Every step begins with the record on the
cluster, so that any replica can take the next one: when the client asks for the state, or while a gateway waits.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Denied, GatewayError, Invalid, Locked, NotFound, Unsupported
from flamecrest.server.files.resumable.lock import acquire
from flamecrest.server.schedulers.values import Stage
from flamecrest.server.ssh.channels.sftp_packets import SftpError
from flamecrest.server.transfer.direct.landing import beating, is_landed
from flamecrest.server.transfer.direct.parts import DataFile
from flamecrest.server.transfer.jobs.script import TransferJob
from flamecrest.server.transfer.records import names, storage
from flamecrest.server.transfer.records.names import RecordFiles, WorkFolder
from flamecrest.server.transfer.records.record import End, EndState, Progress, Record, sha256_of

from .access import MOVING, ObjectPlace, StoreAccess, parts_of
from .closing import UserStore, close
from .mover_scripts import fetch_script, send_script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flamecrest.server.schedulers.port import JobLookup
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.port import Session
    from flamecrest.server.transfer.jobs.submission import TransferSubmitter

    from .relay import Relay
    from .store import StoredObject
    from .watch import Watch

UPLOADED: Final = "Multipart file upload successfully completed. File was successfully uploaded."  # clients read it
SENT: Final = "Multipart file upload successfully completed. The file can be downloaded until the URL expires."
LOST: Final = 300  # seconds after which a job that the scheduler does not know has ended
STEP_TIMEOUT: Final = 60.0  # seconds for a step that no request waits for


@dataclass(frozen=True, slots=True)
class Standing:
    """How a transfer without an end stands: the state and stage of its job, and the reason in words."""

    state: str
    stage: Stage
    reason: str | None = None
    moving: bool = False  # the mover works on its own


class StoreMoves:
    """The moves of one user. `scheduler` knows the mover jobs, `relay` is the gateway as the mover."""

    def __init__(
        self,
        session: Session,
        username: str,
        work: WorkFolder,
        access: StoreAccess,
        submitter: TransferSubmitter,
        scheduler: JobLookup,
        relay: Relay,
        watch: Watch,
    ) -> None:
        self._session = session
        self._username = username
        self._folder = work.records
        self._access = access
        self._store = UserStore(access, username)
        self._submitter = submitter
        self._scheduler = scheduler
        self._relay = relay
        self._watch = watch

    def check(self, account: str | None) -> None:
        """Raise Invalid if no mover job could be charged to this account: before the user sends the file."""
        if self._access.mover != "gateway":
            self._submitter.check(account)

    def follow(self, transfer: str, item: ObjectPlace) -> None:
        """Wait in the background until the object of an upload is complete, then move it."""

        async def look() -> bool:
            over = names.expiry(transfer) - MOVING <= time.time()
            if not over and await self._access.store.head(item.bucket, item.key) is None:
                return False
            standing = await self.settle(transfer, Deadline.after(STEP_TIMEOUT))
            return standing is None or standing.moving

        self._watch.follow(transfer, look)

    async def start(self, sftp: Sftp, files: RecordFiles, record: Record, deadline: Deadline) -> None:
        """Start to send the file of a download."""
        if self._access.mover == "gateway":
            self._watch.run(files.transfer, lambda: self._relay.send(files.transfer))
        else:
            await self._submit(sftp, files, record, None, deadline)

    async def settle(self, transfer: str, deadline: Deadline) -> Standing | None:
        """Take the next step of a transfer if there is one. None: it has ended, or goes through no object store."""
        files = RecordFiles(self._folder, transfer)
        async with self._sftp(deadline) as sftp:
            record, end, progress = await asyncio.gather(
                storage.read_record(sftp, files), storage.read_end(sftp, files), storage.read_progress(sftp, files)
            )
            if record is None or record.method != "s3" or end is not None:
                return None
            if progress is not None and progress.job_id:
                return await self._moving(sftp, files, record, progress, deadline)
            if record.direction == "download":
                return await self._sending(sftp, files, record)
            return await self._waiting(sftp, files, record, deadline)

    async def cancel(self, transfer: str, deadline: Deadline) -> bool:
        """End a transfer, its job and its object. False if it goes through no object store."""
        files = RecordFiles(self._folder, transfer)
        async with self._sftp(deadline) as sftp:
            record, end, progress = await asyncio.gather(
                storage.read_record(sftp, files), storage.read_end(sftp, files), storage.read_progress(sftp, files)
            )
            if record is None or record.method != "s3":
                return False
            if end is None:
                await self._watch.stop(transfer)
                if progress is not None and progress.job_id:
                    with suppress(NotFound):
                        await self._scheduler.cancel(progress.job_id, deadline)
                await self._cancelled(sftp, files, record)
        return True

    async def _cancelled(self, sftp: Sftp, files: RecordFiles, record: Record) -> None:
        """Record the end of a transfer that was cancelled: as complete if the file is in its place already."""
        await storage.discard(sftp, record.data)  # nothing can be put in its place any more
        if record.direction == "upload" and await is_landed(self._session, record):
            await storage.finish(sftp, files, End("COMPLETED", int(time.time())), UPLOADED)
        # the end that is recorded first stays
        await self._close(sftp, files, record, "CANCELLED", "The transfer was cancelled.")

    # --- the states

    async def _waiting(self, sftp: Sftp, files: RecordFiles, record: Record, deadline: Deadline) -> Standing | None:
        """An upload whose object may be complete."""
        item = self._access.place(record, self._username)
        store, state = self._access.store, "PENDING"
        try:
            found = await store.head(item.bucket, item.key, deadline)
            if found is None:
                try:
                    if await store.has_parts(item.bucket, item.key, item.upload, deadline):
                        state = "RUNNING"
                except NotFound:  # it was aborted, or completed just now
                    found = await store.head(item.bucket, item.key, deadline)
                    state = "CANCELLED"
        except GatewayError as error:
            return Standing("PENDING", Stage.WAITING, error.public)
        if found is None:
            return await self._uploading(sftp, files, record, state)
        if found.size != record.size:
            line = f"The object has {found.size} bytes, the file {record.size}: a part is missing or has another size."
            await self._close(sftp, files, record, "FAILED", f"{line} Start the transfer again.")
            return None
        if self._access.mover == "gateway":
            self._watch.run(files.transfer, lambda: self._relay.fetch(files.transfer, found))
            return self._by_gateway(files, "The gateway fetches the object")
        return await self._fetch(sftp, files, record, found, deadline)

    async def _uploading(self, sftp: Sftp, files: RecordFiles, record: Record, state: str) -> Standing | None:
        """An upload whose object is not complete."""
        if state == "CANCELLED":
            await self._close(sftp, files, record, "CANCELLED", "The upload was aborted.")
            return None
        if names.expiry(files.transfer) - MOVING <= time.time():
            await self._close(sftp, files, record, "TIMEOUT", "The upload was not completed in time.")
            return None
        stage = Stage.RUNNING if state == "RUNNING" else Stage.WAITING
        return Standing(state, stage, "The upload to the object store is not complete")

    async def _fetch(
        self, sftp: Sftp, files: RecordFiles, record: Record, found: StoredObject, deadline: Deadline
    ) -> Standing | None:
        try:
            async with acquire(sftp, files.lock) as lock, beating(lock):
                progress = await storage.read_progress(sftp, files)
                if progress is None or not progress.job_id:
                    await self._submit(sftp, files, record, found, deadline)
        except (Invalid, Denied, Unsupported) as error:
            await self._close(sftp, files, record, "FAILED", f"The mover job was refused: {error.public}")
            return None
        except Locked:
            return Standing("PENDING", Stage.WAITING, "The object is complete; its mover job is being submitted")
        except GatewayError as error:
            return Standing("PENDING", Stage.WAITING, f"The mover job cannot be submitted: {error.public}")
        return Standing("PENDING", Stage.WAITING, "The mover job was submitted", moving=True)

    async def _sending(self, sftp: Sftp, files: RecordFiles, record: Record) -> Standing | None:
        """A download without a mover job."""
        if names.expiry(files.transfer) <= time.time():
            await self._close(sftp, files, record, "TIMEOUT", "The download was not finished in time.")
            return None
        if self._access.mover == "gateway":
            self._watch.run(files.transfer, lambda: self._relay.send(files.transfer))
            return self._by_gateway(files, "The gateway sends the file")
        if record.created + LOST < time.time():
            await self._close(sftp, files, record, "FAILED", "The mover job was not submitted.")
            return None
        return Standing("PENDING", Stage.WAITING)

    def _by_gateway(self, files: RecordFiles, what: str) -> Standing:
        error = self._watch.failed(files.transfer)
        again = "" if error is None else f" again. The last attempt has failed: {error}"
        return Standing("RUNNING", Stage.RUNNING, what + again, moving=True)

    async def _moving(
        self, sftp: Sftp, files: RecordFiles, record: Record, progress: Progress, deadline: Deadline
    ) -> Standing | None:
        """A transfer whose mover job was submitted: the job has the state, unless it has noted an end itself."""
        named = f"Job {progress.job_id}"
        try:
            (job,) = await self._scheduler.job(progress.job_id, deadline)
        except NotFound:
            if progress.at + LOST > time.time():
                return Standing("PENDING", Stage.WAITING, f"{named} was submitted", moving=True)
            state, code, reason = "FAILED", None, "is not known to the scheduler any more"
        else:
            state, code = job.state, job.exit_code
            if job.stage is not Stage.ENDED:
                return Standing(state, job.stage, f"{named}: {job.reason}" if job.reason else named, moving=True)
            reason = f"has ended in state {state}"
        if await storage.read_end(sftp, files) is not None:
            return None
        succeeded = state == "COMPLETED" and code in {0, None}
        if succeeded or (record.direction == "upload" and await self._landed(sftp, record)):
            line = UPLOADED if record.direction == "upload" else SENT
            await storage.finish(sftp, files, End("COMPLETED", int(time.time())), line)
            return None
        kept = " The older file at its place is unchanged." if record.details.get("replaces") else ""
        ended: EndState = "CANCELLED" if state == "CANCELLED" else "TIMEOUT" if state == "TIMEOUT" else "FAILED"
        line, again = f"{named} {reason} before the data was moved.{kept}", record.direction == "upload"
        await close(sftp, files, record, self._store, ended, line, keep_object=again and ended != "CANCELLED")
        return None

    async def _landed(self, sftp: Sftp, record: Record) -> bool:
        with suppress(SftpError):
            await sftp.lstat(os.fsencode(record.data))
            return False
        return await is_landed(self._session, record)

    # --- steps

    async def _submit(
        self, sftp: Sftp, files: RecordFiles, record: Record, found: StoredObject | None, deadline: Deadline
    ) -> None:
        """Submit the mover job, and note its id. That of a download is submitted when its id was just made."""
        item, plan, private, life = (
            self._access.place(record, self._username),
            parts_of(record),
            self._access.private,
            self._access.url_life,
        )
        place, upload = (item.bucket, item.key), {"uploadId": item.upload}
        if found is not None:
            urls = [private.url("GET", *place, life), private.url("DELETE", *place, life)]
            mode = None if record.details.get("replaces") else DataFile.of(record).mode
            etag = "" if found.encrypted else found.etag
            places = (record.data, record.target)
            sha256 = sha256_of(record)
            script = fetch_script(files.base, plan, self._access.parallel, *places, mode, etag, sha256)
            job = TransferJob.of("upload", "uploaded", script)
        else:
            urls = [private.url("POST", *place, life, upload), private.url("DELETE", *place, life, upload)]
            urls += [private.url("HEAD", *place, life), *await self._access.part_urls(private, item, plan.count)]
            mtime = record.details.get("mtime")
            script = send_script(files.base, plan, self._access.parallel, record.path, int(mtime or 0))
            job = TransferJob.of("download", "downloaded", script)
        await storage.write_urls(sftp, files, urls)
        submitted = await self._submitter.submit(
            job, deadline, account=item.account or None, key=files.transfer, new=found is None
        )
        progress = Progress(int(time.time()), total=record.size, job_id=submitted.job_id)
        await storage.write_progress(sftp, files, progress)

    async def _close(self, sftp: Sftp, files: RecordFiles, record: Record, state: EndState, line: str) -> None:
        await close(sftp, files, record, self._store, state, line)

    @asynccontextmanager
    async def _sftp(self, deadline: Deadline) -> AsyncIterator[Sftp]:
        try:
            async with self._session.open_sftp(deadline) as sftp:
                yield sftp
        except SftpError as error:
            raise storage.explained(error, "transfer") from None
