"""What happens when no further connection can be accepted: a warning, and the end of connections without use.

Works on the process's sockets as the system knows them (Linux), because no HTTP server shows its connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

CHECK_SECONDS: Final = 1.0  # between two looks at the connections that wait to be accepted
WARN_SECONDS: Final = 60.0  # between two warnings
STALLED_BACKOFF: Final = 4  # doublings of the time between two attempts to send, after which a client is stalled: 3 s

IDLE_SECONDS: Final = 2.0  # without data, after which a connection without an open request is idle

# of struct tcp_info: tcpi_backoff; tcpi_unacked, which in a listening socket counts the waiting connections;
# tcpi_last_data_sent and tcpi_last_data_recv, in milliseconds before now
_INFO: Final = struct.Struct("=4xB19xI16xI4xI")

log = logging.getLogger("flamecrest.http")


def _info(one: socket.socket) -> tuple[int, int, float]:
    """Of a TCP socket: backoff; segments not acknowledged, or waiting connections; seconds since the last data."""
    backoff, waiting, sent, received = _INFO.unpack(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size))
    return backoff, waiting, min(sent, received) / 1000


def waiting_connections(listener: socket.socket) -> int:
    """The number of connections that wait to be accepted."""
    return _info(listener)[1]


def make_room(listener: socket.socket, busy: Collection[int]) -> int:
    """End the accepted connections that have been stalled or idle for some seconds; returns their number.

    Stalled: the client takes no data. Idle: no open request, and no data; the head of a request may have begun. `busy`
    are the clients' ports of the open requests.
    """
    port, ended = listener.getsockname()[1], 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # no socket, not connected, or closed in the meantime
            ended += _end_if_useless(os.dup(int(entry.name)), port, busy)
    return ended


def _end_if_useless(descriptor: int, port: int, busy: Collection[int]) -> bool:
    """End a connection to the port if it is stalled or idle; closes the descriptor. Raises OSError for no socket."""
    try:
        one = socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        raise
    with one:
        if one.family not in {socket.AF_INET, socket.AF_INET6} or one.getsockname()[1] != port:
            return False
        client = one.getpeername()[1]
        backoff, unacked, quiet = _info(one)
        idle = quiet >= IDLE_SECONDS and not backoff and not unacked and client not in busy
        if backoff < STALLED_BACKOFF and not idle:
            return False
        one.shutdown(socket.SHUT_RDWR)
        return True


async def relieve(listener: socket.socket, most: int, busy: Callable[[], Collection[int]]) -> None:
    """Watch for connections that wait because `most` are open or descriptors have run out; make room, and warn.

    `busy` returns the clients' ports of the open requests.
    """
    warned, waited = 0.0, False
    while True:
        waits = waiting_connections(listener)
        if waits and waited:
            if ended := make_room(listener, busy()):
                log.warning("%d idle or stalled connections were ended, to make room for others", ended)
            now = asyncio.get_running_loop().time()
            if not warned or now - warned >= WARN_SECONDS:
                warned = now
                log.warning("%d connections wait to be accepted: %d are open, or no descriptor is free", waits, most)
        waited = waits > 0
        await asyncio.sleep(CHECK_SECONDS)
