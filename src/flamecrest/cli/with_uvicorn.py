"""uvicorn as the HTTP server, with h11: serves an ASGI application in the running event loop.

httptools is never used as its parser: it loses the body of a request that offers an upgrade.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from flamecrest.server.http.core.errors import envelope
from flamecrest.server.telemetry.trace import Trace, current_trace, log_request

from .pressure import CHECK_SECONDS, make_room

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Iterator

    from .options import HttpOptions

log = logging.getLogger("flamecrest.http")


class _BoundedConnection(H11Protocol):
    """A connection with a time limit for what uvicorn waits for without one: the head, and the rest of a body."""

    options: ClassVar[HttpOptions]
    listener: ClassVar[socket.socket]
    looked: ClassVar[float] = 0.0  # loop time of the last look for connections to end
    _timer: asyncio.TimerHandle | None = None
    _answered: object = None  # the last request that was complete at the last check

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        most = self.options.max_connections
        if len(self.connections) > most and len(self.connections) - self._make_room() > most:
            log.warning("a connection was refused: %d are open", most)
            transport.abort()
        self._check_later()

    def _make_room(self) -> int:
        """End connections without use, as pressure.make_room does; returns their number. At most once a second."""
        if self.loop.time() - self.looked < CHECK_SECONDS:
            return 0
        type(self).looked = self.loop.time()
        busy = [one.client[1] for one in self.connections if isinstance(one, H11Protocol) and one.client and _busy(one)]
        return make_room(self.listener, busy)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no valid request, with a line in the access log. If another response has begun, only close."""
        error = sys.exc_info()[1]
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        if self.cycle is not None and not self.cycle.response_complete:  # its request is the one that is not valid
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            made = secrets.token_hex(16)
            trace = Trace(made, made, status=status)
            token = current_trace.set(trace)  # uvicorn calls this in the context of an earlier request
            answer = envelope(status, msg)
            current_trace.reset(token)
            log_request(trace, 0.0, "")
            headers = [*self.server_state.default_headers, *answer.raw_headers, (b"x-request-id", made.encode())]
            headers += ((b"x-correlation-id", made.encode()), (b"connection", b"close"))
            for event in (
                h11.Response(status_code=status, headers=headers),
                h11.Data(data=bytes(answer.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _check_later(self) -> None:
        self._timer = self.loop.call_later(self.options.header_timeout, self._check)

    def _check(self) -> None:
        """Close if no request has begun and none was completed since the last check."""
        complete = self.cycle is None or self.cycle.response_complete
        if complete and (self.cycle is None or self.cycle is self._answered):
            self.transport.close()
            return
        self._answered = self.cycle if complete else None
        self._check_later()


def _busy(connection: H11Protocol) -> bool:
    """Whether a request is open."""
    return connection.cycle is not None and not connection.cycle.response_complete


class _Server(uvicorn.Server):
    """A uvicorn server that sets `ready` when it listens, and leaves signals to its caller."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def uvicorn_server(app: Any, listener: socket.socket, options: HttpOptions) -> AsyncIterator[None]:
    """Serve HTTP/1.1 while the block runs. At its end, connections are closed after the response that they wait for."""
    config = uvicorn.Config(
        app,
        http=type("BoundedConnection", (_BoundedConnection,), {"options": options, "listener": listener}),
        ws="none",
        lifespan="off",
        backlog=options.backlog,
        h11_max_incomplete_event_size=options.max_head,
        timeout_keep_alive=max(1, round(options.header_timeout)),
        timeout_graceful_shutdown=2,
        ssl_certfile=options.tls[0] if options.tls else None,
        ssl_keyfile=options.tls[1] if options.tls else None,
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener.dup()]))
    ready = asyncio.create_task(server.ready.wait())
    await asyncio.wait((serving, ready), return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    if serving.done():
        await serving
    try:
        yield
    finally:
        server.should_exit = True
        await serving
