"""Contract of downloads while programs write: tag, length and bytes are of one state of the file, or reading fails."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest

from flamecrest.server.errors import Upstream
from flamecrest.server.http.headers.conditions import Validators

from .places import Place, soon

pytestmark = [pytest.mark.anyio, pytest.mark.needs("disk", "ssh")]

SIZES = (30_000, 200_000, 600_000)  # one answer of the agent, one of SFTP, several


class Writer:
    """Changes one file in every way, at random. `states` has the digest of every content that the file had."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path = path
        self.states: set[bytes] = set()
        self._random = random.Random(seed)
        self._number = 0
        self.replace()

    def _next(self, size: int | None = None) -> bytes:
        self._number += 1
        content = self._number.to_bytes(8) * ((size or self._random.choice(SIZES)) // 8)
        self.states.add(sha256(content).digest())
        return content

    def replace(self) -> None:
        other = self.path.with_name("other")
        other.write_bytes(self._next())
        os.utime(other, (1_700_000_000, 1_700_000_000))
        other.replace(self.path)

    def write_in_place(self) -> None:
        before = self.path.stat()
        with self.path.open("r+b") as opened:
            opened.write(self._next(before.st_size))
        os.utime(self.path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def write_longer(self) -> None:
        if (size := self.path.stat().st_size) < max(SIZES):
            with self.path.open("r+b") as opened:
                opened.write(self._next(size + 8000))

    def write_anew(self) -> None:
        self.states.add(sha256(b"").digest())
        content = self._next()
        with self.path.open("wb") as opened:  # without a state between the two
            opened.write(content)

    def append(self) -> None:
        content = self.path.read_bytes()
        added = b"appended"
        self.states.add(sha256(content + added).digest())
        with self.path.open("ab") as opened:
            opened.write(added)

    def change(self, changes: list[Callable[[], None]]) -> None:
        self._random.choice(changes)()

    @property
    def pause(self) -> float:
        return self._random.choice((0.0, 0.002, 0.03, 0.06))


async def download(place: Place, path: Path, pause: float) -> tuple[str | None, bytes]:
    async with place.content.download(str(path), soon()) as reader:
        etag = Validators.of(reader.stat, time.time()).etag
        data = bytearray()
        async for chunk in reader.chunks():
            data += chunk
            await asyncio.sleep(pause)
        assert len(data) == reader.stat.size
        return etag, bytes(data)


@pytest.mark.parametrize("renames", [True, False])
@pytest.mark.parametrize("seed", range(2))
async def test_every_answer_is_one_state_of_the_file(place, seed, renames):
    path = Path(place.path("f"))
    writer = Writer(path, seed)
    in_place = [writer.write_in_place, writer.write_longer, writer.write_anew, writer.append]
    changes = [writer.replace] if renames else in_place
    until = time.monotonic() + 0.8

    async def write() -> None:
        while time.monotonic() < until:
            await asyncio.to_thread(writer.change, changes)
            await asyncio.sleep(writer.pause)

    contents: dict[str, bytes] = {}

    async def read() -> None:
        etag, data = await download(place, path, seed * 0.002)
        assert sha256(data).digest() in writer.states
        assert etag is None or contents.setdefault(etag, data) == data

    writing = asyncio.create_task(write())
    while not writing.done():
        with suppress(Upstream):
            await read()
    await writing
    await read()  # while the writer is fast all reads may have failed: at rest the file must be readable


async def test_a_download_that_breaks_off_says_that_the_file_grew(place):
    path = Path(place.path("f"))
    path.write_bytes(b"x" * 3_000_000)
    with pytest.raises(Upstream, match="The file grew while it was read"):
        async with place.content.download(str(path), soon()) as reader:
            async for _ in reader.chunks():
                with path.open("ab") as opened:
                    opened.write(b"more")
