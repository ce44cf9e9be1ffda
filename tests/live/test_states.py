"""The guarantees of docs/users/files on real sshd: one state in each answer, no late write of a suspended gateway."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest

from flamecrest.server.errors import NotFound, Upstream
from flamecrest.server.files.resumable.remote import RemoteUploads
from flamecrest.server.ssh.channels.sftp_program import SftpOpener
from tests.contract.files.places import Place, on_site, soon
from tests.contract.files.test_states import Writer, download
from tests.live.site import Site

pytestmark = pytest.mark.anyio

READERS = 4
READS = 8  # of each


@pytest.fixture
async def place(site: Site) -> AsyncIterator[Place]:
    async with on_site(site, SftpOpener()) as found:
        yield found


@pytest.mark.parametrize("renames", [True, False])
@pytest.mark.parametrize("pace", [0.0, 0.05, 1.0])
async def test_every_answer_is_one_state_of_the_file(place: Place, renames: bool, pace: float) -> None:
    """`pace` scales the pauses of the writer: 0 never pauses."""
    path = Path(place.path("f"))
    writer = Writer(path, seed=int(pace * 100))
    in_place = [writer.write_in_place, writer.write_longer, writer.write_anew, writer.append]
    changes = [writer.replace] if renames else in_place
    contents: dict[str, bytes] = {}
    stop = asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            await asyncio.to_thread(writer.change, changes)
            await asyncio.sleep(writer.pause * pace)

    async def read_once(pause: float) -> None:
        etag, data = await download(place, path, pause)
        digest = sha256(data).digest()
        assert digest in writer.states
        assert etag is None or contents.setdefault(etag, digest) == digest

    async def read(number: int) -> None:
        for _ in range(READS):
            with suppress(Upstream, NotFound):
                await read_once(number * 0.003)

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        await asyncio.gather(*(read(number) for number in range(READERS)))
        stop.set()
    await read_once(0)  # without pauses of the writer all reads may have failed: at rest the file must be readable
    print(f"{len(contents)} tags, {len(writer.states)} states")


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for one in data:
        yield one


async def test_a_suspended_gateway_writes_nothing_into_a_finished_upload(place: Place) -> None:
    uploads, length = RemoteUploads(place.session), 200_000_000
    key = (await uploads.create(place.path("f"), length, "", soon())).key
    data = Path(os.fsdecode(key.beside(os.fsencode(place.path("f"))).data))
    other = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.live.suspended_upload", key.text)
    try:
        async with asyncio.timeout(30):
            while (await asyncio.to_thread(data.stat)).st_size < 10_000_000:
                await asyncio.sleep(0.01)
        other.send_signal(signal.SIGSTOP)
        offset = (await uploads.look(key, soon())).offset
        rest = (b"N" * 1_000_000 for _ in range((length - offset) // 1_000_000))
        tail = b"N" * ((length - offset) % 1_000_000)
        assert (await uploads.append(key, offset, pieces(*rest, tail), soon())).complete
    finally:
        other.send_signal(signal.SIGCONT)
    async with asyncio.timeout(60):
        assert await other.wait() == 0
    content = await asyncio.to_thread(Path(place.path("f")).read_bytes)
    assert len(content) == length
    assert content == b"L" * offset + b"N" * (length - offset)
    assert (await uploads.look(key, soon())).complete
