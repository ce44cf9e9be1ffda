"""Decompress an archive as a stream, within limits."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from flamecrest.server.errors import Invalid, TooLarge

from .untar import TruncatedArchive

if TYPE_CHECKING:
    from .port import UnpackLimits

STEP: Final = 256 * 1024  # bytes per decompression step
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_OTHERS: Final = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip", b"\x04\x22\x4d\x18": "lz4"}

Decompressor = Callable[[AsyncIterator[bytes]], AsyncGenerator[bytes]]


async def plain(chunks: AsyncIterator[bytes], zstd: Decompressor, bounds: UnpackLimits) -> AsyncGenerator[bytes]:
    """Yield the decompressed archive; the first bytes tell the format. Raises Invalid, TruncatedArchive, TooLarge."""
    taken = given = 0

    async def counted() -> AsyncGenerator[bytes]:
        nonlocal taken
        async for chunk in chunks:
            taken += len(chunk)
            yield bytes(chunk)

    source = counted()
    first = await _beginning(source)
    for magic, name in _OTHERS.items():
        if first.startswith(magic):
            raise Invalid(f"The archive must be tar, plain or compressed by gzip or zstd; this is {name}")

    async def whole() -> AsyncGenerator[bytes]:
        yield first
        async for chunk in source:
            yield chunk

    is_gzip, is_zstd = first.startswith(_GZIP), first.startswith(_ZSTD)
    async with aclosing(gunzip(whole()) if is_gzip else zstd(whole()) if is_zstd else whole()) as pieces:
        async for piece in pieces:
            given += len(piece)
            if given > bounds.size or (given > bounds.free and given > taken * bounds.ratio):
                raise TooLarge("The archive unpacks to far more than it has itself")
            yield piece


async def _beginning(chunks: AsyncIterator[bytes]) -> bytes:
    first = b""
    async for chunk in chunks:
        first += chunk
        if len(first) >= 6:
            break
    if not first:
        raise TruncatedArchive
    return first


async def gunzip(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Yield the content of a sequence of gzip members. Raises TruncatedArchive, Invalid."""
    inflater, members = None, 0
    async for chunk in chunks:
        data, full = chunk.lstrip(b"\0") if members and inflater is None else chunk, False
        while data or full:
            if inflater is None:
                inflater = zlib.decompressobj(31)
            try:
                piece = inflater.decompress(data, STEP)
            except zlib.error as error:
                raise Invalid("The archive is damaged: it can't be decompressed", detail=str(error)) from None
            if piece:
                yield piece
            data, full = inflater.unconsumed_tail, len(piece) == STEP
            if inflater.eof:
                members += 1
                data, full, inflater = inflater.unused_data.lstrip(b"\0"), False, None
    if inflater is not None:
        raise TruncatedArchive
