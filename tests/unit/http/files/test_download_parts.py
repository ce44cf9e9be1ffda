"""GET and HEAD of a file: ranges, conditions, digests."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from email import message_from_bytes
from typing import TYPE_CHECKING

import pytest

from tests.unit.http.world import World

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

pytestmark = pytest.mark.anyio

URL = "/filesystem/toy/ops/download"
DATA = os.urandom(1000)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f"
    path.write_bytes(DATA)
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    return path


async def get(client: httpx.AsyncClient, path: Path, method: str = "GET", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.request(method, URL, params={"path": str(path)}, headers=named)


async def test_headers_of_get_and_head(client: httpx.AsyncClient, file: Path, world: World) -> None:
    whole, head = await get(client, file), await get(client, file, "HEAD")
    for answer in (whole, head):
        assert answer.status_code == 200
        assert answer.headers["content-length"] == "1000"
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["last-modified"] == "Tue, 14 Nov 2023 22:13:20 GMT"
        found = file.stat()
        assert answer.headers["etag"] == f'"{found.st_ino:x}-3e8-{found.st_mtime_ns:x}-{found.st_ctime_ns:x}"'
        assert answer.headers["cache-control"] == "private, no-cache"
    assert (whole.content, head.content) == (DATA, b"")
    assert world.files.opened == 0


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("0-0", 0, 1), ("999-", 999, 1000), ("-1", 999, 1000), ("10-99999", 10, 1000), ("-5000", 0, 1000)],
)
async def test_single_range(client: httpx.AsyncClient, file: Path, asked: str, start: int, end: int) -> None:
    answer = await get(client, file, range=f"bytes={asked}")
    assert answer.status_code == 206
    assert answer.content == DATA[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/1000"
    assert answer.headers["content-length"] == str(end - start)


async def test_multiple_ranges(client: httpx.AsyncClient, file: Path) -> None:
    answer = await get(client, file, range="bytes=900-,0-9,5-7")
    assert answer.status_code == 206
    assert len(answer.content) == int(answer.headers["content-length"])
    assert "content-range" not in answer.headers
    parsed = message_from_bytes(b"Content-Type: %b\r\n\r\n" % answer.headers["content-type"].encode() + answer.content)
    raw = answer.content.split(b"--" + parsed.get_boundary("").encode())
    assert [part.partition(b"\r\n\r\n")[2][:-2] for part in raw[1:-1]] == [DATA[900:], DATA[:10], DATA[5:8]]
    assert [part["content-range"] for part in parsed.get_payload()] == [  # type: ignore[index]
        "bytes 900-999/1000", "bytes 0-9/1000", "bytes 5-7/1000",
    ]  # fmt: skip


async def test_unsatisfiable_range(client: httpx.AsyncClient, file: Path, world: World) -> None:
    answer = await get(client, file, range="bytes=1000-")
    assert answer.status_code == 416
    assert answer.headers["content-range"] == "bytes */1000"
    assert world.files.opened == 0


@pytest.mark.parametrize("asked", ["bytes=9-1", "lines=1-2", "bytes=x", "nonsense", "bytes=0-999,0-999"])
async def test_invalid_range_is_ignored(client: httpx.AsyncClient, file: Path, asked: str) -> None:
    answer = await get(client, file, range=asked)
    assert (answer.status_code, answer.content) == (200, DATA)


async def test_range_of_an_empty_file(client: httpx.AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "e").touch()
    answer = await get(client, tmp_path / "e", range="bytes=0-5")
    assert (answer.status_code, answer.content) == (200, b"")


async def test_head_ignores_range(client: httpx.AsyncClient, file: Path) -> None:
    answer = await get(client, file, "HEAD", range="bytes=0-5")
    assert (answer.status_code, answer.headers["content-length"]) == (200, "1000")


async def test_conditional_requests(client: httpx.AsyncClient, file: Path, world: World) -> None:
    tag = (await get(client, file, "HEAD")).headers["etag"]
    date = "Tue, 14 Nov 2023 22:13:20 GMT"
    for method in ("GET", "HEAD"):
        for headers in ({"if_none_match": f'"x", {tag}'}, {"if_modified_since": date}):
            answer = await get(client, file, method, **headers)
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
            assert "content-length" not in answer.headers
        for headers in ({"if_match": '"x"'}, {"if_unmodified_since": "Tue, 14 Nov 2023 22:13:19 GMT"}):
            assert (await get(client, file, method, **headers)).status_code == 412
        for headers in ({"if_match": tag}, {"if_none_match": '"x"'}, {"if_unmodified_since": date}):
            assert (await get(client, file, method, **headers)).status_code == 200
    assert world.files.opened == 0


async def test_if_range(client: httpx.AsyncClient, file: Path) -> None:
    tag = (await get(client, file, "HEAD")).headers["etag"]
    # the date was set after the content was written, as the date of any other content can be
    for condition, status in ((tag, 206), ("Tue, 14 Nov 2023 22:13:20 GMT", 200), ('"x"', 200), ("W/" + tag, 200)):
        answer = await get(client, file, range="bytes=5-", if_range=condition)
        assert (answer.status_code, answer.content) == (status, DATA[5:] if status == 206 else DATA)


def digest(name: str, data: bytes) -> str:
    found = hashlib.new(name.replace("-", ""), data).digest()
    return f"{name}=:{base64.b64encode(found).decode()}:"


@pytest.mark.parametrize("name", ["sha-256", "sha-512"])
@pytest.mark.parametrize("size", [0, 1000, 600_000])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_digests_on_request(client: httpx.AsyncClient, tmp_path: Path, name: str, size: int, method: str) -> None:
    data = os.urandom(size)
    (tmp_path / "g").write_bytes(data)
    wanted = f"md5=10, {name}=5"
    answer = await get(client, tmp_path / "g", method, want_repr_digest=wanted, want_content_digest=wanted)
    if size or method == "GET":
        assert answer.headers.get("repr-digest") == (digest(name, data) if size <= 262144 or size else None)
        assert answer.headers["content-digest"] == digest(name, data)
    assert answer.content == (data if method == "GET" else b"")


@pytest.mark.parametrize("asked", ["bytes=0-9", "bytes=0-9,20-29"])
async def test_digest_of_a_partial_response(client: httpx.AsyncClient, file: Path, asked: str) -> None:
    answer = await get(client, file, range=asked, want_repr_digest="sha-256=1", want_content_digest="sha-256=1")
    assert answer.status_code == 206
    assert answer.headers["repr-digest"] == digest("sha-256", DATA)
    assert answer.headers["content-digest"] == digest("sha-256", answer.content)


async def test_no_digest_unless_asked(client: httpx.AsyncClient, file: Path) -> None:
    for headers in ({}, {"want_repr_digest": "md5=1"}, {"want_repr_digest": "sha-256=0"}, {"want_repr_digest": "?"}):
        answer = await get(client, file, **headers)
        assert answer.status_code == 200
        assert not {"repr-digest", "content-digest"} & set(answer.headers)


async def test_range_of_a_file_over_the_limit(world: World, file: Path) -> None:
    async with world.with_limits(max_ops_file_size=999).client() as client:
        assert (await get(client, file, range="bytes=0-1")).status_code == 413
        assert (await get(client, file, "HEAD")).status_code == 413


async def test_future_mtime_gives_no_last_modified(client: httpx.AsyncClient, file: Path) -> None:
    os.utime(file, (0, time.time() + 100))
    assert "last-modified" not in (await get(client, file)).headers
