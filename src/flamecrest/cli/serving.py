"""The HTTP server under the gateway: uvicorn, its options and its end; it knows the app as something to be served."""

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

from flamecrest.server.telemetry.log import ACCESS, log_to_stream

from .memory import keep_freed
from .reception import Reception

if TYPE_CHECKING:
    from flamecrest.server.settings import Settings


class Server(uvicorn.Server):
    """A uvicorn that says when it is ready, and how it is when it gets SIGUSR1."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], report: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready
        self._report = report

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            # what is there now stays: looking through it again and again would cost every big answer milliseconds
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
    """Serve on the socket until SIGTERM or SIGINT; False when the app did not even start.

    `ready` is called once it listens, `report` on every SIGUSR1.
    """
    # uvicorn repeats the signal once it has stopped: without these the process would die of it, with an error status
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ignore)
    _log(settings)
    keep_freed()
    server = Server(uvicorn.Config(app, **options(settings)), ready, report)
    with contextlib.suppress(SystemExit):  # its own way to say that the app could not start; `started` says it too
        server.run(sockets=[listener])
    return server.started


def _ignore(_number: int, _frame: Any) -> None:
    pass


def _log(settings: Settings) -> None:
    """JSON lines on standard error. Libraries that would tell every connection, command and URL keep to warnings."""
    log_to_stream(level=settings.log_level.upper())
    for name in ("asyncssh", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if not settings.server.access_log:
        ACCESS.setLevel(logging.WARNING)


def options(settings: Settings) -> dict[str, Any]:
    """Fast loop and parser, our own log, and nothing in the headers about what serves."""
    return {
        "loop": "uvloop",
        "http": Reception(head_timeout=settings.server.header_timeout, trusted=settings.server.trusted_proxies),
        "ws": "none",
        "lifespan": "on",
        "access_log": False,
        "log_config": None,
        "log_level": settings.log_level,
        "server_header": False,
        "proxy_headers": False,  # Reception sees to them
        "timeout_graceful_shutdown": math.ceil(settings.server.shutdown_timeout),
    }
