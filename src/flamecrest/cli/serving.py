"""Runs the application on a listening socket: HTTP server, log, signals, orderly stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import uvloop

from flamecrest.server.telemetry.log import log_to_stream
from flamecrest.server.telemetry.trace import ACCESS

from .memory import keep_freed_memory
from .options import HttpOptions, limit_stalls
from .pressure import relieve

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable

    from flamecrest.server.http.core.edge import Edge
    from flamecrest.server.settings import Settings

CLEANUP_SECONDS: Final = 10.0  # for requests that are ended by the stop, to remove what they have left

log = logging.getLogger("flamecrest.serve")


@asynccontextmanager
async def running(
    app: Edge, listener: socket.socket, options: HttpOptions, *, grace: float = 0.0
) -> AsyncIterator[None]:
    """Run the application on the socket while the block runs.

    At its end, new requests are refused, running ones have `grace` seconds to finish, and the connections are closed.
    """
    if options.http == "granian":
        from .with_granian import granian_server as http_server  # noqa: PLC0415 -- only the configured one is loaded
    else:
        from .with_uvicorn import uvicorn_server as http_server  # noqa: PLC0415
    limit_stalls(listener, options.stall_timeout)
    async with app.router.lifespan_context(app), http_server(app, listener, options):
        watch = asyncio.create_task(relieve(listener, options.max_connections, app.busy_ports))
        try:
            yield
        finally:
            watch.cancel()
            await app.stop(grace, CLEANUP_SECONDS)


def run(
    app: Edge,
    listener: socket.socket,
    settings: Settings,
    ready: Callable[[], None],
    report: Callable[[], None] = lambda: None,
) -> bool:
    """Serve on the socket until SIGTERM or SIGINT; False if the application did not start.

    `ready` is called when the server listens, `report` on every SIGUSR1.
    """
    _log(settings)
    keep_freed_memory()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(app, listener, settings, ready, report))


async def _run(
    app: Edge, listener: socket.socket, settings: Settings, ready: Callable[[], None], report: Callable[[], None]
) -> bool:
    loop, stop, listens = asyncio.get_running_loop(), asyncio.Event(), False

    def reported() -> None:
        if listens:
            report()

    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, reported)
    loop.add_signal_handler(signal.SIGHUP, log.info, "SIGHUP: nothing to reload; restart to read the configuration")
    try:
        async with running(app, listener, HttpOptions.of(settings.server), grace=settings.server.shutdown_timeout):
            listens = True
            # these objects live as long as the process: without freeze, every full collection would traverse them
            gc.collect()
            gc.freeze()
            ready()
            await stop.wait()
            log.info("stopping")
    except Exception:
        if listens:
            raise
        log.exception("the application did not start")
    else:
        log.info("stopped")
    return listens


def _log(settings: Settings) -> None:
    """Log to standard error. Libraries that log every connection, command and URL are limited to warnings."""
    log_to_stream(level=settings.log_level.upper())
    for name in ("asyncssh", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if not settings.server.access_log:
        ACCESS.setLevel(logging.WARNING)
