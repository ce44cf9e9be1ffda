"""A store that accepts connections and does not answer: requests end in time, and the next ones at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from flamecrest.sandbox.store import ACCESS_KEY, REGION, SECRET_KEY
from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Unavailable
from flamecrest.server.transfer.s3.presign import StoreKey
from flamecrest.server.transfer.s3.silence import PAUSE, TRIAL, Silence
from flamecrest.server.transfer.s3.store import LEAVING, THREADS, Store

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
        self.listed = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.listed += head.startswith(b"GET / ")
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
async def listening(sends: bytes, *, lists: bool = False, **times: float) -> AsyncIterator[tuple[Listener, Store]]:
    listener = Listener(sends, lists=lists)
    server = await asyncio.start_server(listener.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    given: dict[str, Any] = {"answer": 0.5, **times}
    store = Store("ceph", f"http://127.0.0.1:{port}", KEY, "path", lifecycle_days=3, **given)
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


@pytest.mark.anyio
async def test_the_first_request_ends_when_a_probe_has_no_answer_either() -> None:
    """Long before its time is over."""
    async with listening(b"", answer=3600, doubt=0.1, probe=2) as (listener, store):
        with pytest.raises(Unavailable, match="does not answer") as raised:
            await store.head("bucket", "a")
        assert raised.value.detail == "No answer, and none to a probe"
        async with asyncio.timeout(40):
            while not listener.listed:  # it reads late on a slow machine
                await asyncio.sleep(0.01)
        assert listener.listed == 1


@pytest.mark.anyio
async def test_a_slow_request_goes_on_while_probes_are_answered() -> None:
    async with listening(b"", lists=True, answer=3600, doubt=0.1, probe=30) as (listener, store):
        asked = asyncio.create_task(store.head("bucket", "a"))
        async with asyncio.timeout(40):
            while listener.listed < 3:
                await asyncio.sleep(0.01)
        assert not asked.done()
        listener.answers.set()
        assert await asked is None


@pytest.mark.anyio
async def test_requests_that_hang_keep_no_probe_from_being_sent() -> None:
    async with listening(b"", lists=True, answer=30) as (_, store):
        for _ in range(THREADS):
            with pytest.raises(Unavailable):
                await store.head("bucket", "a", Deadline.after(0.1))
        await store.ping(Deadline.after(30))


@pytest.mark.anyio
async def test_requests_of_a_gateway_that_stops_have_little_time() -> None:
    async with listening(b"", answer=3600) as (_, store):
        assert store._limit(None) == 3600
        store.leave()
        assert (store._limit(None), store._limit(Deadline.after(3600))) == (LEAVING, LEAVING)


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
