"""A store that accepts connections and does not answer: requests end in time, and the next ones at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from flamecrest.sandbox.store import ACCESS_KEY, REGION, SECRET_KEY
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Unavailable
from flamecrest.server.transfer.s3.presign import StoreKey
from flamecrest.server.transfer.s3.silence import PAUSE, TRIAL, Silence
from flamecrest.server.transfer.s3.store import Store

KEY = StoreKey(ACCESS_KEY, SECRET_KEY, REGION)
HALF = b"HTTP/1.1 200 OK\r\nContent-Type: appl"
EMPTY = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Listener:
    """A TCP server: it reads what is sent, says `sends`, and then nothing, unless `answers` is set.

    `lists`: it answers the question for all buckets.
    """

    def __init__(self, sends: bytes, *, lists: bool) -> None:
        self._sends = sends
        self._lists = lists
        self.answers = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if not self.answers.is_set() and not (self._lists and head.startswith(b"GET / ")):
                writer.write(self._sends)
                await self.answers.wait()
            else:
                writer.write(EMPTY)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening(sends: bytes, *, lists: bool = False) -> AsyncIterator[tuple[Listener, Store]]:
    listener = Listener(sends, lists=lists)
    server = await asyncio.start_server(listener.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = Store("ceph", f"http://127.0.0.1:{port}", KEY, "path", lifecycle_days=3, answer=0.5)
    try:
        yield listener, store
    finally:
        listener.answers.set()  # the threads that wait end, too
        store.close()
        server.close()


async def eventually(request: Callable[[], Awaitable[object]]) -> None:
    """Make the request until it is answered in time: the machine may be slow."""
    async with asyncio.timeout(40):
        while True:
            try:
                await request()
            except Unavailable:
                await asyncio.sleep(0.1)
            else:
                return


@pytest.mark.anyio
@pytest.mark.parametrize("sends", [b"", HALF], ids=["silent", "half a head"])
async def test_a_store_that_hangs(sends: bytes) -> None:
    async with listening(sends) as (listener, store):
        with pytest.raises(Unavailable, match="The object store ceph does not answer") as raised:
            await store.ensure_bucket("bucket", Deadline.after(30))
        assert (raised.value.detail, raised.value.retry_after) == ("No answer in time", 5)
        async with asyncio.timeout(40):
            while "Not asked" not in str(raised.value.detail):  # when the probe had no answer either
                with pytest.raises(Unavailable, match="does not answer") as raised:
                    await store.head("bucket", "a", Deadline.after(30))
        listener.answers.set()
        await eventually(lambda: store.ping(Deadline.after(30)))  # a probe looks all the same
        await eventually(lambda: store.head("bucket", "a", Deadline.after(30)))


@pytest.mark.anyio
async def test_a_slow_request_closes_it_to_nobody() -> None:
    """The store is probed, and answers that."""
    async with listening(b"", lists=True) as (_, store):
        await eventually(lambda: store.ping(Deadline.after(30)))
        for _ in range(2):
            with pytest.raises(Unavailable, match="does not answer") as raised:
                await store.begin_upload("bucket", "a", "attachment", deadline=Deadline.after(0.1))
            assert raised.value.detail == "No answer in time"  # it was asked
            await eventually(lambda: store.ping(Deadline.after(30)))


def test_one_request_at_a_time_tries_a_silent_store() -> None:
    now = [100.0]
    silence = Silence(clock=lambda: now[0])
    assert silence.wait() is None
    silence.unanswered()
    assert silence.wait() == PAUSE
    now[0] += PAUSE
    assert silence.wait() is None  # the trial
    assert silence.wait() == TRIAL
    silence.ended()  # it was given up: the next one tries
    assert silence.wait() is None
    assert silence.wait() == TRIAL
    silence.unanswered()
    assert silence.wait() == PAUSE
    now[0] += PAUSE
    assert silence.wait() is None
    silence.answered()
    assert (silence.wait(), silence.wait()) == (None, None)
    silence.ended()
    assert silence.wait() is None
