"""The orderly stop of the whole gateway, as a process of its own in front of the sandbox."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flamecrest.sandbox.centre import Centre
from tests.unit.cli.served import answer, dialed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

FLAMECREST = str(Path(sys.executable).with_name("flamecrest"))


@asynccontextmanager
async def gateway(config: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """A running gateway, and its port."""
    argv = (FLAMECREST, "serve", "--config", str(config), "--port", "0")
    process = await asyncio.create_subprocess_exec(*argv, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    try:
        line = b""
        while b"listens on" not in line:
            line = await process.stderr.readline()
            assert line, await process.wait()
        yield process, int(line.split(b" (")[0].rpartition(b":")[2])
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_sigterm_ends_tails_at_once_and_leaves_nothing_of_uploads(tmp_path: Path) -> None:
    async with Centre(tmp_path) as centre:
        config = Path(centre.write_config())
        config.write_text(f"{config.read_text()}\nserver: {{shutdown_timeout: 0.5}}\n")
        home = centre.home("fireuser")
        (home / "log").write_text("one\n")
        before = {path.name for path in home.iterdir()}
        head = f" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {centre.token('fireuser')}\r\n"
        ops = f"/filesystem/{centre.system}/ops"
        upload = f"PUT {ops}/upload?path={home}/big{head}Content-Length: 9000000\r\n\r\n".encode()
        tail = f"GET {ops}/tail?path={home}/log&follow=true{head}\r\n".encode()
        async with (
            gateway(config) as (process, port),
            dialed(port) as (uploaded, uploading),
            dialed(port) as (followed, following),
            dialed(port) as (refused, asking),
        ):
            uploading.write(upload + b"x" * 3_000_000)
            following.write(tail)
            await followed.readuntil(b"}\n\n")
            while before == {path.name for path in home.iterdir()}:
                await asyncio.sleep(0.01)  # until the upload has its temporary file
            process.terminate()
            await followed.readuntil(b"\r\n0\r\n\r\n")
            assert not uploaded.at_eof()  # the tail did not wait for the upload
            for path, status in (("/health/live", 200), ("/health/ready", 503)):
                asking.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                assert (await answer(refused))[0] == status
            asking.write(tail)
            assert (await answer(refused))[0] == 503
            assert (await answer(uploaded))[0] == 503
            assert await process.wait() == 0
        assert {path.name for path in home.iterdir()} == before
