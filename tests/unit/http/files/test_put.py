"""PUT of a file: the file is written completely and matches the headers, or nothing changes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import stat
from typing import TYPE_CHECKING

import pytest

from tests.unit.http.world import World, fields, raw_names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx

pytestmark = pytest.mark.anyio

URL = "/filesystem/toy/ops/upload"


async def put(
    client: httpx.AsyncClient, path: Path, data: bytes = b"new", *, headers: dict[str, str] | None = None, **query: str
) -> httpx.Response:
    return await client.put(URL, params={"path": str(path), **query}, content=data, headers=headers)


@pytest.mark.parametrize("size", [0, 1, 300_000])
async def test_create_and_replace(client: httpx.AsyncClient, world: World, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    made = await put(client, tmp_path / "f", data)
    assert (made.status_code, made.content) == (201, b"")
    assert (tmp_path / "f").read_bytes() == data
    found = (tmp_path / "f").stat()
    assert made.headers["etag"] == f'"{found.st_ino:x}-{size:x}-{found.st_mtime_ns:x}-{found.st_ctime_ns:x}"'
    again = await put(client, tmp_path / "f", data + b"!")
    assert again.status_code == 204
    assert again.headers["etag"] != made.headers["etag"]
    assert (tmp_path / "f").read_bytes() == data + b"!"
    assert world.files.opened == 0


async def test_chunked_body(client: httpx.AsyncClient, tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"a", b"", b"bc"):
            yield piece

    assert (await client.put(URL, params={"path": str(tmp_path / "f")}, content=pieces())).status_code == 201
    assert (tmp_path / "f").read_bytes() == b"abc"


async def test_conditional_requests(client: httpx.AsyncClient, tmp_path: Path) -> None:
    file = tmp_path / "f"
    assert (await put(client, file, headers={"If-Match": "*"})).status_code == 412
    assert not file.exists()
    tag = (await put(client, file, headers={"If-None-Match": "*"})).headers["etag"]
    refused: list[dict[str, str]] = [
        {"If-None-Match": "*"},
        {"If-None-Match": tag},
        {"If-Match": '"x"'},
        {"If-Unmodified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"},
    ]
    for headers in refused:
        answer = await put(client, file, b"other", headers=headers)
        assert answer.status_code == 412
        assert file.read_bytes() == b"new"
    assert (await put(client, file, b"other", headers={"If-Match": tag})).status_code == 204
    assert (await put(client, file, b"third", headers={"If-Match": tag})).status_code == 412
    assert file.read_bytes() == b"other"
    assert raw_names(str(tmp_path)) == {b"f"}


def digest(name: str, data: bytes) -> str:
    found = hashlib.new(name.replace("-", ""), data).digest()
    return f"{name}=:{base64.b64encode(found).decode()}:"


@pytest.mark.parametrize("header", ["Content-Digest", "Repr-Digest"])
async def test_digests(client: httpx.AsyncClient, world: World, tmp_path: Path, header: str) -> None:
    file = tmp_path / "f"
    both = digest("sha-256", b"new") + ", " + digest("sha-512", b"new")
    assert (await put(client, file, headers={header: both})).status_code == 201
    for wrong in (digest("sha-256", b"old"), "md5=:1B2M2Y8AsgTpgAmY7PhCfg==:", "sha-256=nonsense", ""):
        answer = await put(client, file, b"new!", headers={header: wrong})
        assert fields(answer) == [("header", header.lower())]
        assert file.read_bytes() == b"new"
    assert raw_names(str(tmp_path)) == {b"f"}
    assert world.files.opened == 0


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("0", 0),
        ("1700000000", 1_700_000_000),
        ("1700000000.75", 1_700_000_000),
        ("2023-11-14T22:13:20Z", 1_700_000_000),
        ("2023-11-14T23:13:20+01:00", 1_700_000_000),
        ("Tue, 14 Nov 2023 22:13:20 GMT", 1_700_000_000),
        ("4294967295", 2**32 - 1),
    ],
)
async def test_mode_and_modification_time(client: httpx.AsyncClient, tmp_path: Path, given: str, seconds: int) -> None:
    answer = await put(client, tmp_path / "f", mode="0640", mtime=given)
    assert answer.status_code == 201
    found = (tmp_path / "f").stat()
    assert (stat.S_IMODE(found.st_mode), int(found.st_mtime)) == (0o640, seconds)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("mode", one) for one in ("", "8", "rwx", "-1", "10000", "00007777", "0o644", "\u0667", "6 4")),
        *(
            ("mtime", one)
            for one in ("", "-1", "4294967296", "1e9", "nan", "now", "2023-11-14T22:13:20", "2023-11-14", "9" * 50,
                        "1969-12-31T23:59:59Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00")
        ),
        ("parents", "perhaps"),
    ],
)  # fmt: skip
async def test_invalid_parameters(client: httpx.AsyncClient, tmp_path: Path, name: str, value: str) -> None:
    assert fields(await client.put(URL, params={"path": str(tmp_path / "f"), name: value}, content=b"x")) == [
        ("query", name)
    ]
    assert raw_names(str(tmp_path)) == set()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("mode", "999", "must be octal digits, at most 7777, such as 644"),
        ("mtime", "-1", "must lie between 1970 and 2106"),
        ("parents", "maybe", "Input should be true or false"),
    ],
)
async def test_messages_say_what_is_possible(
    client: httpx.AsyncClient, tmp_path: Path, name: str, value: str, message: str
) -> None:
    answer = await client.put(URL, params={"path": str(tmp_path / "f"), name: value}, content=b"x")
    assert (answer.status_code, answer.json()["data"]["fields"][0]["message"]) == (400, message)


async def test_request_without_a_body_is_refused(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """`curl -X PUT` without a file would make an existing file empty."""
    (tmp_path / "f").write_bytes(b"old")
    request = client.build_request("PUT", URL, params={"path": str(tmp_path / "f")})
    del request.headers["content-length"]
    assert (await client.send(request)).status_code == 411
    assert (tmp_path / "f").read_bytes() == b"old"
    assert (await client.put(URL, params={"path": str(tmp_path / "f")}, content=b"")).status_code == 204
    assert (tmp_path / "f").read_bytes() == b""


async def test_missing_parent_folders(client: httpx.AsyncClient, tmp_path: Path) -> None:
    assert (await put(client, tmp_path / "a/b/f")).status_code == 404
    assert (await put(client, tmp_path / "a/b/f", parents="true")).status_code == 201
    assert (tmp_path / "a/b/f").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Content-Range", "bytes 0-2/3"),
        ("Content-Encoding", "gzip"),
        ("Content-Type", "multipart/form-data; boundary=x"),
    ],
)
async def test_encoded_or_partial_body_is_refused(
    client: httpx.AsyncClient, tmp_path: Path, name: str, value: str
) -> None:
    assert fields(await put(client, tmp_path / "f", headers={name: value})) == [("header", name.lower())]
    assert raw_names(str(tmp_path)) == set()


@pytest.mark.parametrize("limit", [0, 5])
async def test_size_limit_is_inclusive(world: World, tmp_path: Path, limit: int) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield bytes(limit)
        yield b"x"

    async with world.with_limits(max_ops_file_size=limit).client() as client:
        assert (await put(client, tmp_path / "f", bytes(limit))).status_code == 201
        assert (await put(client, tmp_path / "f", bytes(limit + 1))).status_code == 413
        assert (await client.put(URL, params={"path": str(tmp_path / "f")}, content=pieces())).status_code == 413
    assert (tmp_path / "f").read_bytes() == bytes(limit)
    assert raw_names(str(tmp_path)) == {b"f"}


def head(path: Path, *lines: bytes) -> bytes:
    asked = b"PUT %b?path=%b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token-of-fireuser\r\n"
    return asked % (URL.encode(), os.fsencode(path)) + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


async def test_100_continue_only_when_preconditions_hold(world: World, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")
    expect = (b"Content-Length: 3", b"Expect: 100-continue")
    async with world.served() as served:
        async with served.connect() as (reader, writer):
            writer.write(head(tmp_path / "f", *expect))
            assert (await reader.readline()).startswith(b"HTTP/1.1 100")
            writer.write(b"new")
            await reader.readline()
            assert (await reader.readline()).startswith(b"HTTP/1.1 204")
        async with served.connect() as (reader, writer):
            writer.write(head(tmp_path / "f", b"If-None-Match: *", *expect))
            assert (await reader.readline()).startswith(b"HTTP/1.1 412")
    assert (tmp_path / "f").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        ((b"Content-Length: 10",), b"12345"),
        ((b"Transfer-Encoding: chunked",), b"5\r\n12345\r\n"),
        ((b"Transfer-Encoding: chunked",), b"5\r\n123"),
        ((b"Transfer-Encoding: chunked",), b"zz\r\n12345\r\n0\r\n\r\n"),
    ],
)
async def test_truncated_body_changes_nothing(
    world: World, tmp_path: Path, lines: tuple[bytes, ...], body: bytes
) -> None:
    (tmp_path / "f").write_bytes(b"old")
    async with world.served() as served, served.connect() as (reader, writer):
        writer.write(head(tmp_path / "f", *lines) + body)
        writer.write_eof()
        assert not (await reader.read()).startswith(b"HTTP/1.1 20")
        while world.files.opened:
            await asyncio.sleep(0)
    assert (tmp_path / "f").read_bytes() == b"old"
    assert raw_names(str(tmp_path)) == {b"f"}


async def test_path_outside_the_file_systems(client: httpx.AsyncClient, tmp_path: Path) -> None:
    assert (await put(client, tmp_path.parent / "elsewhere")).status_code == 400
    assert (await put(client, tmp_path / "../elsewhere")).status_code == 400


async def test_missing_token(world: World, tmp_path: Path) -> None:
    async with world.client() as client:
        answer = await client.put(
            URL, params={"path": str(tmp_path / "f")}, content=b"x", headers={"Authorization": ""}
        )
    assert answer.status_code == 401
    assert raw_names(str(tmp_path)) == set()
