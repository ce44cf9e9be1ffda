"""A request leaves nothing to the garbage collector: what is in a cycle takes memory until a full collection."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from flamecrest.sandbox.centre import Centre
from flamecrest.server.app import create_app
from flamecrest.server.settings import load
from tests.unit.cli.served import serving

pytestmark = pytest.mark.anyio

ROUNDS = 5
OURS = ("flamecrest.server.", "python_multipart.")
PIECES = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="pieces.txt"\r\n\r\n',
    b"content\r\n",
    b"--b--\r\n",
)


@contextmanager
def collected() -> Iterator[Counter[str]]:
    """The classes of the gateway's objects that only the garbage collector frees, with their numbers."""
    found: Counter[str] = Counter()
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        names = [f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.garbage]
        found.update(name for name in names if name.startswith(OURS) or "ClientChannel" in name)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


async def work(client: httpx.AsyncClient, system: str, home: str) -> None:
    """Requests of each kind: small and in pieces, through the agent and by a command of its own, with an error."""
    files, jobs = f"/filesystem/{system}/ops", f"/compute/{system}/jobs"
    small = await client.post(f"{files}/upload", params={"path": home}, files={"file": ("small.txt", b"abc")})

    async def pieces() -> AsyncIterator[bytes]:
        for piece in PIECES:
            yield piece
            await asyncio.sleep(0.01)  # so that each comes by itself

    form = {"Content-Type": "multipart/form-data; boundary=b"}
    large = await client.post(f"{files}/upload", params={"path": home}, headers=form, content=pieces())
    read = [
        await client.get(f"{files}/{name}", params={"path": f"{home}/small.txt"})
        for name in ("stat", "ls", "download", "checksum", "head")
    ]
    missing = [
        await client.get(f"{files}/{name}", params={"path": f"{home}/missing"})
        for name in ("stat", "ls", "download", "checksum", "head")
    ]
    unreadable = await client.post(f"{files}/upload", params={"path": home}, headers=form, content=b"--b\r\nx")
    listed = await client.get(jobs)
    unknown = await client.get(f"{jobs}/999999")
    assert {one.status_code for one in (small, large)} == {204}
    assert {one.status_code for one in (*read, listed)} == {200}
    assert {one.status_code for one in (*missing, unknown)} == {404}
    assert unreadable.status_code == 400


async def test_requests_are_freed_when_they_have_ended(tmp_path: Path):
    async with Centre(tmp_path / "centre") as centre:
        config = await asyncio.to_thread(centre.write_config, tmp_path / "flamecrest.yaml")
        app = await asyncio.to_thread(lambda: create_app(load(config, {})))
        headers = {"Authorization": f"Bearer {centre.token('fireuser')}"}
        home = str(centre.home("fireuser"))
        async with (
            serving(app) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False) as client,
        ):
            await work(client, centre.system, home)  # opens the connection
            with collected() as found:
                for _ in range(ROUNDS):
                    await work(client, centre.system, home)
    assert not found
