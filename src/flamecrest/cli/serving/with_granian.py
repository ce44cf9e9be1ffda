"""granian as the HTTP server: serves an ASGI application in the running event loop. Knows no settings file.

granian has no public way to serve on a socket of ours, and none to wait for a limited time when it stops; the methods
overridden here are those of version 2.8 (docs/adr/0022).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from granian import net
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.embed import Server

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator

    from .certificate import Reload
    from .options import HttpOptions

# bytes of a connection that are read at once, and the longest head: each piece of a body costs two changes of threads
BUFFER: Final = 256 * 1024
CLOSE_SECONDS: Final = 2.0  # for connections whose clients do not read the end of the last response
# granian would replace the handlers of the log; this changes only that its records reach them
_LOG: Final = {"incremental": True, "handlers": {}, "loggers": {"_granian": {"propagate": True}}}


class _OnOurSocket(Server):
    """A granian server that accepts on a listening socket that exists."""

    def __init__(self, app: Any, listener: socket.socket, **options: Any) -> None:
        super().__init__(app, **options)
        self._listener = listener

    def _init_shared_socket(self) -> None:
        holder: Any = getattr(net, "SocketHolder")  # noqa: B009 -- its stub has no constructor
        self._ssp = None
        self._shd: Any = holder(os.dup(self._listener.fileno()), False, self.backlog)  # not a Unix socket


class _Granian:
    """The server on a socket. For another certificate it is replaced: both accept for a moment, so none is refused."""

    def __init__(self, app: Any, listener: socket.socket, options: HttpOptions) -> None:
        self._make = partial(_server, app, listener, options)
        self._serving: dict[asyncio.Task[None], _OnOurSocket] = {}

    async def start(self) -> None:
        """Start a server that accepts connections, with the certificate of now."""
        server = self._make()
        serving = asyncio.create_task(server.serve())
        await asyncio.sleep(0)  # the task starts the server before it waits for the first time
        if serving.done():
            await serving
        self._serving[serving] = server

    async def restart(self) -> None:
        """Start a server with the certificate of now; those before end with their connections."""
        before = [server for task, server in self._serving.items() if not task.done()]
        self._serving = {task: server for task, server in self._serving.items() if not task.done()}
        await self.start()
        for server in before:
            server.stop()  # type: ignore[no-untyped-call]

    async def stop(self) -> None:
        """Close all connections after the response that they wait for."""
        for server in self._serving.values():
            server.stop()  # type: ignore[no-untyped-call]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.gather(*self._serving)


@asynccontextmanager
async def granian_server(app: Any, listener: socket.socket, options: HttpOptions) -> AsyncIterator[Reload]:
    """Serve HTTP/1.1 while the block runs. At its end, connections are closed after the response that they wait for."""
    server = _Granian(app, listener, options)
    await server.start()
    try:
        yield server.restart
    finally:
        await server.stop()


def _server(app: Any, listener: socket.socket, options: HttpOptions) -> _OnOurSocket:
    return _OnOurSocket(
        app,
        listener,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        backlog=options.backlog,
        backpressure=options.max_connections,
        http1_settings=HTTP1Settings(header_read_timeout=round(options.header_timeout * 1000), max_buffer_size=BUFFER),
        ssl_cert=Path(options.tls[0]) if options.tls else None,
        ssl_key=Path(options.tls[1]) if options.tls else None,
        ssl_protocol_min=SSLProtocols.tls12,
        log_level=LogLevels.error,
        log_dictconfig=_LOG,
    )
