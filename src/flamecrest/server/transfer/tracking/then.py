"""The job that is submitted once when a transfer is complete. It is kept beside the record until then.

The file is signed: the user may submit jobs, or not, when the transfer is started; nobody may when it is read.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter, ValidationError

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Conflict, Denied, GatewayError, Invalid, Unsupported
from flamecrest.server.files.remote.replacement.opening import opened_itself
from flamecrest.server.files.remote.writing import within_stall_timeout
from flamecrest.server.schedulers.values import JobSpec
from flamecrest.server.ssh.channels.sftp_packets import FAILURE, FLAG_READ, NO_SUCH_FILE, PERMISSION_DENIED, SftpError
from flamecrest.server.transfer.records import names, storage
from flamecrest.server.transfer.records.record import MAX_RECORD

if TYPE_CHECKING:
    from collections.abc import Callable

    from flamecrest.server.schedulers.port import Submitter
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.port import Session
    from flamecrest.server.transfer.direct.links import LinkSigner
    from flamecrest.server.transfer.records.names import RecordFiles

SUBMISSION: Final = 60.0  # seconds
MAX_JOB: Final = 1024 * 1024  # bytes
OTHER_KEY: Final = (
    "The job was kept by a gateway with another key: it was restarted without transfers.signing_key, or its replicas "
    "have different keys. Submit the job yourself."
)
UNREADABLE: Final = "The file in which the job was kept cannot be read any more. Submit the job yourself."
_SPECS: Final = TypeAdapter(JobSpec)
_FINAL: Final = (Invalid, Denied, Unsupported, Conflict)


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job that was submitted, or why it was refused."""

    job_id: str | None = None
    error: str | None = None


class ThenSubmit:
    """Keeps and submits the jobs of one user on one cluster."""

    def __init__(self, user: str, cluster: str, signer: LinkSigner, submitter: Callable[[], Submitter]) -> None:
        self._purpose = f"then\n{user}\n{cluster}"
        self._signer = signer
        self._submitter = submitter

    def pack(self, transfer: str, spec: JobSpec) -> bytes:
        """The content of the file. Raises Invalid for a job that cannot be kept."""
        keyed = replace(spec, idempotency_key=spec.idempotency_key or f"flamecrest {names.identity(transfer)}")
        try:
            text = _SPECS.dump_json(keyed)
        except ValueError:
            raise Invalid("`thenSubmit`: its texts must be UTF-8") from None
        if len(text) > MAX_JOB:
            raise Invalid("`thenSubmit`: the job is too long")
        return self._signer.seal(f"{self._purpose}\n{transfer}", text).encode() + b"\n" + text

    async def keep(self, sftp: Sftp, files: RecordFiles, packed: bytes) -> None:
        """Write the file. Raises SftpError."""
        async with sftp.handle(sftp.open_file(files.then, storage.NEW, storage.PRIVATE)) as handle:
            for start in range(0, len(packed), storage.PIECE):
                piece = packed[start : start + storage.PIECE]
                await within_stall_timeout(sftp, sftp.write(handle, start, piece))

    async def kept(self, sftp: Sftp, files: RecordFiles) -> JobSpec | None:
        """The job of a transfer, for another that does the same: it is submitted once for both."""
        packed, _ = await _read(sftp, files)
        return None if packed is None else self.parse(files.transfer, packed)

    async def submit(self, files: RecordFiles, session: Session) -> Submitted | None:
        """Submit the job of a complete transfer, unless that was done; None if it has none. Can be repeated.

        `session` is that of the records. Raises what the scheduler raises if it may succeed another time; a refusal is
        returned.
        """
        packed, before = await session.sftp(lambda sftp: _read_or_reason(sftp, files), Deadline.after(SUBMISSION))
        if before is not None or packed is None:
            return before
        try:
            if isinstance(packed, GatewayError):
                raise packed
            job_id = await self._submitter().submit(self.parse(files.transfer, packed), Deadline.after(SUBMISSION))
            found = Submitted(job_id)
        except _FINAL as error:
            found = Submitted(error=error.public)
        await session.sftp(lambda sftp: _note(sftp, files, found), Deadline.after(SUBMISSION))
        return found

    def parse(self, transfer: str, packed: bytes) -> JobSpec:
        """The job that `pack` has packed. Raises Conflict for anything else."""
        seal, _, text = packed.partition(b"\n")
        if seal.decode("ascii", "replace") != self._signer.seal(f"{self._purpose}\n{transfer}", text):
            raise Conflict(OTHER_KEY)
        try:
            spec: JobSpec = _tuples(_SPECS.validate_json(text))
        except ValidationError:
            raise Conflict("The job was kept by another version of the gateway. Submit it yourself.") from None
        return spec


def _tuples(value: Any) -> Any:
    """A value of JSON with tuples for lists, as defaults have them: a scheduler refuses fields that have no default."""
    if isinstance(value, list):
        return tuple(map(_tuples, value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _tuples(getattr(value, field.name)) for field in fields(value)})
    return value


async def submitted(sftp: Sftp, files: RecordFiles) -> Submitted | None:
    """What became of the job of a transfer; None if it was not submitted."""
    data = await storage.read_file(sftp, files.job)
    if data is None:
        return None
    try:
        found = json.loads(data)
        job_id, error = found["job_id"], found["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return Submitted(error="The record of the job was damaged")
    return Submitted(job_id if isinstance(job_id, str) else None, error if isinstance(error, str) else None)


async def _read(sftp: Sftp, files: RecordFiles) -> tuple[bytes | None, Submitted | None]:
    before = await submitted(sftp, files)
    try:
        async with opened_itself(sftp, files.then, FLAG_READ, "transfer") as (handle, attrs):
            data = b""
            while len(data) < min(attrs.size or 0, 2 * MAX_JOB):
                piece: bytes = await within_stall_timeout(sftp, sftp.read(handle, len(data), storage.PIECE))
                data += piece
            return data, before
    except SftpError as error:
        if error.code != NO_SUCH_FILE:
            raise
        return None, before


async def _read_or_reason(sftp: Sftp, files: RecordFiles) -> tuple[bytes | GatewayError | None, Submitted | None]:
    """The same as `_read`, with the reason in place of a file that will not be readable another time either."""
    try:
        return await _read(sftp, files)
    except SftpError as error:
        if error.code != PERMISSION_DENIED:
            raise
    except (Invalid, Conflict, Denied):  # a link, a folder
        pass
    return Conflict(UNREADABLE), await submitted(sftp, files)


async def _note(sftp: Sftp, files: RecordFiles, found: Submitted) -> None:
    content = json.dumps({"job_id": found.job_id, "error": found.error, "at": int(time.time())}).encode()[:MAX_RECORD]
    try:
        await storage.create_file(sftp, files.job, content)
    except SftpError as error:
        if error.code != FAILURE:
            raise
    if found.job_id:
        await storage.append_log(sftp, files.log, f"Job {found.job_id} was submitted.")
    else:
        await storage.append_log(sftp, files.errors, f"The job was not submitted: {found.error}")
