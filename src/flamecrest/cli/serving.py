"""The HTTP server: uvicorn with its options, logging and signals. It serves any ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import uvicorn

from flamecrest.server.telemetry.log import log_to_stream
from flamecrest.server.telemetry.trace import ACCESS

from .memory import keep_freed_memory
from .reception import Reception

if TYPE_CHECKING:
    from flamecrest.server.settings import Settings


class Server(uvicorn.Server):
    """A uvicorn server that calls `ready` when it listens and `report` on SIGUSR1."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], report: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready
        self._report = report

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            # these objects live as long as the process: without freeze, every full collection would traverse them
            gc.collect()
            gc.freeze()
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._report)
            self._ready()


def run(
    app: Any,
    listener: socket.socket,
    settings: Settings,
    ready: Callable[[], None],
    report: Callable[[], None] = lambda: None,
) -> bool:
    """Serve on the socket until SIGTERM or SIGINT; False if the application did not start.

    `ready` is called when the server listens, `report` on every SIGUSR1.
    """
    # uvicorn raises the signal again when it has stopped, which would end the process with an error status
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ignore)
    _log(settings)
    keep_freed_memory()
    server = Server(uvicorn.Config(app, **options(settings)), ready, report)
    with contextlib.suppress(SystemExit):  # raised if the application does not start; `started` is False then
        server.run(sockets=[listener])
    return server.started


def _ignore(_number: int, _frame: Any) -> None:
    pass


def _log(settings: Settings) -> None:
    """Log to standard error. Libraries that log every connection, command and URL are limited to warnings."""
    log_to_stream(level=settings.log_level.upper())
    for name in ("asyncssh", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if not settings.server.access_log:
        ACCESS.setLevel(logging.WARNING)


def options(settings: Settings) -> dict[str, Any]:
    """Options of uvicorn: fast event loop, our HTTP protocol and log, no `Server` header."""
    return {
        "loop": "uvloop",
        "http": Reception(head_timeout=settings.server.header_timeout, trusted=settings.server.trusted_proxies),
        "ws": "none",
        "lifespan": "on",
        "access_log": False,
        "log_config": None,
        "log_level": settings.log_level,
        "server_header": False,
        "proxy_headers": False,  # Reception handles them
        "timeout_graceful_shutdown": math.ceil(settings.server.shutdown_timeout),
    }
