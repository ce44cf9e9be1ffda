"""The gateway as the mover: it streams between the object store and the cluster, part by part, in bounded memory.

Parts of an upload are written as those of an upload through the gateway (transfer/direct), so that they are verified,
put in place, and continued after a restart by the same code.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import httpx

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import (
    Conflict,
    Denied,
    GatewayError,
    Gone,
    Invalid,
    Locked,
    NotFound,
    Unavailable,
    Upstream,
)
from flamecrest.server.ssh.channels.sftp_packets import SftpError
from flamecrest.server.transfer.direct.links import Ticket
from flamecrest.server.transfer.direct.uploads import SLOWEST_SUM, etag_of, read_slots
from flamecrest.server.transfer.records import names, storage
from flamecrest.server.transfer.records.names import RecordFiles, WorkFolder
from flamecrest.server.transfer.records.record import End, Progress, Record

from .access import StoreAccess, parts_of
from .closing import UserStore, close

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from flamecrest.server.files.port import FileContents, Reader
    from flamecrest.server.ssh.channels.sftp import Sftp
    from flamecrest.server.ssh.port import Session
    from flamecrest.server.transfer.direct.parts import PartPlan
    from flamecrest.server.transfer.direct.uploads import RemoteDirectUploads

    from .store import StoredObject

TRIES: Final = 4  # of each part, with pauses of 1, 2, 4 … seconds
OPENING: Final = 60.0  # seconds to open a file or a connection
NOTED_EVERY: Final = 1.0  # seconds, or more, between two notes of the progress
SENT: Final = "Multipart file upload successfully completed. The file can be downloaded until the URL expires."
_TIMEOUT: Final = httpx.Timeout(60.0, pool=None)


class Relay:
    """The mover of one user's transfers. A transfer that fails for good is ended; others go on at the next call."""

    def __init__(
        self,
        session: Session,
        username: str,
        work: WorkFolder,
        access: StoreAccess,
        uploads: RemoteDirectUploads,
        content: FileContents,
        sha256: Callable[[str, Deadline], Awaitable[str]],
        http: httpx.AsyncClient,
    ) -> None:
        self._session = session
        self._username = username
        self._work = work
        self._access = access
        self._uploads = uploads
        self._content = content
        self._sha256 = sha256
        self._http = http

    async def fetch(self, transfer: str, found: StoredObject) -> None:
        """Write the object of an upload to the cluster, and put it in place of its target."""
        files = RecordFiles(self._work.records, transfer)
        async with self._sftp() as sftp:
            record = await storage.read_record(sftp, files)
            if record is None or await storage.read_end(sftp, files) is not None:
                return
            done = [slot is not None and slot.complete for slot in await read_slots(sftp, files, record)]
        item, plan = self._access.place(record, self._username), parts_of(record)
        url = self._access.private.url("GET", item.bucket, item.key, self._access.url_life)
        ticket = Ticket(
            self._username, self._work.cluster, transfer, record.path, record.data, plan, names.expiry(transfer)
        )

        async def move(number: int) -> None:
            start, size = plan.span(number)
            chunks = self._received(url, start, size)
            await self._uploads.put_part(ticket, number, chunks, Deadline.after(OPENING))

        try:
            await self._each([number for number, is_there in enumerate(done, 1) if not is_there], move)
            await self._verify(files, record, found)
            await self._uploads.complete(ticket, None, None, Deadline.after(OPENING))
        except (Invalid, Conflict, Denied, NotFound, Upstream) as error:
            gone = "The file for the data is gone, or was replaced."
            await self._fail(files, record, gone if isinstance(error, Gone) else error.public)
            return
        await self._access.store.remove(item.bucket, item.key)

    async def send(self, transfer: str) -> None:
        """Send the file of a download to the object store, and complete the object."""
        files = RecordFiles(self._work.records, transfer)
        async with self._sftp() as sftp:
            record = await storage.read_record(sftp, files)
            if record is None or await storage.read_end(sftp, files) is not None:
                return
        item, plan = self._access.place(record, self._username), parts_of(record)
        urls = await self._access.part_urls(self._access.private, item, plan.count)
        etags, noted = [""] * plan.count, -NOTED_EVERY

        async def move(number: int) -> None:
            nonlocal noted
            etags[number - 1] = await self._put(record, plan, number, urls[number - 1])
            if time.monotonic() - noted >= NOTED_EVERY:
                noted = time.monotonic()
                await self._note(files, record, sum(plan.span(at)[1] for at, etag in enumerate(etags, 1) if etag))

        summing = asyncio.create_task(self._digest(record))
        try:
            await self._each(range(1, plan.count + 1), move)
            sha256 = await summing
            async with self._opened(record):
                pass  # it is still the same file
            await self._access.store.complete_upload(item.bucket, item.key, item.upload, etags)
        except (Invalid, Conflict, Denied, NotFound, Upstream) as error:
            await self._fail(files, record, error.public)
            return
        finally:
            summing.cancel()
        async with self._sftp() as sftp:
            await storage.finish(sftp, files, End("COMPLETED", int(time.time()), sha256=sha256), SENT)

    async def _note(self, files: RecordFiles, record: Record, done: int) -> None:
        """Note how many bytes were sent, for those who look at the transfer."""
        with suppress(GatewayError, SftpError):
            async with self._sftp() as sftp:
                await storage.write_progress(sftp, files, Progress(int(time.time()), done, record.size))

    async def _digest(self, record: Record) -> str:
        """The SHA-256 of the file of a download, by the cluster; empty where that has no commands."""
        with suppress(GatewayError):
            return await self._sha256(record.path, Deadline.after(OPENING + record.size / SLOWEST_SUM))
        return ""

    @asynccontextmanager
    async def _opened(self, record: Record, start: int = 0) -> AsyncIterator[Reader]:
        """The file of a download. Raises Conflict if it was changed."""
        async with self._content.download(record.path, Deadline.after(OPENING), choose_start=lambda _: start) as reader:
            if (reader.stat.size, int(reader.stat.mtime)) != (record.size, record.details.get("mtime")):
                raise Conflict("The file was changed while it was read. Start the download again.")
            yield reader

    async def _verify(self, files: RecordFiles, record: Record, found: StoredObject) -> None:
        """Raise Invalid unless the parts make the object."""
        async with self._sftp() as sftp:
            etag = etag_of(await read_slots(sftp, files, record))
        if "-" in found.etag and not found.encrypted and found.etag != etag:
            raise Invalid(
                "The data does not have the checksum of the object. Its parts must have the size maxPartSize."
            )

    async def _put(self, record: Record, plan: PartPlan, number: int, url: str) -> str:
        """Send one part; returns its entity tag."""
        start, size = plan.span(number)
        digest = hashlib.md5(usedforsecurity=False)

        async def body() -> AsyncIterator[bytes]:
            async with self._opened(record, start) as reader:
                async for chunk in reader.chunks(start, start + size):
                    digest.update(chunk)
                    yield chunk

        try:
            response = await self._http.put(
                url, content=body(), headers={"Content-Length": str(size)}, timeout=_TIMEOUT
            )
        except httpx.HTTPError as error:
            raise Unavailable("The object store does not respond", detail=type(error).__name__) from None
        if "QuotaExceeded<" in response.text:
            raise Upstream("A quota of the object store is exceeded")
        _require(response, 200)
        etag = response.headers.get("etag", "").strip('"')
        if etag != digest.hexdigest() and "x-amz-server-side-encryption" not in response.headers:
            raise Unavailable(f"Part {number} did not arrive unchanged")
        return str(etag)

    async def _received(self, url: str, start: int, size: int) -> AsyncIterator[bytes]:
        """The content of one part of the object."""
        if not size:
            return
        wanted = {"Range": f"bytes={start}-{start + size - 1}", "Accept-Encoding": "identity"}
        try:
            async with self._http.stream("GET", url, headers=wanted, timeout=_TIMEOUT) as response:
                _require(response, 206)
                async for chunk in response.aiter_raw():
                    yield chunk
        except httpx.HTTPError as error:
            raise Unavailable("The object store does not respond", detail=type(error).__name__) from None

    async def _each(self, numbers: list[int] | range, move: Callable[[int], Awaitable[None]]) -> None:
        """Move all parts, some of them at the same time, and each again if that may help. Raises the first error."""
        free = asyncio.Semaphore(self._access.parallel)

        async def one(number: int) -> None:
            async with free:
                for again in range(TRIES - 1):
                    with suppress(Unavailable, Locked):
                        await move(number)
                        return
                    await asyncio.sleep(2**again)
                await move(number)

        try:
            async with asyncio.TaskGroup() as group:
                for number in numbers:
                    group.create_task(one(number))
        except BaseExceptionGroup as group_error:
            raise group_error.exceptions[0] from None

    async def _fail(self, files: RecordFiles, record: Record, reason: str) -> None:
        if record.details.get("replaces"):
            reason = f"{reason.removesuffix('.')}. The older file at its place is unchanged."
        async with self._sftp() as sftp:
            if await storage.read_end(sftp, files) is not None:
                return  # it was cancelled, or another gateway was faster
            again = record.direction == "upload"
            await close(
                sftp,
                files,
                record,
                UserStore(self._access, self._username),
                "FAILED",
                reason,
                keep_object=again,
            )

    @asynccontextmanager
    async def _sftp(self) -> AsyncIterator[Sftp]:
        try:
            async with self._session.open_sftp(Deadline.after(OPENING)) as sftp:
                yield sftp
        except SftpError as error:
            raise storage.explained(error, "transfer") from None


def _require(response: httpx.Response, status: int) -> None:
    """Raise unless the store has answered with the status."""
    if response.status_code in {200, 206} and status <= response.status_code:
        return
    if response.status_code in {403, 404}:
        raise NotFound("The object, or its upload, is gone from the object store, or the URL has expired")
    if response.status_code < 500 and response.status_code not in {408, 429}:
        raise Invalid(f"The object store refuses a part: HTTP status {response.status_code}")
    raise Unavailable(f"The object store reports an error: HTTP status {response.status_code}")
