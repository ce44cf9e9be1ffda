"""What bulk operations decide without I/O: where entries go, what patterns mean, how archives end, what is sent."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import posixpath
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import AsyncGenerator, AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flamecrest.server.errors import Invalid, TooLarge, Unsupported, Upstream
from flamecrest.server.files.archives import packing
from flamecrest.server.files.archives.entry_names import EntryRefused, entry_path, link_target
from flamecrest.server.files.archives.inflate import plain
from flamecrest.server.files.archives.port import PathFailure, UnpackLimits
from flamecrest.server.files.archives.selection import anchor, relative, tidy, uncovered
from flamecrest.server.files.archives.untar import TruncatedArchive
from flamecrest.server.files.archives.zipping import ZipWriter
from flamecrest.server.http.headers.accept import acceptable
from flamecrest.server.ssh.command import Output

PARTS = st.lists(st.sampled_from([b"..", b".", b"", b"a", b"b", b"\xff", b"..."]), max_size=8)


@given(PARTS)
def test_no_place_is_outside(parts: list[bytes]) -> None:
    name = b"/".join(parts)
    try:
        found = entry_path(name)
    except EntryRefused:
        assert b".." in parts or name.startswith(b"/")
        return
    assert posixpath.normpath(b"/root/" + found).startswith(b"/root")
    assert b".." not in found.split(b"/")


@given(PARTS, PARTS)
def test_no_link_leads_out(link: list[bytes], target: list[bytes]) -> None:
    try:
        at = entry_path(b"/".join(link) + b"x")
        found = link_target(at, b"/".join(target))
    except EntryRefused:
        return
    reached = posixpath.normpath(posixpath.join(b"/root", posixpath.dirname(at), found))
    assert (reached + b"/").startswith(b"/root/")


def test_tidy_and_anchor() -> None:
    assert tidy("//a/./b//") == b"/a/b"
    assert tidy("/") == b"/"
    with pytest.raises(Invalid):
        tidy("/a/../b")
    assert anchor(b"/a/b/c", literal=True) == b"/a/b"
    assert anchor(b"/a/*/c", literal=False) == b"/a"
    assert anchor(b"/a/*/c", literal=True) == b"/a/*"
    assert anchor(b"/*", literal=False) == b"/"


def test_relative() -> None:
    assert relative(b"/a/b", b"/a") == b"b"
    assert relative(b"/a", b"/a") == b"."
    assert relative(b"/a/-x", b"/a") == b"./-x"
    assert relative(b"/x", b"/") == b"x"
    with pytest.raises(Invalid):
        relative(b"/ab", b"/a")


def test_uncovered() -> None:
    found = {b"/a": True, b"/a/b": False, b"/ab": False, b"/c": False, b"/c/d": False, b"/a/b/c/d": True}
    assert uncovered(found) == [b"/a", b"/ab", b"/c", b"/c/d"]
    assert uncovered({b"/": True, b"/x": False}) == [b"/"]


# --- the end of an archive


def test_what_tar_says() -> None:
    said = (
        b"tar: Removing leading `/' from member names\n"
        b"tar: ./-a\\303\\244\\nb: Cannot open: Permission denied\n"
        b"tar: c: File shrank by 5 bytes; padding with zeros\n"
        b"tar: something new\n"
        b"tar: Exiting with failure status due to previous errors\n"
    )
    assert packing.failures(Output(2, b"", said), "/base") == [
        PathFailure("/base/-aä\nb", "Cannot open: Permission denied"),
        PathFailure("/base/c", "File shrank by 5 bytes; padding with zeros"),
        PathFailure("", "tar: something new"),
    ]
    assert packing.failures(Output(0), "/") == []


@pytest.mark.parametrize(
    "output",
    [
        Output(143),
        Output(70),
        Output(3),
        Output(2, b"", b"tar: /x: Cannot chdir: gone\ntar: Error is not recoverable: exiting now"),
    ],
)
def test_an_archive_that_was_not_finished(output: Output) -> None:
    with pytest.raises(Upstream):
        packing.failures(output, "/")


def test_a_program_that_is_missing() -> None:
    packing.check_available(Output(2), "zstd")
    with pytest.raises(Unsupported):
        packing.check_available(Output(127), "zstd")


@pytest.mark.parametrize("count", [0, 1, 3000])
def test_endings_continue_what_stock_programs_wrote(count: int) -> None:
    failed = [PathFailure(f"/x/{n}\udcff", "gone") for n in range(count)]
    whole = packing.ending(failed, "tar")
    assert gzip.decompress(packing.ending(failed, "gzip"))[512:] == whole[512:]  # the header holds the time
    frame = packing.ending(failed, "zstd")
    assert subprocess.run(["zstd", "-dc"], input=frame, capture_output=True, check=True).stdout[512:] == whole[512:]
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        assert archive.getnames() == [".flamecrest-errors.json"] * bool(count)


# --- compression of what comes


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def no_zstd(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    async for _ in chunks:
        raise Unsupported("no zstd")
    yield b""


async def inflated(data: bytes, size: int = 1000, bounds: UnpackLimits | None = None) -> bytes:
    return b"".join([piece async for piece in plain(pieces(data, size), no_zstd, bounds or UnpackLimits())])


@settings(max_examples=20)
@given(st.lists(st.binary(max_size=5000), min_size=1, max_size=3), st.integers(1, 2000), st.booleans())
def test_gzip_in_members_and_pieces(contents: list[bytes], size: int, padding: bool) -> None:
    data = b"".join(gzip.compress(one) for one in contents) + bytes(20) * padding
    assert asyncio.run(inflated(data, size)) == b"".join(contents)


def test_much_from_little_comes_in_steps() -> None:
    assert asyncio.run(inflated(gzip.compress(bytes(3_000_001)), 100_000)) == bytes(3_000_001)


@settings(max_examples=20)
@given(st.binary(min_size=1, max_size=300), st.data())
def test_gzip_that_is_cut(content: bytes, data: st.DataObject) -> None:
    whole = gzip.compress(content)
    cut = data.draw(st.integers(0, len(whole) - 1))
    if cut == 1:
        return  # one byte says nothing yet
    with pytest.raises(TruncatedArchive):
        asyncio.run(inflated(whole[:cut]))


def test_bombs_and_noise() -> None:
    bounds = UnpackLimits(size=1 << 40, ratio=100, free=1 << 20)
    assert len(asyncio.run(inflated(gzip.compress(bytes(1 << 20)), bounds=bounds))) == 1 << 20
    with pytest.raises(TooLarge):
        asyncio.run(inflated(gzip.compress(bytes(1 << 22)), bounds=bounds))
    with pytest.raises(TooLarge):
        asyncio.run(inflated(gzip.compress(b"x" * 2000), bounds=UnpackLimits(size=1000)))
    for noise in (b"\x1f\x8b" + b"x" * 100, b"BZh91AY&SY", b"PK\x03\x04xx", zlib.compress(b"")[:0] + b"\xfd7zXZ\0"):
        with pytest.raises(Invalid):
            asyncio.run(inflated(noise))


# --- Accept

OFFERED = ["a/x", "a/y", "b/z"]


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, OFFERED),
        (" ", OFFERED),
        ("*/*", OFFERED),
        ("a/*", ["a/x", "a/y"]),
        ("A/Y, a/x;q=0.5", ["a/y", "a/x"]),
        ("a/*;q=0.1, a/x;q=0, */*;q=1", ["b/z", "a/y"]),
        ("old/z", ["b/z"]),
        ("c/c", []),
        ("a/x;q=2, a/y;q=-1, b/z;q=1.000", ["b/z"]),
        ("a/x;level=1;q=0.2,a/y ; q=0.3", ["a/y", "a/x"]),
        (",;=,q=1,*", []),
    ],
)
def test_accept(header: str | None, wanted: list[str]) -> None:
    assert acceptable(header, OFFERED, {"old/z": "b/z"}) == wanted


@given(st.text())
def test_accept_never_fails(header: str) -> None:
    assert set(acceptable(header, OFFERED, {})) <= set(OFFERED)


# --- zip


def test_names_in_a_zip_archive_are_distinct() -> None:
    names = [bytes([byte]) for byte in range(0x80, 0x100)] + [b"a%FF", b"a\xff", b"\xc3\xa9", "%é".encode(), b"d\xfe/x"]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in names:
            info = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
            info.size = len(name)
            archive.addfile(info, io.BytesIO(name))
    data, skipped = asyncio.run(zipped(out.getvalue()))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    assert len(found) == len(names) - 1
    assert (found["%FF"], found["a%FF"], found["é"], found["%é"], found["d%FE/x"]) == (
        b"\xff", b"a%FF", b"\xc3\xa9", "%é".encode(), b"d\xfe/x",
    )  # fmt: skip
    assert [os.fsencode(one.path) for one in skipped] == [b"a\xff"]


async def zipped(archive: bytes) -> tuple[bytes, list[PathFailure]]:
    async def chunks() -> AsyncIterator[bytes]:
        yield archive

    writer = ZipWriter()
    data = b"".join([piece async for piece in writer.convert(chunks())])
    return data + writer.close(), writer.skipped
