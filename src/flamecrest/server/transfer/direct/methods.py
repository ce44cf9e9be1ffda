"""Start uploads and downloads through the gateway: create the record, sign the URLs."""

from __future__ import annotations

import asyncio
import os
import stat as stat_bits
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from flamecrest.server.errors import Field, Invalid, NotFound
from flamecrest.server.files.paths import check_new_file
from flamecrest.server.files.remote.replacement.targets import find_target
from flamecrest.server.files.remote.writing import require_regular
from flamecrest.server.files.values import DEFAULT_WRITE
from flamecrest.server.ssh.channels.sftp_packets import FLAG_READ, NO_ATTRS, NO_SUCH_FILE, PERMISSION_DENIED, SftpError
from flamecrest.server.transfer.direct.landing import identify
from flamecrest.server.transfer.direct.links import Ticket, depth_within
from flamecrest.server.transfer.direct.parts import DataFile, PartPlan, plan_of
from flamecrest.server.transfer.direct.uploads import is_done, read_slots
from flamecrest.server.transfer.port import S3Directives, StartedTransfer, SubmittedTransfer
from flamecrest.server.transfer.records import names, storage
from flamecrest.server.transfer.records.names import RecordFiles, WorkFolder
from flamecrest.server.transfer.records.record import End, Record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.files.remote.replacement.questions import Target
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.channels.sftp_packets import Attrs
    from flamecrest.server.ssh.port import Session
    from flamecrest.server.transfer.direct.links import LinkSigner
    from flamecrest.server.transfer.port import TransferRequest
    from flamecrest.server.transfer.records.sweeping import Sweeps

T = TypeVar("T")

READY: Final = "File was successfully opened. It can be downloaded until the URL expires."  # clients read it


@dataclass(frozen=True, slots=True)
class DirectOptions:
    """Of all transfers: the key of their URLs, how long they may take (seconds), and the size of parts (bytes)."""

    signer: LinkSigner
    lifetime: float
    part_size: int


class DirectTransfers:
    """The TransferMethod port over one user's session. `work` is the user's directory for logs and records.

    `within`: the folders that links must not lead out of when a signed URL is used; see Ticket.
    """

    def __init__(
        self,
        session: Session,
        username: str,
        work: WorkFolder,
        options: DirectOptions,
        sweeps: Sweeps,
        within: Sequence[str] = (),
    ) -> None:
        self._session = session
        self._username = username
        self._work = work
        self._options = options
        self._sweeps = sweeps
        self._within = within

    async def upload(
        self,
        path: str,
        deadline: Deadline,
        *,
        account: str | None,  # noqa: ARG002 -- no job is submitted
        request: TransferRequest,
    ) -> StartedTransfer:
        ticket = await self.begin(path, request, deadline)
        return StartedTransfer(self._job(ticket.transfer), self._signed(ticket, request.method))

    async def begin(self, path: str, request: TransferRequest, deadline: Deadline) -> Ticket:
        """Create the record of an upload, and the file for its parts."""
        prefix = f"upload: {path}"
        plan = PartPlan.of(require_upload(path, request), self._options.part_size)
        files, expires = self._new()

        async def use(sftp: Sftp) -> str:
            target = await prepare_target(self._session, sftp, self._work, path, deadline)
            with self._sweeps.after(self._session, files.folder):
                data, mode = await create_data(sftp, files, target, prefix)
                try:
                    details = asdict(DataFile(plan.part_size, await identify(self._session, data), mode))
                    if request.sha256:
                        details["sha256"] = request.sha256
                    record = Record(
                        "direct", "upload", path, int(time.time()), plan.size,
                        os.fsdecode(target.path), os.fsdecode(data), details=details,
                    )  # fmt: skip
                    line = storage.log_line(f"Upload of {plan.size} bytes was started.")
                    await storage.begin(sftp, files, record, line)
                except BaseException:
                    sftp.forget(sftp.remove(data))
                    raise
                return record.data

        data = await self._sftp(use, deadline, prefix)
        return Ticket(self._username, self._work.cluster, files.transfer, path, data, plan, expires)

    async def unfinished(
        self, transfer: str, path: str, size: int, deadline: Deadline
    ) -> tuple[Ticket, set[int]] | None:
        """An upload to `path` that can go on, and the numbers of its complete parts; None if there is none."""
        if not names.is_transfer_id(transfer):
            return None
        files = RecordFiles(self._work.records, transfer)

        async def use(sftp: Sftp) -> tuple[Ticket, set[int]] | None:
            record, end = await asyncio.gather(storage.read_record(sftp, files), storage.read_end(sftp, files))
            if record is None or end is not None or (record.method, record.direction) != ("direct", "upload"):
                return None
            if (record.path, record.size) != (path, size) or not await storage.exists(sftp, os.fsencode(record.data)):
                return None
            done = {number for number, slot in enumerate(await read_slots(sftp, files, record), 1) if is_done(slot)}
            return self._ticket(transfer, record), done

        return await self._sftp(use, deadline, f"upload: {path}")

    async def resume(self, transfer: str, record: Record, method: str) -> StartedTransfer:
        """New URLs for an upload that has not ended."""
        return StartedTransfer(self._job(transfer), self._signed(self._ticket(transfer, record), method))

    def _ticket(self, transfer: str, record: Record) -> Ticket:
        expires = names.expiry(transfer)
        return Ticket(self._username, self._work.cluster, transfer, record.path, record.data, plan_of(record), expires)

    async def download(
        self,
        path: str,
        deadline: Deadline,
        *,
        account: str | None,  # noqa: ARG002 -- no job is submitted
        request: TransferRequest,
    ) -> StartedTransfer:
        prefix = f"download: {path}"
        files, expires = self._new()

        async def use(sftp: Sftp) -> None:
            name = os.fsencode(path)
            size = require_regular(prefix, await sftp.stat(name)).size
            async with sftp.handle(sftp.open_file(name, FLAG_READ)):
                pass  # the file may be read
            await storage.create_folder(sftp, files.folder)
            with self._sweeps.after(self._session, files.folder):
                now = int(time.time())
                await storage.begin(sftp, files, Record("direct", "download", path, now, size or 0), b"")
                await storage.finish(sftp, files, End("COMPLETED", now), READY)

        await self._sftp(use, deadline, prefix)
        depth = depth_within(path, self._within)
        ticket = Ticket(self._username, self._work.cluster, files.transfer, path, expires=expires, depth=depth)
        url = self._options.signer.url("GET", "content", ticket)
        return StartedTransfer(self._job(files.transfer), S3Directives(method=request.method, download_url=url))

    def _new(self) -> tuple[RecordFiles, int]:
        expires = int(time.time() + self._options.lifetime)
        return RecordFiles(self._work.records, names.new_id(expires)), expires

    def _signed(self, ticket: Ticket, method: str) -> S3Directives:
        signer = self._options.signer
        start, urls = signer.part_urls(ticket)
        return S3Directives(
            method=method,
            parts_start=start,
            parts_upload_urls=urls,
            complete_upload_url=signer.url("POST", "uploads", ticket),
            abort_upload_url=signer.url("DELETE", "uploads", ticket),
            max_part_size=ticket.plan.part_size,
        )

    def _job(self, transfer: str) -> SubmittedTransfer:
        files = RecordFiles(self._work.records, transfer)
        return SubmittedTransfer(files.transfer, self._work.path, os.fsdecode(files.log), os.fsdecode(files.errors))

    async def _sftp(self, use: Callable[[Sftp], Awaitable[T]], deadline: Deadline, prefix: str) -> T:
        try:
            return await self._session.sftp(use, deadline)
        except SftpError as error:
            raise storage.explained(error, prefix) from None


