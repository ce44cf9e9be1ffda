"""uvicorn as the HTTP server, with h11: serves an ASGI application in the running event loop.

httptools is never used as its parser: it loses the body of a request that offers an upgrade.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import ssl
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from flamecrest.server.http.core.errors import envelope
from flamecrest.server.http.edge.framing import MAX_HEADERS
from flamecrest.server.telemetry.trace import Trace, current_trace, log_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from .certificate import Reload
    from .options import HttpOptions

RETRY_SECONDS: Final = 0.1  # after a connection that could not be accepted


class _BoundedConnection(H11Protocol):
    """A connection with a time limit for what uvicorn waits for without one: the head, and the rest of a body."""

    options: ClassVar[HttpOptions]
    _timer: asyncio.TimerHandle | None = None
    _answered: object = None  # the last request that was complete at the last check

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._check_later()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.lost.set()
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


class _Server(uvicorn.Server):
    """A uvicorn server that accepts connections up to a limit, and leaves signals to its caller.

    `ready` is set when it accepts. Further connections wait in the system's queue, in order of their arrival.
    """

    def __init__(self, config: uvicorn.Config, options: HttpOptions) -> None:
        super().__init__(config)
        self._limit = options.max_connections
        self._tls_timeout = options.header_timeout if options.tls else None
        self._tasks: set[asyncio.Task[None]] = set()
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections on these sockets."""
        self.servers = []
        self._tasks = {asyncio.create_task(self._accept(one)) for one in sockets or ()}
        self.started = True
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, and close the connections when their responses have ended."""
        for task in self._tasks:
            task.cancel()
        await super().shutdown(sockets)

    async def _accept(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        free = asyncio.Semaphore(self._limit)
        while True:
            await free.acquire()
            try:
                client, _ = await asyncio.get_running_loop().sock_accept(listener)
            except OSError:  # no descriptor is free, or the client has gone
                free.release()
                await asyncio.sleep(RETRY_SECONDS)
                continue
            task = asyncio.create_task(self._connect(client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: free.release())

    async def _connect(self, client: socket.socket) -> None:
        """Serve a connection until it is lost. A TLS handshake that fails or takes too long ends it."""
        made: Any = self.config.http_protocol_class
        protocol = made(config=self.config, server_state=self.server_state, app_state={})
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol,
                client,
                ssl=self.config.ssl,
                ssl_handshake_timeout=self._tls_timeout,
                ssl_shutdown_timeout=self._tls_timeout,
            )
            await protocol.lost.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def uvicorn_server(app: Any, listener: socket.socket, options: HttpOptions) -> AsyncIterator[Reload]:
    """Serve HTTP/1.1 while the block runs. At its end, connections are closed after the response that they wait for."""
    config = uvicorn.Config(
        app,
        http=type("BoundedConnection", (_BoundedConnection,), {"options": options}),
        ws="none",
        lifespan="off",
        backlog=options.backlog,
        h11_max_incomplete_event_size=MAX_HEADERS,
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
    server = _Server(config, options)
    serving = asyncio.create_task(server.serve(sockets=[listener.dup()]))
    ready = asyncio.create_task(server.ready.wait())
    await asyncio.wait((serving, ready), return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    if serving.done():
        await serving

    async def reload() -> None:
        if isinstance(config.ssl, ssl.SSLContext) and options.tls is not None:
            config.ssl.load_cert_chain(*options.tls)

    try:
        yield reload
    finally:
        server.should_exit = True
        await serving
