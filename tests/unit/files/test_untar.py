"""Archives of every dialect are read as Python's tarfile writes them, cut into any pieces; damaged ones are refused."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flamecrest.server.errors import Invalid
from flamecrest.server.files.archives.untar import (
    ByteReader,
    DamagedArchive,
    EndMarkFilter,
    Member,
    TruncatedArchive,
    check,
    members,
    number,
    pax_records,
)

pytestmark = pytest.mark.anyio

NAMES = st.text(st.characters(min_codepoint=1, blacklist_categories=["Cs"]), min_size=1, max_size=300).map(
    lambda text: "f" + text.rstrip("/") + "f"
)


async def in_pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def archive(files: dict[str, bytes], form: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as made:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return out.getvalue()


async def read(data: bytes, size: int = 1000) -> list[tuple[Member, bytes]]:
    blocks = ByteReader(in_pieces(data, size))
    return [(member, await blocks.exactly(member.stored)) async for member in members(blocks)]


@settings(max_examples=25)
@given(
    st.dictionaries(NAMES, st.binary(max_size=2000), max_size=4),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.integers(1, 3000),
)
def test_what_tarfile_writes(files: dict[str, bytes], form: int, size: int) -> None:
    found = asyncio.run(read(archive(files, form), size))
    assert {member.name: content for member, content in found} == {
        name.encode(): content for name, content in files.items()
    }


@settings(max_examples=25)
@given(st.binary(max_size=3000), st.integers(0, 5), st.integers(0, 4000), st.integers(0, 255))
def test_damage_is_refused_or_harmless(noise: bytes, where: int, at: int, byte: int) -> None:
    """Whatever the bytes are: members, Damaged or Truncated, and nothing else."""
    data = bytearray(archive({"a" * 120: b"A" * 700, "b": b"B"}, 1 + where % 2))
    data[at % len(data)] = byte
    start = at % len(data) // 512 * 512
    header = data[start : start + 512]
    header[148:156] = b"%06o\0 " % sum(header[:148] + b" " * 8 + header[156:])
    believable = bytes(data[:start] + header + data[start + 512 :])
    for attempt in (noise, bytes(data), believable, bytes(data[:at]) + noise):
        try:
            asyncio.run(read(attempt))
        except (DamagedArchive, TruncatedArchive):
            continue


async def test_a_cut_is_seen_wherever_it_is() -> None:
    data = archive({"a" * 120: b"A" * 700, "b": b"B" * 10, "c": b""}, tarfile.GNU_FORMAT)
    end = len(data.rstrip(b"\0")) // 512 * 512 + 512
    for cut in range(0, end, 7):
        with pytest.raises(TruncatedArchive):
            await read(data[:cut])
    assert len(await read(data[: end + 512])) == 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"0000644\0", 0o644),
        (b"   644 \0", 0o644),
        (b"\0" * 8, 0),
        (b"\x80" + bytes(6) + b"\x07", 7),
        (b"\xff" * 12, -1),
    ],
)
def test_numbers(field: bytes, value: int) -> None:
    assert number(field) == value


@pytest.mark.parametrize("field", [b"0000008\0", b"-1", b"0x10", b"\xc3\x28zz"[2:]])
def test_what_is_no_number(field: bytes) -> None:
    with pytest.raises(DamagedArchive):
        number(field)


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        b"0 a=b\n",
        b"6 a=b\nrest",
        b"7 a=b\n",
        b"5 a=\n\n",
        b"99999999999999999999999 a=b\n",
        b"6 abc\n",
        b"-6 a=b\n",
        b"6 a=bx",
    ],
)
def test_pax_records_that_are_none(content: bytes) -> None:
    with pytest.raises(DamagedArchive):
        pax_records(content)


def test_pax_records() -> None:
    assert pax_records(b"12 path=a=b\n11 size=12\n") == {b"path": b"a=b", b"size": b"12"}


async def test_headers_that_lie() -> None:
    def one(**fields: Any) -> bytes:
        info = tarfile.TarInfo("x")
        for name, value in fields.items():
            setattr(info, name, value)
        return info.tobuf(tarfile.GNU_FORMAT)

    for data in (
        one(size=-5),
        one(type=b"L", size=1 << 30),
        one(type=b"x", size=-1),
        one(type=b"x", size=512) + b"19 GNU.sparse.map=1\n".ljust(512, b"\0") + one(),
        one(type=b"x", size=512)
        + b"22 GNU.sparse.major=1\n".ljust(512, b"\0")
        + one(size=512)
        + b"9" * 512
        + bytes(9999),
        one(type=b"x", size=512) + b"15 size=banana\n".ljust(512, b"\0") + one(),
    ):
        with pytest.raises(DamagedArchive):
            await read(data + bytes(20480))


def test_both_kinds_of_checksum() -> None:
    info = tarfile.TarInfo("ä")
    header = info.tobuf(tarfile.GNU_FORMAT, encoding="utf-8")
    check(header)
    signed = sum(byte - 256 if byte > 127 else byte for byte in header[:148] + b" " * 8 + header[156:])
    check(header[:148] + b"%06o\0 " % signed + header[156:])
    with pytest.raises(Invalid):
        check(header[:148] + b"%06o\0 " % (signed + 1) + header[156:])


@settings(max_examples=20)
@given(st.lists(st.integers(0, 2000), max_size=5), st.integers(1, 3000))
def test_the_end_mark_is_held_back(sizes: list[int], size: int) -> None:
    """Also after contents that are nothing but zeros, and however the bytes come."""
    data = archive({str(n): bytes(length) for n, length in enumerate(sizes)}, tarfile.GNU_FORMAT)
    plain = sum(512 + -(-length // 512) * 512 for length in sizes)
    mark = EndMarkFilter()
    out = b"".join(mark.feed(data[at : at + size]) for at in range(0, len(data), size))
    assert out == data[:plain]
    assert mark.seen
