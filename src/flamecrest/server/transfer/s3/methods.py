"""Start uploads and downloads through an object store: begin the object, write the record, presign the URLs."""

from __future__ import annotations

import asyncio
import math
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from flamecrest.server.errors import Conflict, GatewayError, Gone, NotFound
from flamecrest.server.files.remote.replacement.targets import find_target
from flamecrest.server.files.remote.writing import require_regular
from flamecrest.server.files.values import DEFAULT_WRITE
from flamecrest.server.ssh.channels.sftp_packets import FLAG_READ, SftpError
from flamecrest.server.transfer.direct.landing import identify
from flamecrest.server.transfer.direct.methods import create_data, prepare_target, require_upload
from flamecrest.server.transfer.direct.parts import DataFile, PartPlan
from flamecrest.server.transfer.port import S3Directives, StartedTransfer, SubmittedTransfer, TransferRequest
from flamecrest.server.transfer.records import names, storage
from flamecrest.server.transfer.records.names import RecordFiles, WorkFolder
from flamecrest.server.transfer.records.record import End, Progress, Record, sha256_of

from .access import MOVING, ObjectPlace, parts_of
from .naming import content_disposition, object_key, part_plan

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files.remote.replacement.questions import Target
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.port import Session
    from flamecrest.server.transfer.records.sweeping import Sweeps

    from .access import StoreAccess
    from .moves import StoreMoves

T = TypeVar("T")
WAITS: Final = "Upload of {size} bytes was started. The file is fetched when it is complete in the object store."


@dataclass(frozen=True, slots=True)
class SeenTransfer:
    """A transfer, and how far it is."""

    record: Record
    end: End | None
    progress: Progress | None


