"""Runs the application on a listening socket: HTTP server, log, signals, orderly stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import uvloop

from flamecrest.server.telemetry.log import log_to_stream
from flamecrest.server.telemetry.trace import ACCESS

from .certificate import renew_certificate, version_of
from .memory import RETURNED_EVERY, keep_freed_memory, return_freed_memory
from .metrics_port import serving_metrics
from .options import HttpOptions, limit_stalls
from .pressure import Connections, relieve
from .reloading import reload_configuration

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
    from pathlib import Path

    from flamecrest.server.http.edge.application import Edge
    from flamecrest.server.settings import Settings

    from .certificate import Reload


@dataclass(frozen=True, slots=True)
class Configuration:
    """The configuration file, and what reads it. Raises SettingsError."""

    file: Path
    read: Callable[[], Settings]


class Hangup:
    """SIGHUP: what is to be read again."""

    def __init__(self) -> None:
        self.certificate = asyncio.Event()
        self.configuration = asyncio.Event()

    def set(self) -> None:
        """Read all again."""
        self.certificate.set()
        self.configuration.set()


RUNS_SECONDS: Final = 0.25  # between two reports that the event loop turns
CLEANUP_SECONDS: Final = 10.0  # for requests that are ended by the stop, to remove what they have left

log = logging.getLogger("flamecrest.serve")


@asynccontextmanager
async def running(
    app: Edge, listener: socket.socket, options: HttpOptions, *, grace: float = 0.0
) -> AsyncIterator[Reload]:
    """Run the application on the socket while the block runs; yields what makes it read the TLS certificate again.

    At its end, new requests are refused, running ones have `grace` seconds to finish, and the connections are closed.
    """
    if options.http == "granian":
        from .with_granian import granian_server as http_server  # noqa: PLC0415 -- only the configured one is loaded
    else:
        from .with_uvicorn import uvicorn_server as http_server  # noqa: PLC0415
    limit_stalls(listener, options.stall_timeout)
    app.users.limit, app.users.memory.total = options.max_requests_per_user, options.max_memory
    async with app.router.lifespan_context(app), http_server(app, listener, options) as reload:
        connections = Connections(app, listener)
        watch = asyncio.create_task(relieve(connections, options.max_connections))
        try:
            yield reload
        finally:
            watch.cancel()
            connections.close()
            await app.stop(grace, CLEANUP_SECONDS)


def run(
    app: Edge,
    listener: socket.socket,
    settings: Settings,
    ready: Callable[[], None],
    report: Callable[[], None] = lambda: None,
    metrics: socket.socket | None = None,
    configuration: Configuration | None = None,
    *,
    configured: bool = False,
    runs: Callable[[], None] | None = None,
) -> bool:
    """Serve on the socket until SIGTERM or SIGINT; False if the application did not start.

    `ready` is called when the server listens, `report` on every SIGUSR1. `metrics` is the socket of the metrics.
    `configuration` is read again on SIGHUP, and when it has changed. `configured`: the log is (`configure_log`).
    `runs` is called several times a second while the event loop turns.
    """
    if not configured:
        configure_log(settings)
    keep_freed_memory()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(app, listener, settings, ready, report, metrics, configuration, runs))


async def _run(
    app: Edge,
    listener: socket.socket,
    settings: Settings,
    ready: Callable[[], None],
    report: Callable[[], None],
    metrics: socket.socket | None,
    configuration: Configuration | None,
    runs: Callable[[], None] | None,
) -> bool:
    stop, asked, options, listens = asyncio.Event(), Hangup(), HttpOptions.of(settings.server), False

    def reported() -> None:
        if listens:
            report()

    _handle_signals(stop, reported, asked)
    certificate = version_of(options.tls or ())
    try:
        async with (
            _background(_repeat, runs),
            serving_metrics(app, metrics, settings.metrics),  # until the last request has ended
            running(app, listener, options, grace=settings.server.shutdown_timeout) as reload,
            _background(renew_certificate, options.tls, certificate, reload, asked.certificate),
            _background(_reload, configuration, app, asked.configuration),
            _background(return_freed_memory, RETURNED_EVERY),
        ):
            listens = True
            _freeze()
            ready()
            await stop.wait()
            log.info("stopping")
            app.leaving = True
            await _wait(stop, settings.server.shutdown_delay)
    except Exception:
        if listens:
            raise
        log.exception("the application did not start")
    else:
        log.info("stopped")
    return listens


def _freeze() -> None:
    """Leave what there is now out of full collections: it lives as long as the process."""
    gc.collect()
    gc.freeze()


def _handle_signals(stop: asyncio.Event, report: Callable[[], None], asked: Hangup) -> None:
    """Stop on SIGTERM and SIGINT, report on SIGUSR1, read again on SIGHUP."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, report)
    loop.add_signal_handler(signal.SIGHUP, asked.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # a worker process begins with it blocked


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    """Serve on for some seconds, or until the next signal to stop."""
    stop.clear()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


@asynccontextmanager
async def _background(
    work: Callable[..., Coroutine[Any, Any, None]], of: object | None, *arguments: object
) -> AsyncIterator[None]:
    """Run some work while the block runs, unless there is nothing that it is of."""
    task = None if of is None else asyncio.create_task(work(of, *arguments))
    try:
        yield
    finally:
        if task is not None:
            task.cancel()


async def _repeat(runs: Callable[[], None]) -> None:
    while True:
        runs()
        await asyncio.sleep(RUNS_SECONDS)


async def _reload(configuration: Configuration, app: Edge, asked: asyncio.Event) -> None:
    await reload_configuration(app, configuration.file, configuration.read, asked)


def configure_log(settings: Settings, fields: Mapping[str, object] | None = None) -> None:
    """Log to standard error. Libraries that log every connection, command and URL are limited to warnings.

    `fields` are added to all lines but those of the access log.
    """
    log_to_stream(level=settings.log_level.upper(), fields=fields)
    for name in ("asyncssh", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if not settings.server.access_log:
        ACCESS.setLevel(logging.WARNING)
