"""Read tar archives of all common formats as a stream of Members.

Formats: v7, ustar, GNU (long names, base-256 numbers, sparse files) and pax. Names are bytes.

A compressed archive can have hundreds of times its bytes, so memory and time of each header are bounded, and other
tasks run between two chunks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Literal

from flamecrest.server.errors import GatewayError, Invalid

BLOCK: Final = 512
ZEROS: Final = bytes(BLOCK)
MAX_EXTENSION: Final = 1024 * 1024  # bytes of one extension header: a long name, pax records
MAX_SEGMENTS: Final = 65536  # of one sparse file
MAX_RECORDS: Final = 10_000  # of one pax header, beside those of segments

MemberKind = Literal["file", "folder", "symlink", "hardlink", "other"]
Records = dict[bytes, bytes]
Segments = tuple[tuple[int, int], ...]  # (offset, length) of the parts of a sparse file that hold data

_KINDS: Final[dict[bytes, MemberKind]] = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"S": "file",
    b"1": "hardlink",
    b"2": "symlink",
    b"5": "folder",
}
_SHARED: Final = (b"path", b"linkpath", b"size", b"mtime")  # records that a header for all further entries may have
_SPARSE: Final = (b"map", b"name", b"major", b"size", b"realsize")
_OWN: Final = (*_SHARED, *(b"GNU.sparse." + name for name in _SPARSE))


class TruncatedArchive(Exception):
    """The archive ends before its end mark."""


class DamagedArchive(Invalid):
    """The bytes are not a tar archive."""


@dataclass(frozen=True, slots=True)
class Member:
    """One entry. `stored` bytes of content follow; the file has `size` bytes, which is more if it is sparse."""

    name: bytes
    kind: MemberKind
    stored: int
    size: int
    mode: int = 0o644
    mtime: int = 0
    target: bytes = b""
    segments: Segments | None = None


class ByteReader:
    """Reads a stream of chunks in pieces of any size."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._piece = memoryview(b"")
        self.position = 0

    async def some(self, most: int) -> bytes:
        """Return 1 to `most` bytes; raises TruncatedArchive at the end."""
        while not self._piece:
            try:
                self._piece = memoryview(await anext(self._chunks))
            except StopAsyncIteration:
                raise TruncatedArchive from None
            await asyncio.sleep(0)
        data = bytes(self._piece[:most])
        self._piece = self._piece[most:]
        self.position += len(data)
        return data

    async def exactly(self, size: int) -> bytes:
        """Return `size` bytes; raises TruncatedArchive if there are fewer."""
        if len(self._piece) >= size:
            return await self.some(size) if size else b""
        parts = []
        while size:
            parts.append(await self.some(size))
            size -= len(parts[-1])
        return b"".join(parts)

    async def skip(self, size: int) -> None:
        """Skip `size` bytes."""
        while size > 0:
            size -= len(await self.some(size))


async def members(blocks: ByteReader) -> AsyncIterator[Member]:
    """Yield the entries up to the end mark. The consumer may read content from `blocks`; the rest is skipped.

    Raises DamagedArchive, TruncatedArchive.
    """
    shared: Records = {}
    own: Records = {}
    while (header := await blocks.exactly(BLOCK)) != ZEROS:
        check(header)
        kind, size = header[156:157], number(header[124:136])
        if kind in {b"L", b"K", b"x", b"g", b"X"}:
            content = await _extension(blocks, size)
            if kind in {b"L", b"K"}:
                own[b"path" if kind == b"L" else b"linkpath"] = content.split(b"\0", 1)[0]
            else:
                found, known = (shared, _SHARED) if kind == b"g" else (own, _OWN)
                records = pax_records(content)
                found.update({name: records[name] for name in known if name in records})
            continue
        member, end = await _member(blocks, header, shared | own)
        own = {}
        if kind != b"V":  # a volume's label
            yield member
        await blocks.skip(end - blocks.position)


def check(header: bytes) -> None:
    """Raise DamagedArchive unless the header's checksum is right (as unsigned or, in old archives, as signed bytes)."""
    plain = header[:148] + b" " * 8 + header[156:]
    wanted, total = number(header[148:156]), sum(plain)
    if wanted != total and wanted != total - 256 * sum(byte > 127 for byte in plain):
        raise DamagedArchive("The archive is damaged, or no tar archive: a header's checksum is wrong")


