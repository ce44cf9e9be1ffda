"""Room for connections that wait: when it is made, and that it is made without a free descriptor."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flamecrest.cli.serving.pressure import Connections, _relieved
from tests.unit.cli.served import application

pytestmark = pytest.mark.anyio


async def nothing(_scope: Any, _receive: Any, _send: Any) -> None:
    pass


def descriptors() -> list[int]:
    return [int(one.name) for one in Path("/proc/self/fd").iterdir()]


@contextmanager
def stalled() -> Iterator[Connections]:
    """A listener with one connection whose client reads nothing, and with one that waits to be accepted."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        client = stack.enter_context(socket.socket())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listener.getsockname())
        server = stack.enter_context(listener.accept()[0])
        server.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                server.send(bytes(1024 * 1024))
        stack.enter_context(socket.create_connection(listener.getsockname()))
        connections = Connections(application(nothing), listener)
        stack.callback(connections.close)
        yield connections


@contextmanager
def no_descriptor_free() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.dup(0)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(descriptors()) + 2, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for one in taken:
            os.close(one)


async def test_room_is_made_without_a_free_descriptor():
    with stalled() as connections, no_descriptor_free():
        with pytest.raises(OSError, match="Too many open files"):
            descriptors()
        connections.look()
        assert connections.open == 1
        assert connections.full(1000)
        assert connections.make_room() == 1


async def test_nobody_is_disconnected_while_few_connections_are_open():
    """One that waits at each look may be another one each time."""
    with stalled() as connections:
        connections.look()
        for _ in range(3):
            assert connections.waiting() == 1
            assert not _relieved(connections, 1, 10, warn=True, long=False)
        assert connections.make_room() == 1


async def test_room_is_made_when_as_many_are_open_as_are_allowed_or_many_looks_say_so(caplog):
    for most, long in ((1, False), (10, True)):
        with stalled() as connections:
            connections.look()
            assert _relieved(connections, 1, most, warn=True, long=long)
    assert [record.message[:20] for record in caplog.records if "ended" in record.message] == [
        "1 idle or stalled co"
    ] * 2
