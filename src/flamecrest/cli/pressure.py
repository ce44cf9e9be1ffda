"""What happens when no further connection can be accepted: a warning, and the end of connections that take no data.

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
from typing import Final

CHECK_SECONDS: Final = 1.0  # between two looks at the connections that wait to be accepted
WARN_SECONDS: Final = 60.0  # between two warnings
STALLED_BACKOFF: Final = 4  # doublings of the time between two attempts to send, after which a client is stalled: 3 s

# of struct tcp_info: tcpi_backoff, and tcpi_unacked, which in a listening socket counts the waiting connections
_INFO: Final = struct.Struct("=4xB19xI")

log = logging.getLogger("flamecrest.http")


def _info(one: socket.socket) -> tuple[int, int]:
    """Backoff, and waiting connections, of a TCP socket."""
    backoff, waiting = _INFO.unpack(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size))
    return backoff, waiting


def waiting_connections(listener: socket.socket) -> int:
    """The number of connections that wait to be accepted."""
    return _info(listener)[1]


def end_stalled_connections(listener: socket.socket) -> int:
    """End the accepted connections whose clients have taken no data for some seconds; returns their number."""
    port, ended = listener.getsockname()[1], 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # no socket, not connected, or closed in the meantime
            ended += _end_if_stalled(os.dup(int(entry.name)), port)
    return ended


def _end_if_stalled(descriptor: int, port: int) -> bool:
    """End a connection to the port if its client is stalled; closes the descriptor. Raises OSError for no socket."""
    try:
        one = socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        raise
    with one:
        if one.family not in {socket.AF_INET, socket.AF_INET6} or one.getsockname()[1] != port:
            return False
        one.getpeername()
        if _info(one)[0] < STALLED_BACKOFF:
            return False
        one.shutdown(socket.SHUT_RDWR)
        return True


async def relieve(listener: socket.socket, most: int) -> None:
    """Watch for connections that wait because `most` are open or descriptors have run out; make room, and warn."""
    warned, waited = 0.0, False
    while True:
        waits = waiting_connections(listener)
        if waits and waited:
            if ended := end_stalled_connections(listener):
                log.warning("%d connections were ended whose clients read nothing, to make room for others", ended)
            now = asyncio.get_running_loop().time()
            if not warned or now - warned >= WARN_SECONDS:
                warned = now
                log.warning("%d connections wait to be accepted: %d are open, or no descriptor is free", waits, most)
        waited = waits > 0
        await asyncio.sleep(CHECK_SECONDS)
