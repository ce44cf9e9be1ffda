"""What happens when no further connection can be accepted: a warning, and the end of connections without use.

Works on the process's sockets as the system knows them (Linux), because no HTTP server shows its connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from flamecrest.server.http.edge.application import Edge

CHECK_SECONDS: Final = 1.0  # between two looks at the connections
WARN_SECONDS: Final = 60.0  # between two warnings
STALLED_BACKOFF: Final = 4  # doublings of the time between two attempts to send, after which a client is stalled: 3 s

IDLE_SECONDS: Final = 2.0  # without data sent, after which a connection without an open request is idle
FULL: Final = 0.9  # share of the connections allowed, from which on the HTTP server may have stopped to accept
LONG_LOOKS: Final = 20  # in succession, at each of which connections waited: the HTTP server does not accept
SLOW_BYTES: Final = 16 * 1024  # read between two looks, below which the client of a finished request is slow

# of struct tcp_info: tcpi_backoff; tcpi_unacked, which in a listening socket counts the waiting connections;
# tcpi_last_data_sent, in milliseconds before now; tcpi_bytes_acked; tcpi_notsent_bytes
_INFO: Final = struct.Struct("=4xB19xI16xI72xQ16xI")

log = logging.getLogger("flamecrest.http")


class _Info(NamedTuple):
    """The state of a TCP socket."""

    backoff: int
    unacked: int  # segments; in a listening socket: waiting connections
    last_sent: int  # milliseconds before now; without data sent, since the connection was made
    acked: int  # bytes
    unsent: int  # bytes


def _info(one: socket.socket) -> _Info:
    return _Info(*_INFO.unpack(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)))


class Connections:
    """The accepted connections of a listening socket. Ends those without use when they are needed for others.

    Ended are connections that are stalled (the client takes no data), and, if they have no busy request at two looks in
    succession, those that are idle (nothing was sent for some seconds: no request, or one whose head or body does not
    end) or slow (the client takes a finished response in small pieces). The number of busy requests is limited for
    each user, that of connections in any other state is not.

    It works without a free descriptor: it holds two from its beginning until `close`.
    """

    def __init__(self, app: Edge, listener: socket.socket) -> None:
        self._app = app
        self._listener = listener
        self._port = listener.getsockname()[1]
        self._acked: dict[object, int] = {}  # at the last look: bytes that the client has taken, by its address
        self._null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._held = os.dup(self._null)  # becomes a copy of a connection while that is looked at: no other takes it
        self.open = 0  # connections, at the last look

    def close(self) -> None:
        """Free the descriptors."""
        os.close(self._held)
        os.close(self._null)

    def waiting(self) -> int:
        """The number of connections that wait to be accepted."""
        return _info(self._listener).unacked

    def make_room(self) -> int:
        """End connections without use; returns their number. For 2 s, close the others after their response."""
        self._app.close_connections(2 * CHECK_SECONDS)
        return self.look(end=True)

    def look(self, *, end: bool = False) -> int:
        """Note the state of all connections, and end those without use if wanted; returns their number."""
        known, self._acked = self._acked if end else {}, {}
        busy, ended, self.open = self._app.busy_ports(), 0, 0
        for descriptor in _descriptors():
            with contextlib.suppress(OSError):  # no socket, not connected, or closed in the meantime
                os.dup2(descriptor, self._held, inheritable=False)
                ended += self._look_at(busy, known, end=end)
        os.dup2(self._null, self._held, inheritable=False)
        return ended

    def _look_at(self, busy: Collection[int], known: dict[object, int], *, end: bool) -> bool:
        """Note the state of the held connection, and end it if it is without use. Raises OSError for no socket."""
        one = socket.socket(fileno=self._held)
        try:
            if one.family not in {socket.AF_INET, socket.AF_INET6} or one.getsockname()[1] != self._port:
                return False
            client = one.getpeername()
            self.open += 1
            info = _info(one)
            self._acked[client] = info.acked
            useless = client[1] not in busy and client in known and _is_useless(info, info.acked - known[client])
            if not end or (not useless and info.backoff < STALLED_BACKOFF):
                return False
            one.shutdown(socket.SHUT_RDWR)
            return True
        finally:
            one.detach()

    def full(self, most: int) -> bool:
        """Whether about as many connections as are allowed were open at the last look, or no descriptor is free."""
        return self.open >= FULL * most or not _one_is_free()


def _descriptors() -> Iterable[int]:
    """The open descriptors; all possible ones if none is free to list them, so that most are open."""
    try:
        return map(int, os.listdir("/proc/self/fd"))  # noqa: PTH208 -- numbers
    except OSError:
        return range(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _one_is_free() -> bool:
    try:
        os.close(os.dup(0))
    except OSError as error:
        return error.errno not in {errno.EMFILE, errno.ENFILE}
    return True


def _is_useless(info: _Info, taken: int) -> bool:
    """Whether a connection without a busy request is idle or slow; `taken` are the bytes read since the last look."""
    if info.unacked or info.unsent:
        return taken < SLOW_BYTES
    return info.last_sent >= IDLE_SECONDS * 1000


async def relieve(connections: Connections, most: int) -> None:
    """Watch for connections that wait because `most` are open or descriptors have run out; make room, and warn.

    A single look proves nothing: a connection that waits may be accepted in the next moment.
    """
    warned = -WARN_SECONDS
    looks = 0  # in succession, at which connections waited
    while True:
        now = asyncio.get_running_loop().time()
        warn = now - warned >= WARN_SECONDS
        try:
            waits = connections.waiting()
            looks = looks + 1 if waits else 0
            if looks == 1:
                connections.look()
            elif looks and _relieved(connections, waits, most, warn=warn, long=looks >= LONG_LOOKS):
                warned = now if warn else warned
        except OSError:  # the watch goes on, whatever is wrong with one connection
            if warn:
                warned = now
                log.exception("looking at the connections failed")
        await asyncio.sleep(CHECK_SECONDS)


def _relieved(connections: Connections, waits: int, most: int, *, warn: bool, long: bool) -> bool:
    """Make room if no connection is accepted any more; whether that is so."""
    if not connections.full(most) and not long:
        connections.look()
        return False
    if ended := connections.make_room():
        log.warning("%d idle or stalled connections were ended, to make room for others", ended)
    if warn:
        log.warning("%d connections wait to be accepted: %d may be open, or no descriptor is free", waits, most)
    return True
