"""Convert a tar archive to a zip archive as a stream, in bounded memory."""

from __future__ import annotations

import asyncio
import os
import stat as stat_bits
import time
import zipfile
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Final

from flamecrest.wire.text import is_plain, percent_encode

from .port import PathFailure
from .untar import ByteReader, Member, members

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PIECE: Final = 256 * 1024  # bytes per compression step
INLINE: Final = 16 * 1024  # bytes; smaller contents are compressed in the event loop, larger ones in a thread
_TYPES: Final = {"file": stat_bits.S_IFREG, "folder": stat_bits.S_IFDIR, "symlink": stat_bits.S_IFLNK}


class ZipWriter:
    """A zip archive that is written in pieces."""

    def __init__(self) -> None:
        self._sink = _Sink()
        self._zip = zipfile.ZipFile(self._sink, "w", zipfile.ZIP_DEFLATED, compresslevel=1)  # type: ignore[call-overload]
        self.skipped: list[PathFailure] = []
        self._escaped: set[str] = set()  # names that hold a percent sign

    async def convert(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """Convert the members of a tar archive. Raises TruncatedArchive, DamagedArchive."""
        blocks = ByteReader(chunks)
        async for member in members(blocks):
            async for piece in self._add(member, blocks):
                yield piece

    def add(self, name: bytes, content: bytes) -> None:
        """Add a small file."""
        self._zip.writestr(zipfile.ZipInfo(name.decode(), time.gmtime()[:6]), content)

    def close(self) -> bytes:
        """Return the rest of the archive: its central directory."""
        self._zip.close()
        return self._sink.take()

    async def _add(self, member: Member, blocks: ByteReader) -> AsyncGenerator[bytes]:
        if member.kind not in _TYPES or member.segments is not None:
            self.skipped.append(PathFailure(os.fsdecode(member.name), "A zip archive can hold no devices and FIFOs"))
            return
        name = self._name(member.name)
        if name is None:
            self.skipped.append(PathFailure(os.fsdecode(member.name), "Another file of the archive has its name"))
            await blocks.skip(member.stored)
            return
        moment = time.gmtime(min(max(member.mtime, 315532800), 4354819198))  # zip has the years 1980 to 2107 only
        info = zipfile.ZipInfo(name.rstrip("/") + "/" if member.kind == "folder" else name, moment[:6])
        info.external_attr = (_TYPES[member.kind] | member.mode) << 16
        if member.kind != "file":
            self._zip.writestr(info, member.target if member.kind == "symlink" else b"")
            yield self._sink.take()
            return
        info.compress_type, info.file_size = zipfile.ZIP_DEFLATED, member.stored
        with self._zip.open(info, "w", force_zip64=member.stored > 0x7FFFFFFF) as out:
            left = member.stored
            while left:
                data = await blocks.some(min(left, PIECE))
                left -= len(data)
                if len(data) > INLINE:
                    await asyncio.to_thread(out.write, data)
                else:
                    out.write(data)
                if len(self._sink.held) > PIECE:
                    yield self._sink.take()
        yield self._sink.take()

    def _name(self, raw: bytes) -> str | None:
        """Return a member's name in the archive; None if it is taken.

        Names in zip archives are UTF-8. A part of a path that is not is percent-encoded, and may then be equal to
        another name.
        """
        name = "/".join(part if is_plain(part) else percent_encode(part) for part in os.fsdecode(raw).split("/"))
        if "%" in name:
            if (known := name.rstrip("/")) in self._escaped:
                return None
            self._escaped.add(known)
        return name


class _Sink:
    """A write-only file in memory."""

    def __init__(self) -> None:
        self.held = bytearray()

    def write(self, data: bytes) -> int:
        self.held += data
        return len(data)

    def flush(self) -> None:
        """Do nothing."""

    def take(self) -> bytes:
        held, self.held = bytes(self.held), bytearray()
        return held
