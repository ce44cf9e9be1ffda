"""Answers to requests with an idempotency key, in the folder of records: a repeated request gets the first answer.

The file of a key is created exclusively before anything is done, so that one request of all replicas does it. The
answer is written beside it. Both are the user's own files, which nobody else may read: answers contain signed URLs.
"""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from flamecrest.server.errors import Conflict, InProgress, KeyReused
from flamecrest.server.files.remote.replacement.opening import opened_itself
from flamecrest.server.files.remote.writing import within_stall_timeout
from flamecrest.server.ssh.channels.sftp_packets import FAILURE, FLAG_READ, NO_SUCH_FILE, SftpError
from flamecrest.server.transfer.records import storage
from flamecrest.server.transfer.records.record import damaged

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flamecrest.server.deadline import Deadline
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.port import Session

T = TypeVar("T")
MAX_ANSWER: Final = 16 * 1024 * 1024  # bytes; 10,000 URLs have some 4 MiB
STALE: Final = 120.0  # seconds, of the clock of the cluster's files, after which a request without an answer has died


class Answers:
    """The answers of one user. `folder` has the records. All methods raise what Session.sftp raises."""

    def __init__(self, session: Session, folder: bytes) -> None:
        self._session = session
        self._folder = folder

    async def claim(self, key: str, request: str, deadline: Deadline, *, submits: bool) -> dict[str, Any] | None:
        """The answer to the first request with this key; None: this is the first, which has to do it.

        `request` is a digest of it. Raises KeyReused if it was another request, InProgress while the first is being
        processed. If the first has died it is done again, unless it `submits` a job: then Conflict is raised.
        """
        path = self._path(key)

        async def use(sftp: Sftp) -> dict[str, Any] | None:
            await storage.create_folder(sftp, self._folder)
            content = json.dumps({"request": request, "at": int(time.time())}).encode()
            try:
                await storage.create_file(sftp, path, content)
            except SftpError as error:
                found = await storage.read_file(sftp, path) if error.code == FAILURE else None
                if found is None:  # FAILURE is the status for a file that exists, too
                    raise
            else:
                return None
            first = _parse(found)
            if first.get("request") != request:
                raise KeyReused("This Idempotency-Key was used for another request. Use a new key for each request.")
            answer = await _read(sftp, path + b"-answer")
            if answer is not None:
                return _parse(answer)
            at = first.get("at")
            if isinstance(at, int) and abs(time.time() - at) < STALE:
                raise InProgress("A request with this Idempotency-Key is being processed. Send it again later.")
            if submits:
                raise Conflict(
                    "A request with this Idempotency-Key was interrupted: a job may have been submitted. "
                    "Look at the list of transfers, and use a new key."
                )
            return None

        return await self._sftp(use, deadline)

    async def keep(self, key: str, answer: dict[str, Any], deadline: Deadline) -> None:
        """Keep the answer to the first request. Repeating it is no error."""
        data = json.dumps(answer).encode()

        async def use(sftp: Sftp) -> None:
            try:
                await storage.create_file(sftp, self._path(key) + b"-answer", data)
            except SftpError as error:
                if error.code != FAILURE:
                    raise

        await self._sftp(use, deadline)

    async def forget(self, key: str, deadline: Deadline) -> None:
        """Forget a request that has failed, and has done nothing."""

        async def use(sftp: Sftp) -> None:
            with suppress(SftpError):
                await sftp.remove(self._path(key))

        await self._sftp(use, deadline)

    def _path(self, key: str) -> bytes:
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return self._folder + b"/key-" + digest.encode()

    async def _sftp(self, use: Callable[[Sftp], Awaitable[T]], deadline: Deadline) -> T:
        try:
            return await self._session.sftp(use, deadline)
        except SftpError as error:
            raise storage.explained(error, "transfer") from None


async def _read(sftp: Sftp, path: bytes) -> bytes | None:
    try:
        async with opened_itself(sftp, path, FLAG_READ, "transfer") as (handle, attrs):
            data = bytearray()
            while len(data) < min(attrs.size or 0, MAX_ANSWER):
                piece: bytes = await within_stall_timeout(sftp, sftp.read(handle, len(data), sftp.read_size))
                data += piece
            return bytes(data)
    except SftpError as error:
        if error.code == NO_SUCH_FILE:
            return None
        raise


def _parse(data: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(data or b"")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise damaged()
    return found
