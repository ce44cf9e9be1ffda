"""The SSH identification of a login node ends the time in which it must come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from flamecrest.server.ssh.pool.greeting import Greeting

pytestmark = pytest.mark.anyio


class Client(asyncio.Protocol):
    """Keeps what arrives; of a jump host it comes with a type, as of every channel of SSH."""

    def __init__(self) -> None:
        self.received = b""

    def data_received(self, data: bytes, _datatype: int | None = None) -> None:
        self.received += data


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A server that accepts connections and says nothing."""
    connected: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: connected.append(writer), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for writer in connected:
        writer.transport.abort()


@pytest.mark.parametrize("timely", [True, False])
async def test_an_identification_in_the_moment_in_which_its_time_runs_out(port: int, timely: bool) -> None:
    greeting, loop = Greeting(), asyncio.get_running_loop()
    failures: list[BaseException] = []
    transport, client = await greeting.create_connection(Client, "127.0.0.1", port)

    def identification() -> None:
        try:
            client.data_received(b"SSH-2.0-test\r\n")
        except RuntimeError as error:
            failures.append(error)

    late = False
    try:
        async with asyncio.timeout(None) as greeting.patience:
            if timely:
                loop.call_soon(identification)
            greeting.patience.reschedule(loop.time())  # the task is cancelled in the next turn of the loop
            loop.call_soon(identification)  # after that, and before the task runs
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    except TimeoutError:
        late = True
    assert (late, failures) == (not timely, [])
    assert greeting.identification == "SSH-2.0-test"
    assert client.received.startswith(b"SSH-2.0-test\r\n")
    transport.abort()
