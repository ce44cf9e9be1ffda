"""Write the bytes of one part to their place in the data of an upload, in bounded memory. It knows open files only."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import Invalid, Locked, TooLarge
from flamecrest.server.files.remote.writing import Rechunker, within_stall_timeout
from flamecrest.server.files.resumable.append import Outstanding
from flamecrest.server.transfer.direct import slots
from flamecrest.server.transfer.direct.running_digest import RunningDigest
from flamecrest.server.transfer.direct.slots import Slot

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from flamecrest.server.ssh.channels.sftp import Sftp

IN_FLIGHT: Final = 2 * 1024 * 1024  # bytes of a part that are sent and not yet acknowledged
LOOK: Final = 0.5  # seconds between two looks whether another request sends the same part
_MOST: Final = 4096  # requests that are remembered


class Writers:
    """The requests of this gateway that write to parts of uploads, or whose writes may not all have been made."""

    def __init__(self) -> None:
        self._writers: dict[tuple[str, int], Outstanding] = {}

    async def begin(self, transfer: str, number: int, patience: float) -> tuple[Outstanding, bool]:
        """Begin a request. An earlier one for the same part ends; `patience` is how long its writes are waited for.

        Returns the new one's writes, and whether there was an earlier one that is known to write no more.
        """
        before = self._writers.pop((transfer, number), None)
        while len(self._writers) >= _MOST:
            del self._writers[next(iter(self._writers))]  # it counts as one of another gateway
        mine = self._writers[transfer, number] = Outstanding(patience)
        return mine, before is not None and await before.stop()

    def is_latest(self, transfer: str, number: int, mine: Outstanding) -> bool:
        """Whether no request for the same part has begun since."""
        return self._writers.get((transfer, number)) is mine

    def ended(self, transfer: str, number: int, mine: Outstanding) -> None:
        """Forget a request all of whose writes have been made."""
        if self.is_latest(transfer, number, mine):
            del self._writers[transfer, number]

    async def stop(self, transfer: str) -> None:
        """End all requests that send parts of an upload."""
        for key in [key for key in self._writers if key[0] == transfer]:
            await self._writers.pop(key).stop()


class PartWriter:
    """Writes one part, and its line in the file of parts."""

    def __init__(
        self,
        sftp: Sftp,
        data: bytes,
        parts: bytes,
        number: int,
        slot: Slot,
        outstanding: Outstanding,
        on_written: Callable[[int], None],
    ) -> None:
        """`data` and `parts` are handles of open files. `on_written` is called with the number of bytes written."""
        self._sftp = sftp
        self._data = data
        self._parts = parts
        self._number = number
        self._slot = slot
        self._outstanding = outstanding
        self._on_written = on_written
        self._under_way: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._pending = 0
        self._looked = time.monotonic()

    async def begin(self) -> None:
        """Write the line that the part is being sent. Raises SftpError, Locked."""
        await self._note(self._slot)

    async def take(self, chunks: AsyncIterator[bytes], start: int, size: int) -> str:
        """Write the part, of so many bytes from `start` of the file; returns its MD5 in hexadecimal digits.

        Raises Invalid for a body that is too short, TooLarge for one that is too long, Locked if another request sends
        the part, and SftpError. The part counts only if this returns.
        """
        digest = RunningDigest("md5")
        pieces = Rechunker(self._sftp.write_size)
        at, received = start, 0
        async for chunk in chunks:
            received += len(chunk)
            if received > size:
                raise TooLarge(f"Part {self._number} has {size} bytes; the body has more")
            await digest.add(chunk)
            for length, parts in pieces.add(chunk):
                await self._write(at, length, parts)
                at += length
        if received < size:
            raise Invalid(f"Part {self._number} has {size} bytes; the body has {received}")
        for length, parts in pieces.rest():
            await self._write(at, length, parts)
        while self._under_way:
            await self._acknowledged()
        await within_stall_timeout(self._sftp, self._sftp.fsync(self._data))
        md5 = await digest.hexdigest()
        await self._check()
        await self._note(self._slot.done(md5))
        return md5

    async def fail(self, is_latest: Callable[[], bool]) -> None:
        """Note that the part has to be sent again, if it is known that nothing more of this request is written.

        `is_latest` tells whether no other request of this gateway has begun to send the part.
        """
        if not self._outstanding.stopped and await self._outstanding.stop():
            await self._check()  # the line of a request at another gateway stays
            if not is_latest():
                return
            at = slots.place(self._number)
            await within_stall_timeout(self._sftp, self._sftp.write(self._parts, at, self._slot.failed().packed()))

    async def _write(self, at: int, length: int, parts: list[bytes | memoryview]) -> None:
        while self._under_way and self._pending + length > IN_FLIGHT:
            await self._acknowledged()
        if time.monotonic() - self._looked > LOOK:
            await self._check()
        await self._sftp.room()
        self._require_own()
        self._under_way.append((length, self._outstanding.add(self._sftp.write(self._data, at, *parts))))
        self._pending += length

    async def _acknowledged(self) -> None:
        length, future = self._under_way.popleft()
        self._pending -= length
        await within_stall_timeout(self._sftp, future)
        self._on_written(length)

    async def _check(self) -> None:
        """Raise Locked if another request has begun to send the part."""
        self._looked = time.monotonic()
        at = slots.place(self._number)
        found = Slot.parse(await within_stall_timeout(self._sftp, self._sftp.read(self._parts, at, slots.SIZE)))
        if found is None or found.request != self._slot.request:
            raise Locked("Another request sends the same part")

    async def _note(self, slot: Slot) -> None:
        self._require_own()
        write = self._sftp.write(self._parts, slots.place(self._number), slot.packed())
        await within_stall_timeout(self._sftp, self._outstanding.add(write))

    def _require_own(self) -> None:
        if self._outstanding.stopped:
            raise Locked("Another request sends the same part, or the upload has ended")

    def forget(self) -> None:
        """Ignore the answers to the writes under way."""
        for _, future in self._under_way:
            self._sftp.forget(future)
        self._under_way.clear()