def require_upload(path: str, request: TransferRequest) -> int:
    """The size of the file to upload. Raises Invalid if the request lacks it, or if no file can have the path."""
    if request.file_size is None:
        raise Invalid("`fileSize`: Field required", fields=(Field("body", "fileSize", "Field required"),))
    check_new_file(path)
    return request.file_size


async def prepare_target(session: Session, sftp: Sftp, work: WorkFolder, path: str, deadline: Deadline) -> Target:
    """What an upload to `path` creates or replaces. The folder of records is created meanwhile."""
    looking = find_target(session, sftp, os.fsencode(path), DEFAULT_WRITE, f"upload: {path}", deadline)
    creating = storage.create_folder(sftp, work.records)
    target, created = await asyncio.gather(looking, creating, return_exceptions=True)
    if isinstance(target, BaseException):
        raise target
    if created is not None:
        raise created
    return target


async def create_data(sftp: Sftp, files: RecordFiles, target: Target, prefix: str) -> tuple[bytes, int]:
    """Create the file for the parts, which only its owner may read; its path, and the mode that a new target gets.

    It is beside the target, or in the folder of records if the folder of an existing target takes no new file.
    """
    folder = target.path.rpartition(b"/")[0] or b"/"
    path = names.data_beside(folder, files.transfer)
    # Who opened it while it is empty could read what comes. Without the mode of a new file it shows that at first.
    attrs = NO_ATTRS if target.existing is None and not target.new_mode else storage.PRIVATE
    try:
        return path, await _create_private(sftp, path, attrs, target.new_mode)
    except SftpError as error:
        if error.code == NO_SUCH_FILE:
            text = f"{prefix}: No such file or directory. The folder for the file must exist: "
            raise NotFound(text + folder.decode("utf-8", "replace")) from None
        if error.code != PERMISSION_DENIED or target.existing is None:
            raise storage.explained(error, prefix) from None
    return files.data, await _create_private(sftp, files.data, storage.PRIVATE, None)


async def _create_private(sftp: Sftp, path: bytes, attrs: Attrs, mode: int | None) -> int:
    async with sftp.handle(sftp.open_file(path, storage.NEW, attrs)) as handle:
        if attrs is NO_ATTRS:
            mode = (await sftp.fstat(handle)).mode or 0
            await sftp.fsetstat(handle, storage.PRIVATE)
    return stat_bits.S_IMODE(mode or 0o600)
