"""Parts of text files over SFTP for head, tail and view; memory is bounded by the limit of the response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flamecrest.server.errors import TooLarge

if TYPE_CHECKING:
    from flamecrest.server.ssh.channels.sftp import Sftp

BLOCK = 32768  # bytes per read where the number needed is unknown


@dataclass(frozen=True, slots=True)
class TextFile:
    """An open regular file of `size` bytes; at most `limit` are returned, else TooLarge is raised."""

    sftp: Sftp
    handle: bytes
    size: int
    limit: int

    async def part(self, offset: int, size: int) -> bytes:
        """Bytes `offset` to `offset + size`, fewer at the end of the file."""
        parts: list[bytes] = []
        while size > 0:
            data = await self.sftp.read(self.handle, offset, min(size, self.sftp.read_size))
            if not data:
                break
            parts.append(data)
            offset += len(data)
            size -= len(data)
        return b"".join(parts)

    async def head_bytes(self, count: int, *, skip: bool) -> bytes:
        """The first `count` bytes, or all but the last `count`."""
        wanted = max(0, self.size - count) if skip else count
        return await self.part(0, self._checked(min(wanted, max(self.size, self.limit))))

    async def tail_bytes(self, count: int, *, skip: bool) -> bytes:
        """The last `count` bytes, or all from byte `count` on (1 is the first)."""
        start = max(0, count - 1) if skip else max(0, self.size - count)
        return await self.part(start, self._checked(max(0, self.size - start)))

    async def head_lines(self, count: int, *, skip: bool) -> bytes:
        """The first `count` lines, or all but the last `count`."""
        if skip:
            lines = (await self._whole(0)).splitlines_keep()
            return b"".join(lines[: max(0, len(lines) - count)])
        found = bytearray()
        missing, offset = count, 0
        while missing > 0:
            block = await self.part(offset, BLOCK)
            if not block:
                break
            lines = _SplitLines(block).splitlines_keep()
            taken = b"".join(lines[:missing])
            found += taken
            self._checked(len(found))
            missing -= taken.count(b"\n")
            offset += len(block)
        return bytes(found)

    async def tail_lines(self, count: int, *, skip: bool) -> bytes:
        """The last `count` lines, or all from line `count` on (1 is the first)."""
        if skip:
            return await self._from_line(max(1, count))
        found, start = b"", self.size
        # one more newline than lines: that of the line before
        while start > 0 and found.count(b"\n") <= count:
            begin = max(0, start - BLOCK)
            found = await self.part(begin, start - begin) + found
            start = begin
            self._checked(len(found) - BLOCK)
        lines = _SplitLines(found).splitlines_keep()
        tail = b"".join(lines[-count:]) if count else b""
        self._checked(len(tail))
        return tail

    async def _from_line(self, line: int) -> bytes:
        offset = 0
        missing = line - 1
        while missing > 0:
            block = await self.part(offset, BLOCK)
            if not block:
                return b""
            newlines = block.count(b"\n")
            if newlines >= missing:
                offset += len(b"".join(_SplitLines(block).splitlines_keep()[:missing]))
                break
            missing -= newlines
            offset += len(block)
        return await self._whole(offset)

    async def _whole(self, offset: int) -> _SplitLines:
        data = await self.part(offset, self.limit + 1)
        self._checked(len(data))
        return _SplitLines(data)

    def _checked(self, size: int) -> int:
        if size > self.limit:
            raise TooLarge(f"The answer would be larger than {self.limit} bytes; download the file instead")
        return size


class _SplitLines(bytes):
    """Bytes that are split at newlines only, as head and tail do."""

    __slots__ = ()

    def splitlines_keep(self) -> list[bytes]:
        """The lines with their newlines; the last may have none."""
        lines = [line + b"\n" for line in self.split(b"\n")]
        last = lines.pop()[:-1]
        return [*lines, last] if last else lines
