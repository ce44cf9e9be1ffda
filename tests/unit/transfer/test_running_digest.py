"""The digest of a body that is computed in threads is that of all bytes in their order."""

import asyncio
import hashlib
import os
import sys
import threading

import pytest

from flamecrest.server.transfer.direct.running_digest import BATCH, NICENESS, RunningDigest

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "sizes",
    [[], [0], [1], [BATCH], [BATCH - 1, 1, 1], [3 * BATCH + 5, 7], [100_000] * 17],
    ids=["no chunk", "empty", "one byte", "a batch", "around a batch", "long chunk", "many chunks"],
)
async def test_digest_of_chunks(sizes: list[int]) -> None:
    chunks = [os.urandom(size) for size in sizes]
    digest = RunningDigest("md5")
    for chunk in chunks:
        await digest.add(chunk)
    assert await digest.hexdigest() == hashlib.md5(b"".join(chunks)).hexdigest()


async def test_bodies_at_once_have_their_own_digests() -> None:
    async def digest_of(byte: bytes) -> str:
        digest = RunningDigest("sha256")
        for _ in range(40):
            await digest.add(byte * 65536)
        return await digest.hexdigest()

    letters = [bytes([number]) for number in range(65, 81)]
    found = await asyncio.gather(*map(digest_of, letters))
    assert found == [hashlib.sha256(letter * 65536 * 40).hexdigest() for letter in letters]


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
async def test_threads_of_digests_let_others_go_first() -> None:
    digest = RunningDigest("md5")
    await digest.add(bytes(BATCH))
    await digest.hexdigest()
    threads = [thread.native_id for thread in threading.enumerate() if thread.name.startswith("digest")]
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert {os.getpriority(os.PRIO_PROCESS, number or 0) for number in threads} == {min(own + NICENESS, 19)}
