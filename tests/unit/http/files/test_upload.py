"""Uploads by form: the file is written completely or not at all."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest

from flamecrest.server.files.values import DEFAULT_WRITE, WriteOptions, WriteResult
from tests.unit.http.local_files import LocalFiles
from tests.unit.http.world import CALLER, World, fields, raw_names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from flamecrest.server.deadline import Deadline

pytestmark = pytest.mark.anyio

URL = "/filesystem/toy/ops/upload"
KIND = {"content-type": "multipart/form-data; boundary=BOUND"}
TOKEN = b"Authorization: Bearer token-of-fireuser\r\n"


def part(data: bytes, disposition: bytes = b'form-data; name="file"; filename="f"', more: bytes = b"") -> bytes:
    return b"--BOUND\r\nContent-Disposition: " + disposition + b"\r\n" + more + b"\r\n" + data + b"\r\n"


END = b"--BOUND--\r\n"


async def put(client: httpx.AsyncClient, folder: Path, form: Any, **headers: str) -> httpx.Response:
    return await client.post(URL, params={"path": str(folder)}, content=form, headers=KIND | headers)


@pytest.mark.parametrize(
    "data", [b"", b"x", b"\r\n", b"\r\n--BOUNDX", b"\r\n--BOUN\r\n--BOUND-", b"--BOUND--", bytes(300_000)]
)
async def test_uploaded_content(client: httpx.AsyncClient, tmp_path: Path, data: bytes) -> None:
    assert (await put(client, tmp_path, part(data) + END)).status_code == 204
    assert (tmp_path / "f").read_bytes() == data


async def test_body_split_into_chunks_of_any_size(client: httpx.AsyncClient, tmp_path: Path) -> None:
    data = os.urandom(2000) + b"\r\n--BOUN" + b"\r\n\r\n--BOUNX" + os.urandom(50)
    form = (
        part(b"ignored", b'form-data; name="other"')
        + part(data)
        + part(b"", b'form-data; name="last"')
        + END
        + b"epilogue"
    )
    for size in (1, 2, 3, 7, 64, 1000):

        async def pieces(size: int = size) -> AsyncIterator[bytes]:
            for start in range(0, len(form), size):
                yield form[start : start + size]

        assert (await put(client, tmp_path, pieces())).status_code == 204
        assert (tmp_path / "f").read_bytes() == data


@pytest.mark.parametrize(
    "name", ["plain", "with space", 'quo"te', "back\\slash", "caf\u00e9", "tab\tname", "new\nline", "100%", ";"]
)
async def test_file_names_as_httpx_encodes_them(client: httpx.AsyncClient, tmp_path: Path, name: str) -> None:
    response = await client.post(URL, params={"path": str(tmp_path)}, files={"file": (name, b"x")})
    assert response.status_code == 204
    assert raw_names(str(tmp_path)) == {os.fsencode(name)}


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"../x", b"/etc/passwd", b"a\0b", b"x" * 256, b"%2e%2e/x"])
@pytest.mark.parametrize("exact", [True, False])
async def test_invalid_file_names(client: httpx.AsyncClient, tmp_path: Path, name: bytes, exact: bool) -> None:
    given = b"filename*=UTF-8''" + quote(name, safe="").encode() if exact else b'filename="' + name + b'"'
    response = await put(client, tmp_path, part(b"x", b'form-data; name="file"; ' + given) + END)
    assert fields(response) == [("body", "file")]
    assert raw_names(str(tmp_path)) == set()


WRONG = {
    "empty": b"",
    "no form": b"hello",
    "no part": END,
    "only another field": part(b"x", b'form-data; name="other"; filename="f"') + END,
    "no file name": part(b"x", b'form-data; name="file"') + END,
    "wrong disposition type": part(b"x", b'attachment; name="file"; filename="f"') + END,
    "two files": part(b"x") + part(b"y", b'form-data; name="file"; filename="g"') + END,
    "the same part twice": part(b"x") + part(b"x") + END,
    "cut in the file": part(bytes(100_000))[:-2],
    "cut before the end": part(b"x") + b"--BOUND",
    "cut in the headers": b"--BOUND\r\nContent-Disposition: form-data; na",
    "wrong boundary": part(b"x").replace(b"BOUND", b"OTHER") + END,
    "an unreadable header": part(b"x", b'form-data; name="file"; filename="open') + END,
    "two names": part(b"x", b'form-data; name="file"; filename="a"; filename="b"') + END,
    "unknown charset": part(b"x", b"form-data; name=\"file\"; filename*=klingon''x") + END,
    "too many headers": part(b"x", more=b"X-A: b\r\n" * 50) + END,
    "a header without end": part(b"x", more=b"X-A: " + b"b" * 100_000 + b"\r\n") + END,
    "an invalid header": part(b"x", more=b"X A\x00: b\r\n") + END,
}


@pytest.mark.parametrize("case", WRONG)
async def test_invalid_form_creates_nothing(client: httpx.AsyncClient, world: World, tmp_path: Path, case: str) -> None:
    response = await put(client, tmp_path, WRONG[case])
    assert fields(response) == [("body", "file")]
    assert raw_names(str(tmp_path)) == set()
    assert world.files.opened == 0


@pytest.mark.parametrize(
    "kind",
    ["application/json", "text/plain", "multipart/form-data", "multipart/form-data; boundary=",
     "multipart/mixed; boundary=BOUND",
     "multipart/form-data; boundary=" + "x" * 500, "multipart/form-data; boundary", "", "\u00ff"],
)  # fmt: skip
async def test_content_type_must_be_form_data(client: httpx.AsyncClient, tmp_path: Path, kind: str) -> None:
    headers = [(b"content-type", kind.encode("latin-1"))]
    response = await client.post(URL, params={"path": str(tmp_path)}, content=part(b"x") + END, headers=headers)
    assert fields(response) == [("body", "file")]


async def test_truncated_upload_keeps_the_old_file(client: httpx.AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")
    assert (await put(client, tmp_path, part(b"new"))).status_code == 400
    assert (tmp_path / "f").read_text() == "old"
    assert raw_names(str(tmp_path)) == {b"f"}


@pytest.mark.parametrize("limit", [0, 1, 1000])
async def test_size_limit_is_inclusive(world: World, tmp_path: Path, limit: int) -> None:
    async with world.with_limits(max_ops_file_size=limit).client() as client:
        assert (await put(client, tmp_path, part(bytes(limit)) + END)).status_code == 204
        (tmp_path / "f").unlink()
        response = await put(client, tmp_path, part(bytes(limit + 1)) + END)
        assert response.status_code == 413
        assert response.json()["data"]["fields"][0]["name"] == "file"
    assert raw_names(str(tmp_path)) == set()


async def test_no_limit(world: World, tmp_path: Path) -> None:
    async with world.with_limits(max_ops_file_size=None).client() as client:
        assert (await put(client, tmp_path, part(bytes(6_000_000)) + END)).status_code == 204
    assert (tmp_path / "f").stat().st_size == 6_000_000


@pytest.mark.parametrize(
    "beside", [part(bytes(2_000_000), b'form-data; name="other"') + part(b"x"), part(b"x") + END + bytes(2_000_000)]
)
async def test_size_of_other_form_data_is_limited(client: httpx.AsyncClient, tmp_path: Path, beside: bytes) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        form = beside + END
        for start in range(0, len(form), 65536):
            yield form[start : start + 65536]

    assert (await put(client, tmp_path, pieces())).status_code == 413
    assert raw_names(str(tmp_path)) == set()


async def test_missing_folder_gives_404_before_the_body_ends(world: World, tmp_path: Path) -> None:
    head = b"POST %b?path=%b/none HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n" % (
        URL.encode(),
        str(tmp_path).encode(),
    )
    head += TOKEN + b"Content-Type: multipart/form-data; boundary=BOUND\r\n\r\n"
    async with world.served() as served, served.connect() as (reader, writer):
        writer.write(head + part(b"")[:-2])
        assert (await reader.readline()).startswith(b"HTTP/1.1 404")


async def test_declared_length_over_the_limit_gives_413_at_once(world: World, tmp_path: Path) -> None:
    head = b"POST %b?path=%b HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n" % (
        URL.encode(),
        str(tmp_path).encode(),
    )
    head += TOKEN + b"Content-Type: multipart/form-data; boundary=BOUND\r\n\r\n"
    async with world.served() as served, served.connect() as (reader, writer):
        writer.write(head)
        assert (await reader.readline()).startswith(b"HTTP/1.1 413")


async def test_stalled_upload_gives_408(world: World, tmp_path: Path) -> None:
    head = b"POST %b?path=%b HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n" % (URL.encode(), str(tmp_path).encode())
    head += TOKEN + b"Content-Type: multipart/form-data; boundary=BOUND\r\n\r\n"
    world = world.with_limits(files=0.05)
    async with world.served() as served:
        for sent in (head, head + part(b"x")[:-2]):
            async with served.connect() as (reader, writer):
                writer.write(sent)
                assert (await reader.readline()).startswith(b"HTTP/1.1 408")
                writer.close()
                await writer.wait_closed()
    assert raw_names(str(tmp_path)) == set()


async def test_client_disconnect_leaves_no_temporary_file(tmp_path: Path) -> None:
    begun = asyncio.Event()

    class SignallingFiles(LocalFiles):
        async def upload(
            self, path: str, chunks: AsyncIterator[bytes], deadline: Deadline, landing: WriteOptions = DEFAULT_WRITE
        ) -> WriteResult:
            async def watched() -> AsyncIterator[bytes]:
                async for chunk in chunks:
                    yield chunk
                    begun.set()

            return await super().upload(path, watched(), deadline, landing)

    world = World(str(tmp_path), files=SignallingFiles())
    head = b"POST %b?path=%b HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n" % (URL.encode(), str(tmp_path).encode())
    head += TOKEN + b"Content-Type: multipart/form-data; boundary=BOUND\r\n\r\n"
    async with world.served() as served, served.connect() as (_, writer):
        writer.write(head + part(bytes(100_000)))
        await begun.wait()
        assert world.files.opened == 1
        writer.close()
        await writer.wait_closed()
    assert world.files.opened == 0
    assert raw_names(str(tmp_path)) == set()


async def test_large_upload_over_a_socket(world: World, tmp_path: Path) -> None:
    data = os.urandom(1_000_000) * 4
    async with (
        world.served() as served,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}", headers=CALLER, verify=False) as client,
    ):
        answer = await client.post(URL, params={"path": str(tmp_path)}, files={"file": ("f", data)})
    assert answer.status_code == 204
    assert (tmp_path / "f").read_bytes() == data


async def test_backpressure_of_a_slow_disk(tmp_path: Path) -> None:
    """While the disk is blocked, the gateway buffers only a bounded part of the upload."""
    stands, goes_on = asyncio.Event(), asyncio.Event()

    class BlockedFiles(LocalFiles):
        async def upload(
            self,
            path: str,  # noqa: ARG002
            chunks: AsyncIterator[bytes],
            deadline: Deadline,  # noqa: ARG002
            landing: WriteOptions = DEFAULT_WRITE,  # noqa: ARG002
        ) -> WriteResult:
            await anext(chunks)
            stands.set()
            await goes_on.wait()
            async for _ in chunks:
                pass
            return WriteResult(True, None)

    world = World(str(tmp_path), files=BlockedFiles()).with_limits(max_ops_file_size=None)
    head = b"POST %b?path=%b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n"
    head = head % (URL.encode(), str(tmp_path).encode(), 1 << 40)
    async with world.served() as served, served.connect() as (_, writer):
        writer.write(head + TOKEN + b"Content-Type: multipart/form-data; boundary=BOUND\r\n\r\n" + part(b"")[:-2])
        sent = 0
        while writer.transport.get_write_buffer_size() == 0:
            writer.write(bytes(65536))
            sent += 65536
            assert sent < 64 * 1024 * 1024
            for _ in range(20):
                await asyncio.sleep(0)
        await stands.wait()
        goes_on.set()