def number(field: bytes) -> int:
    """Return a number of a header: octal digits, or base 256 (GNU)."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=False) & ((1 << (8 * len(field) - 1)) - 1)
        if field[0] & 0x40:
            value -= 1 << (8 * len(field) - 1)
        return value
    digits = field.split(b"\0", 1)[0].strip(b" ")
    if not digits:
        return 0
    if digits.strip(b"01234567"):
        raise DamagedArchive("The archive is damaged, or no tar archive: a header contains an invalid number")
    return int(digits, 8)


def padded(size: int) -> int:
    """Return the bytes that content of this size occupies in an archive."""
    return -(-size // BLOCK) * BLOCK


def pax_records(content: bytes) -> Records:
    """Return the records `length name=value` of a pax header; repeated GNU.sparse records are joined by commas."""
    records: Records = {}
    segments: list[bytes] = []
    at = 0
    while at < len(content) and content[at]:
        digits = content[at : at + 20].split(b" ", 1)[0]
        length = int(digits) if digits.isdigit() else 0
        record = content[at + len(digits) + 1 : at + length]
        name, separator, value = record[:-1].partition(b"=")
        if length < len(digits) + 3 or at + length > len(content) or record[-1:] != b"\n" or not separator:
            raise DamagedArchive("The archive is damaged: a pax header can't be read")
        if name in {b"GNU.sparse.offset", b"GNU.sparse.numbytes"}:
            segments.append(value)
        else:
            records[name] = value
            if len(records) > MAX_RECORDS:
                raise DamagedArchive("The archive is damaged: a pax header has too many records")
        at += length
    if segments:
        records[b"GNU.sparse.map"] = b",".join(segments)
    return records


async def _extension(blocks: ByteReader, size: int) -> bytes:
    if not 0 <= size <= MAX_EXTENSION:
        raise DamagedArchive("The archive is damaged: a name or pax header is too long")
    content = await blocks.exactly(size)
    await blocks.skip(padded(size) - size)
    return content


async def _member(blocks: ByteReader, header: bytes, records: Records) -> tuple[Member, int]:
    """Return the entry of a header and the position at which its content ends."""
    letter = header[156:157]
    name, target = _text(header[:100]), _text(header[157:257])
    if header[257:263] == b"ustar\0" and (prefix := _text(header[345:500])):
        name = prefix + b"/" + name
    stored = number(header[124:136])
    mtime = number(header[136:148])
    name = records.get(b"GNU.sparse.name", records.get(b"path", name))
    target = records.get(b"linkpath", target)
    if b"size" in records:
        stored = _decimal(records[b"size"])
    if b"mtime" in records:
        mtime = _time(records[b"mtime"])
    kind = _KINDS.get(letter, "other")
    if letter in b"123456":
        stored = 0
    if stored < 0:
        raise DamagedArchive("The archive is damaged: a size is negative")
    if kind == "file" and letter != b"7" and name.endswith(b"/") and not stored:
        kind = "folder"  # the notation of old archives for directories
    segments, size, extra = None, stored, 0
    end = blocks.position + padded(stored)
    if letter == b"S":
        start = blocks.position
        segments, size = await _gnu_sparse(blocks, header)
        end += blocks.position - start
    elif kind == "file" and (b"GNU.sparse.map" in records or b"GNU.sparse.major" in records):
        start = blocks.position
        segments, size = await _pax_sparse(blocks, records, stored)
        extra = blocks.position - start
    if segments is not None:
        _check_segments(segments, size, stored - extra)
    mode = number(header[100:108]) & 0o7777
    return Member(name, kind, stored - extra, size, mode, mtime, target, segments), end


def _text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _decimal(value: bytes) -> int:
    if not value.isdigit() or len(value) > 20:
        raise DamagedArchive("The archive is damaged: a pax header contains an invalid number")
    return int(value)


def _time(value: bytes) -> int:
    whole, _, fraction = value.partition(b".")
    if whole.startswith(b"-"):
        return -_decimal(whole[1:]) - bool(fraction.strip(b"0"))
    return _decimal(whole)


async def _gnu_sparse(blocks: ByteReader, header: bytes) -> tuple[Segments, int]:
    """Return the segments of an old GNU sparse file: four in its header, the others in the blocks after it."""
    segments = _pairs(header, 386, 4)
    more = header[482]
    while more:
        block = await blocks.exactly(BLOCK)
        segments += _pairs(block, 0, 21)
        more = block[504]
        if len(segments) > MAX_SEGMENTS:
            raise DamagedArchive("The archive is damaged: a sparse file has too many parts")
    return tuple(segments), number(header[483:495])


def _pairs(block: bytes, at: int, count: int) -> list[tuple[int, int]]:
    fields = [block[at + 12 * n : at + 12 * n + 12] for n in range(2 * count)]
    pairs = [(number(fields[n]), number(fields[n + 1])) for n in range(0, 2 * count, 2) if fields[n][0]]
    return [pair for pair in pairs if pair[1]]


async def _pax_sparse(blocks: ByteReader, records: Records, stored: int) -> tuple[Segments, int]:
    """Return the segments of a sparse file in any of the three pax formats."""
    size = _decimal(records.get(b"GNU.sparse.realsize", records.get(b"GNU.sparse.size", b"0")))
    if b"GNU.sparse.map" in records:
        numbers = [_decimal(one) for one in records[b"GNU.sparse.map"].split(b",", 2 * MAX_SEGMENTS) if one]
    elif records.get(b"GNU.sparse.major") == b"1":
        numbers = await _leading_map(blocks, stored)
    else:
        raise DamagedArchive("The archive has a sparse file in an unknown format")
    if len(numbers) % 2:
        raise DamagedArchive("The archive is damaged: the map of a sparse file is")
    return tuple(pair for pair in zip(numbers[::2], numbers[1::2], strict=True) if pair[1]), size


async def _leading_map(blocks: ByteReader, stored: int) -> list[int]:
    """Read the map of format 1.0: decimal lines before the data; the first is the number of pairs."""
    start, lines, rest, wanted = blocks.position, list[int](), b"", 1
    while len(lines) < wanted:
        if blocks.position - start + BLOCK > min(padded(stored), MAX_EXTENSION):
            raise DamagedArchive("The archive is damaged: the map of a sparse file is")
        *whole, rest = (rest + await blocks.exactly(BLOCK)).split(b"\n")
        lines += [_decimal(line) for line in whole if not line.startswith(b"\0")]
        wanted = 1 + 2 * lines[0] if lines else 1
        if wanted > 1 + 2 * MAX_SEGMENTS or len(rest.rstrip(b"\0")) > 20:
            raise DamagedArchive("The archive is damaged: the map of a sparse file is")
    return lines[1:wanted]


def _check_segments(segments: Segments, size: int, stored: int) -> None:
    at = 0
    for offset, length in segments:
        if offset < at:
            raise DamagedArchive("The archive is damaged: the parts of a sparse file overlap")
        at = offset + length
    if at > size or sum(length for _, length in segments) != stored:
        raise DamagedArchive("The archive is damaged: the parts of a sparse file don't fit its size")


class EndMarkFilter:
    """Passes on an archive as GNU tar writes it, without its end mark."""

    def __init__(self) -> None:
        self.seen = False
        self._held = b""
        self._content = 0

    def feed(self, chunk: bytes) -> bytes:
        """Return the bytes that can be passed on."""
        if self.seen:
            return b""
        data, at = self._held + chunk, 0
        while True:
            step = min(self._content, len(data) - at)
            at += step
            self._content -= step
            if self._content or len(data) - at < BLOCK:
                break
            header = data[at : at + BLOCK]
            if header == ZEROS:
                self.seen = True
                break
            self._content = BLOCK + padded(self._size(header))
        self._held = b"" if self.seen else data[at:]
        return data[:at]

    @staticmethod
    def _size(header: bytes) -> int:
        try:
            check(header)
            return number(header[124:136])
        except GatewayError as error:
            raise TruncatedArchive from error  # not written by our tar command
