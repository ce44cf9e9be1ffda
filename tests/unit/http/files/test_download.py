"""Downloads: the whole file or an error; a truncated response is recognisable."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from flamecrest.server.errors import Upstream
from tests.unit.http.local_files import LocalFiles, LocalReader
from tests.unit.http.world import CALLER, World, logged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flamecrest.server.deadline import Deadline

pytestmark = pytest.mark.anyio

URL = "/filesystem/toy/ops/download"


def head(path: Path) -> bytes:
    return b"GET %b?path=%b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token-of-fireuser\r\n\r\n" % (
        URL.encode(),
        os.fsencode(path),
    )


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 300_000])
async def test_content_is_unchanged(client: httpx.AsyncClient, world: World, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "f").write_bytes(data)
    response = await client.get(URL, params={"path": str(tmp_path / "f")})
    assert response.status_code == 200
    assert response.content == data
    assert response.headers["content-length"] == str(size)
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-disposition"] == "attachment; filename=\"f\"; filename*=UTF-8''f"
    assert world.files.opened == 0


@pytest.mark.parametrize(
    ("raw", "header"),
    [
        (b'a"b\\c', "attachment; filename=\"a_b_c\"; filename*=UTF-8''a%22b%5Cc"),
        (
            b"line\r\nSet-Cookie: x",
            "attachment; filename=\"line__Set-Cookie_ x\"; filename*=UTF-8''line%0D%0ASet-Cookie%3A%20x",
        ),
        (b"\xff", "attachment; filename=\"_\"; filename*=UTF-8''%FF"),
    ],
)
async def test_file_names_are_escaped_in_headers(
    client: httpx.AsyncClient, tmp_path: Path, raw: bytes, header: str
) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/" + raw)
    Path(path).touch()
    escaped = "".join(f"%{byte:02X}" for byte in os.fsencode(path))
    response = await client.get(f"{URL}?path={escaped}")
    assert response.headers["content-disposition"] == header
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize(("limit", "status"), [(3, 413), (4, 200), (None, 200)])
async def test_size_limit_is_inclusive(world: World, tmp_path: Path, limit: int | None, status: int) -> None:
    (tmp_path / "f").write_bytes(b"1234")
    async with world.with_limits(max_ops_file_size=limit).client() as client:
        assert (await client.get(URL, params={"path": str(tmp_path / "f")})).status_code == status
    assert world.files.opened == 0


async def test_errors_use_the_envelope(client: httpx.AsyncClient, world: World, tmp_path: Path) -> None:
    assert (await client.get(URL, params={"path": str(tmp_path / "none")})).status_code == 404
    assert (await client.get(URL, params={"path": str(tmp_path)})).status_code == 400
    assert world.files.opened == 0


class Breaking(LocalReader):
    """An open file whose reads fail before the end."""

    async def chunks(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:  # noqa: ARG002
        if self.stat.size < 10:
            raise Upstream("The connection to the cluster broke")
        yield bytes(self.stat.size - 1)
        raise Upstream("The connection to the cluster broke")


class BrokenDisk(LocalFiles):
    """A disk whose files fail while they are read."""

    @asynccontextmanager
    async def download(self, path: str, deadline: Deadline, *, choose_start: Any = None) -> AsyncIterator[LocalReader]:  # noqa: ARG002
        fd = os.open(path, os.O_RDONLY)
        self.opened += 1
        try:
            reader = Breaking(fd)
            choose_start(reader.stat)
            yield reader
        finally:
            os.close(fd)
            self.opened -= 1


async def test_failure_before_the_first_byte_is_an_error_response(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("short")
    world = World(str(tmp_path), files=BrokenDisk())
    async with world.client() as client:
        assert (await client.get(URL, params={"path": str(tmp_path / "f")})).status_code == 424
    assert world.files.opened == 0


async def test_failure_midway_aborts_the_connection(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(1000))
    world = World(str(tmp_path), files=BrokenDisk())
    with logged() as lines:
        async with world.served() as served, served.connect() as (reader, writer):
            writer.write(head(tmp_path / "f"))
            answer = await reader.read()
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{served.port}", headers=CALLER, verify=False
            ) as client:
                with pytest.raises(httpx.RemoteProtocolError):
                    await client.get(URL, params={"path": str(tmp_path / "f")})
    top, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-length: 1000" in top
    assert len(body) == 999
    assert world.files.opened == 0
    cut = [line for line in lines if line["logger"] == "flamecrest.access"]
    assert {(line["level"], line["error"]) for line in cut} == {("WARNING", "Upstream")}


class Endless(LocalFiles):
    """A disk with an endless file that signals when it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = asyncio.Event()

    @asynccontextmanager
    async def download(self, path: str, deadline: Deadline, *, choose_start: Any = None) -> AsyncIterator[Any]:
        async with super().download(path, deadline, choose_start=choose_start) as reader:
            try:
                yield reader
            finally:
                self.closed.set()


async def test_client_disconnect_closes_the_file(tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as file:
        file.truncate(1 << 40)
    files = Endless()
    world = World(str(tmp_path), files=files).with_limits(max_ops_file_size=None)
    async with world.served() as served, served.connect() as (reader, writer):
        writer.write(head(tmp_path / "f"))
        await reader.readexactly(100_000)
        assert files.opened == 1
        writer.transport.abort()
        await files.closed.wait()
    assert files.opened == 0


async def test_slow_client_limits_reading(tmp_path: Path) -> None:
    """The gateway buffers only a bounded part of the file, whatever the speed of the disk."""
    with (tmp_path / "f").open("wb") as file:
        file.truncate(1 << 40)
    read = 0

    class Counting(LocalReader):
        async def chunks(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
            nonlocal read
            async for chunk in super().chunks(start, end):
                read += len(chunk)
                yield chunk

    class CountingDisk(LocalFiles):
        @asynccontextmanager
        async def download(
            self,
            path: str,
            deadline: Deadline,  # noqa: ARG002
            *,
            choose_start: Any = None,
        ) -> AsyncIterator[LocalReader]:
            with open(path, "rb", buffering=0) as opened:  # noqa: PTH123
                reader = Counting(opened.fileno())
                choose_start(reader.stat)
                yield reader

    world = World(str(tmp_path), files=CountingDisk()).with_limits(max_ops_file_size=None)
    async with world.served() as served, served.connect() as (reader, writer):
        writer.write(head(tmp_path / "f"))
        await reader.readuntil(b"\r\n\r\n")
        before = -1
        while before != read:  # until no progress is made: all buffers are full
            before = read
            for _ in range(200):
                await asyncio.sleep(0)
        assert read < 64 * 1024 * 1024