class StoreTransfers:
    """The TransferMethod port over an object store, for one user. `moves` moves the data on the cluster's side.

    Raises in addition what Store raises.
    """

    def __init__(
        self, session: Session, username: str, work: WorkFolder, access: StoreAccess, moves: StoreMoves,
        sweeps: Sweeps,
    ) -> None:  # fmt: skip
        self._session = session
        self._username = username
        self._work = work
        self._access = access
        self._moves = moves
        self._sweeps = sweeps

    async def upload(
        self, path: str, deadline: Deadline, *, account: str | None, request: TransferRequest
    ) -> StartedTransfer:
        prefix = f"upload: {path}"
        plan = part_plan(require_upload(path, request), self._access.part_size)
        files = self._new()

        async def use(sftp: Sftp) -> ObjectPlace:
            target = await prepare_target(self._session, sftp, self._work, path, deadline)
            self._moves.check(account)
            with self._sweeps.after(self._session, files.folder):
                item = await self._begin(files, path, account, deadline, request.sha256)
                try:
                    await self._record_upload(sftp, files, path, target, plan, item, request.sha256)
                except BaseException:
                    await self._discard(item)
                    raise
                return item

        item = await self._sftp(use, deadline, prefix)
        self._moves.follow(files.transfer, item)
        return StartedTransfer(self._job(files), await self._signed(item, plan))

    async def resume(self, transfer: str, record: Record, deadline: Deadline) -> StartedTransfer:
        """New URLs for an upload whose object is not complete. Raises Conflict if it is, or if it was aborted."""
        item, files = self.place(record), RecordFiles(self._work.records, transfer)
        try:
            await self._access.store.has_parts(item.bucket, item.key, item.upload, deadline)
        except NotFound:
            raise Conflict("The transfer is still under way. Cancel it first.") from None
        left = max(1.0, names.expiry(transfer) - MOVING - time.time())
        return StartedTransfer(self._job(files), await self._signed(item, parts_of(record), left))

    async def _signed(self, item: ObjectPlace, plan: PartPlan, left: float = math.inf) -> S3Directives:
        """The URLs of an upload, which are valid for `left` seconds at most."""
        public, life = self._access.public, min(self._access.url_life, left)
        query = {"uploadId": item.upload}
        return S3Directives(
            parts_upload_urls=await self._access.part_urls(public, item, plan.count, life),
            complete_upload_url=public.url("POST", item.bucket, item.key, life, query),
            abort_upload_url=public.url("DELETE", item.bucket, item.key, life, query),
            max_part_size=plan.part_size,
        )

    async def download(
        self,
        path: str,
        deadline: Deadline,
        *,
        account: str | None,
        request: TransferRequest,  # noqa: ARG002 -- it has no parameters
        copy: str = "",
    ) -> StartedTransfer:
        """See the port. `copy` is the id of a transfer of which this is a step."""
        prefix = f"download: {path}"
        files = self._new()

        async def use(sftp: Sftp) -> ObjectPlace:
            name = os.fsencode(path)
            found = require_regular(prefix, await sftp.stat(name))
            async with sftp.handle(sftp.open_file(name, FLAG_READ)):
                pass  # the file may be read
            plan = part_plan(found.size, self._access.part_size)
            await storage.create_folder(sftp, files.folder)
            with self._sweeps.after(self._session, files.folder):
                item = await self._begin(files, path, account, deadline)
                try:
                    details = item.details(DataFile(plan.part_size)) | {"mtime": int(found.mtime)} | _step_of(copy)
                    record = Record("s3", "download", path, int(time.time()), found.size, key=item.key, details=details)
                    line = f"Download of {found.size} bytes was started."
                    await storage.begin(sftp, files, record, storage.log_line(line))
                    await self._moves.start(sftp, files, record, deadline)
                except BaseException:
                    await self._discard(item)
                    for left in (files.record, files.log, files.errors, files.urls):
                        sftp.forget(sftp.remove(left))
                    raise
            return item

        item = await self._sftp(use, deadline, prefix)
        url = self._access.public.url("GET", item.bucket, item.key, self._access.url_life)
        return StartedTransfer(self._job(files), S3Directives(download_url=url))

    async def again(self, record: Record, deadline: Deadline) -> StartedTransfer | SubmittedTransfer:
        """Start a transfer again that has ended without success.

        An upload goes on with the object that is in the store; without one it begins anew, with URLs for its client.
        """
        if record.direction == "download":
            account = self.place(record).account or None
            return await self.download(record.path, deadline, account=account, request=TransferRequest("s3"))
        item = self.place(record)
        if await self._access.store.head(item.bucket, item.key, deadline) is None:
            request = TransferRequest("s3", record.size, sha256=sha256_of(record))
            return await self.upload(record.path, deadline, account=item.account or None, request=request)
        return await self.receive(record.path, item, parts_of(record), sha256_of(record), deadline)

    async def receive(
        self, path: str, item: ObjectPlace, plan: PartPlan, sha256: str, deadline: Deadline, copy: str = ""
    ) -> SubmittedTransfer:
        """Move an object that is complete to a file. The file must have the digest, unless that is empty.

        `copy` is the id of a transfer of which this is a step.
        """
        prefix, files = f"upload: {path}", self._new()

        async def use(sftp: Sftp) -> None:
            target = await prepare_target(self._session, sftp, self._work, path, deadline)
            await self._record_upload(sftp, files, path, target, plan, item, sha256, copy)

        await self._sftp(use, deadline, prefix)
        await self._moves.settle(files.transfer, deadline)
        return self._job(files)

    def copies_to(self, other: StoreTransfers | None) -> bool:
        """Whether copies to another cluster go through the object store, which both use."""
        access = self._access
        return access.copies and other is not None and access.store.is_same(other._access.store)  # noqa: SLF001

    async def check_target(self, path: str, deadline: Deadline) -> None:
        """Raise the reason if the path is that of no file, or its folder does not exist."""
        prefix = f"upload: {path}"

        async def use(sftp: Sftp) -> None:
            target = await find_target(self._session, sftp, os.fsencode(path), DEFAULT_WRITE, prefix, deadline)
            await sftp.stat(target.path.rpartition(b"/")[0] or b"/")

        await self._sftp(use, deadline, prefix)

    async def look(self, transfer: str, deadline: Deadline) -> SeenTransfer:
        """Take the next step of a transfer, and say how far it is. Raises Gone if its record was removed."""
        await self._moves.settle(transfer, deadline)
        files = RecordFiles(self._work.records, transfer)

        async def use(sftp: Sftp) -> tuple[Record | None, End | None, Progress | None]:
            return await asyncio.gather(
                storage.read_record(sftp, files), storage.read_end(sftp, files), storage.read_progress(sftp, files)
            )

        record, end, progress = await self._sftp(use, deadline, "transfer")
        if record is None:
            raise Gone("The record of the transfer was removed.")
        return SeenTransfer(record, end, progress)

    async def cancel(self, transfer: str, deadline: Deadline) -> None:
        """End a transfer, unless it has ended, and remove its object then."""
        await self._moves.cancel(transfer, deadline)

    async def cancel_steps(self, copy: str, deadline: Deadline) -> None:
        """End the steps of a copy: a job that still waits would replace the target later. Its object is removed."""
        for step, record in (await self.steps(copy, deadline)).items():
            await self._moves.cancel(step, deadline)
            if record.direction == "download":
                await self.discard(record)

    async def steps(self, copy: str, deadline: Deadline) -> dict[str, Record]:
        """The steps of a copy on this cluster, by their ids, the newest first."""

        async def use(sftp: Sftp) -> dict[str, Record]:
            known = (await storage.newest(sftp, self._work.records))[: storage.SEARCHED]
            found = await asyncio.gather(*(self._step(sftp, name, copy) for name in known))
            return {name: record for name, record in zip(known, found, strict=True) if record is not None}

        return await self._sftp(use, deadline, "transfer")

    async def _step(self, sftp: Sftp, transfer: str, copy: str) -> Record | None:
        with suppress(Conflict):
            record = await storage.read_record(sftp, RecordFiles(self._work.records, transfer))
            if record is not None and record.method == "s3" and record.details.get("copy") == copy:
                return record
        return None

    def place(self, record: Record) -> ObjectPlace:
        """Where the object of a transfer is. Raises Conflict if the record is damaged."""
        return self._access.place(record, self._username)

    async def discard(self, record: Record) -> None:
        """Remove the object of a transfer."""
        await self._discard(self.place(record))

    async def _record_upload(
        self, sftp: Sftp, files: RecordFiles, path: str, target: Target, plan: PartPlan, item: ObjectPlace,
        sha256: str, copy: str = "",
    ) -> None:  # fmt: skip
        data, mode = await create_data(sftp, files, target, f"upload: {path}")
        try:
            details = item.details(DataFile(plan.part_size, await identify(self._session, data), mode)) | _step_of(copy)
            if sha256:
                details["sha256"] = sha256
            if target.existing is not None:
                details["replaces"] = 1
            record = Record(
                "s3", "upload", path, int(time.time()), plan.size,
                os.fsdecode(target.path), os.fsdecode(data), key=item.key, details=details,
            )  # fmt: skip
            line = storage.log_line(WAITS.format(size=plan.size))
            await storage.begin(sftp, files, record, line, parts=self._access.mover == "gateway")
        except BaseException:
            sftp.forget(sftp.remove(data))
            raise

    async def _begin(
        self, files: RecordFiles, path: str, account: str | None, deadline: Deadline, sha256: str = ""
    ) -> ObjectPlace:
        store, bucket = self._access.store, self._access.bucket(self._username)
        key, disposition = object_key(files.transfer, path), content_disposition(path)
        metadata = {"sha256": sha256} if sha256 else {}
        await store.ensure_bucket(bucket, deadline)
        try:
            upload = await store.begin_upload(bucket, key, disposition, metadata, deadline)
        except NotFound:  # the bucket was removed
            await store.ensure_bucket(bucket, deadline)
            upload = await store.begin_upload(bucket, key, disposition, metadata, deadline)
        return ObjectPlace(bucket, key, upload, account or "")

    async def _discard(self, item: ObjectPlace) -> None:
        with suppress(GatewayError):
            await self._access.store.discard(item.bucket, item.key, item.upload)

    def _new(self) -> RecordFiles:
        expires = int(time.time() + self._access.life + MOVING)
        return RecordFiles(self._work.records, names.new_id(expires))

    def _job(self, files: RecordFiles) -> SubmittedTransfer:
        return SubmittedTransfer(files.transfer, self._work.path, os.fsdecode(files.log), os.fsdecode(files.errors))

    async def _sftp(self, use: Callable[[Sftp], Awaitable[T]], deadline: Deadline, prefix: str) -> T:
        try:
            return await self._session.sftp(use, deadline)
        except SftpError as error:
            raise storage.explained(error, prefix) from None


def _step_of(copy: str) -> dict[str, str | int]:
    """The details of the record of a step of a copy."""
    return {"copy": copy} if copy else {}
