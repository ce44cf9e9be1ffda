"""A copy of one file to another cluster, streamed through the gateway. It is put in place when its digest is right.

The file is sent as an upload in parts, which knows how a target is replaced. After an interruption the upload stays,
and the next attempt sends the parts that are missing; after any other failure it is removed.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Busy, GatewayError, Timeout, Unavailable
from flamecrest.server.transfer.port import TransferRequest
from flamecrest.server.transfer.records.record import End, Progress

from .background import is_stop

if TYPE_CHECKING:
    from flamecrest.server.files.values import Stat
    from flamecrest.server.transfer.direct.links import Ticket

    from .tools import UserTools

STEP: Final = 60.0  # seconds to open a file, and for each step's progress
SLOWEST_SUM: Final = 20 * 1024 * 1024  # bytes per second at which a checksum is computed at least
_INTERRUPTED: Final = (Unavailable, Timeout, Busy)


@dataclass(frozen=True, slots=True)
class Earlier:
    """An attempt that has failed: its upload, and size and time of the source then."""

    upload: str
    size: int
    mtime: object


class FileCopy:
    """Copies a file."""

    def __init__(
        self,
        source: UserTools,
        target: UserTools,
        path: str,
        target_path: str,
        stat: Stat,
        before: Earlier | None = None,
    ) -> None:
        self._source = source
        self._target = target
        self._path = path
        self._target_path = target_path
        self._before = before
        self._size = stat.size or 0
        self._done = 0
        self._upload = self._digest = ""
        self._sum = hashlib.sha256()

    async def run(self) -> End:
        """Copy it."""
        async with self._source.files().content.download(self._path, Deadline.after(STEP)) as reader:
            self._size = reader.stat.size or 0
            ticket, there = await self._begun(int(reader.stat.mtime))
            self._upload = ticket.transfer
            async with self._kept_if_interrupted(ticket):
                uploads, plan = self._target.uploads, ticket.plan
                self._done = sum(plan.span(number)[1] for number in there)
                for number in range(1, plan.count + 1):
                    if number not in there:
                        start, size = plan.span(number)
                        chunks = self._counted(reader.chunks(start, start + size))
                        await uploads.put_part(ticket, number, chunks, Deadline.after(STEP))
                self._digest = await self._sha256() if there else self._sum.hexdigest()
                await uploads.complete(ticket, None, bytes.fromhex(self._digest), Deadline.after(STEP))
        return End("COMPLETED", int(time.time()), sha256=self._digest)

    async def _begun(self, mtime: int) -> tuple[Ticket, set[int]]:
        """The upload, and the parts of it that are there: those of an earlier attempt if the source is the same."""
        before = self._before
        if before is not None and (before.size, before.mtime) == (self._size, mtime):
            found = await self._target.direct.unfinished(
                before.upload, self._target_path, self._size, Deadline.after(STEP)
            )
            if found is not None:
                return found
        request = TransferRequest("direct", file_size=self._size)
        return await self._target.direct.begin(self._target_path, request, Deadline.after(STEP)), set()

    async def _sha256(self) -> str:
        """That of the source, of which an earlier attempt has sent a part."""
        deadline = Deadline.after(STEP + self._size / SLOWEST_SUM)
        return await self._source.files().queries.checksum(self._path, deadline)

    @asynccontextmanager
    async def _kept_if_interrupted(self, ticket: Ticket) -> AsyncIterator[None]:
        """Remove the upload after an error, unless another attempt may go on with it.

        An error, or a cancellation, that comes when the file is in its place already is none.
        """
        try:
            yield
        except _INTERRUPTED:
            raise
        except BaseException as error:
            if not is_stop(error):
                with suppress(GatewayError):
                    if await self._target.uploads.abort(ticket, Deadline.after(STEP)):
                        return
                self._upload = ""
            raise

    async def _counted(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            self._sum.update(chunk)
            self._done += len(chunk)
            yield chunk

    def progress(self) -> Progress:
        """How far it is."""
        complete = int(self._done == self._size)
        return Progress(int(time.time()), self._done, self._size, complete, upload=self._upload)

    def errors(self) -> list[str]:
        """None but that of its end."""
        return []
