"""Far more than fits into the gateway's memory at once: large bodies that do not end, responses that nobody reads."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from pathlib import Path

import pytest

from .place import MANY, ONE, OTHER, Place

pytestmark = [pytest.mark.anyio, pytest.mark.live, pytest.mark.timeout(180)]

MEBIBYTE = 1024 * 1024
TEXT = 4 * MEBIBYTE  # bytes of a file that is viewed, and of a body
EACH = 12  # requests of each kind and user
# What may be added: the limit, what is read ahead of downloads (32 MiB of each user), what the HTTP server holds of
# each connection, and as much again, as a process does not give back all that it has had.
MOST = 300 * MEBIBYTE


def resident(pid: int) -> int:
    """Bytes of memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


async def unread(place: Place, user: str, operation: str, name: str) -> asyncio.StreamWriter:
    """A request for a file whose response is never read."""
    _, writer = await place.dial()
    path = place.centre.home(user) / name
    writer.write(place.head("GET", f"ops/{operation}?path={path}", user))
    await writer.drain()
    return writer


async def unended(place: Place, user: str) -> asyncio.StreamWriter:
    """A request with a large JSON body whose last byte does not come."""
    _, writer = await place.dial()
    length = [f"Content-Length: {TEXT}", "Content-Type: application/json"]
    writer.write(place.head("POST", "bulk/stat", user, *length))
    with suppress(ConnectionError, TimeoutError):  # it may be refused before all was sent
        async with asyncio.timeout(20):
            for _ in range(TEXT // 65536 - 1):
                writer.write(b" " * 65536)
                await writer.drain()
    return writer


@pytest.mark.parametrize("place", [{"server": {"max_memory": 48 * MEBIBYTE}}], indirect=True)
async def test_the_memory_of_the_process_stays_within_a_bound(place: Place) -> None:
    for user in MANY:
        (place.centre.home(user) / "text").write_text("a line\n" * (TEXT // 7))
        assert (await place.get(user, "stat", "text")).status_code == 200
    before = resident(place.pid)
    opened: list[asyncio.StreamWriter] = []
    for user in (ONE, *MANY):
        opened += await asyncio.gather(*(unread(place, user, "download", "large") for _ in range(EACH)))
        opened += await asyncio.gather(*(unended(place, user) for _ in range(EACH)))
        opened += await asyncio.gather(*(unread(place, user, "view", "text") for _ in range(EACH)))
    waiting = [asyncio.create_task(place.command(ONE, 10)) for _ in range(60)]
    most = 0
    for _ in range(30):
        answer = await place.get(OTHER, "stat", "large")
        assert answer.status_code == 200, "who needs little is served"
        most = max(most, resident(place.pid))
        await asyncio.sleep(0.1)
    answers = await asyncio.gather(*waiting)
    most = max(most, resident(place.pid))
    assert most - before < MOST, f"{(most - before) / MEBIBYTE:.0f} MiB more than before"
    assert {one.status_code for one in answers} <= {200, 503, 429, 408}
    for writer in opened:
        writer.transport.abort()
    assert (await place.command(ONE)).status_code == 200, "afterwards it is as before"
