"""Downloads whose clients read slowly or not at all: what is read ahead of them is bounded."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import pytest

from flamecrest.server.files.read_ahead import LEAST, ReadAhead
from flamecrest.server.files.remote.content import RemoteContent

from .places import soon

pytestmark = pytest.mark.anyio

DOWNLOADS = 24
SIZE = 6 * 2**20


@pytest.mark.needs("faults")
async def test_what_stalled_downloads_read_ahead_is_bounded(place):
    """Each has a few bytes taken; then nobody reads, and what has arrived from the cluster is counted."""
    path = Path(place.path("big"))
    path.write_bytes(bytes(range(256)) * (SIZE // 256))
    limits = ReadAhead(per_user=2**20)
    content = RemoteContent(place.session, read_ahead=limits, username="ann")
    async with AsyncExitStack() as stack:
        before, taken, readers = place.ssh.pool.stats()["bytes_received"], 0, []
        for _ in range(DOWNLOADS):
            reader = await stack.enter_async_context(content.download(str(path), soon()))
            chunks: Any = reader.chunks()
            await stack.enter_async_context(aclosing(chunks))
            readers.append(chunks)
            taken += len(await anext(chunks))
        received = -1
        while received != (received := place.ssh.pool.stats()["bytes_received"]):
            await asyncio.sleep(0.1)
        ahead = received - before - taken
        assert limits.used <= limits.per_user
        # besides the windows, each keeps one chunk back until the bytes are proven
        assert ahead < limits.per_user + DOWNLOADS * 2 * LEAST + 2**20
        rest = [b"".join([chunk async for chunk in readers[number]]) for number in (0, DOWNLOADS - 1)]
    assert all(path.read_bytes().endswith(part) and len(part) > SIZE // 2 for part in rest)
    assert limits.used == 0
