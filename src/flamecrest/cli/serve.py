"""`flamecrest serve`: run the gateway as an HTTP server (serving.py) on a socket that is opened here."""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import flamecrest

from .terminal import fail, load_configuration, print_line, require_server_extra

if TYPE_CHECKING:
    from flamecrest.server.http.edge.application import Edge
    from flamecrest.server.settings import MetricsSettings, Settings


def serve(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            help="Configuration file. Default: $FLAMECREST_CONFIG, else $YAML_CONFIG_FILE.",
        ),
    ] = None,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Address to listen on. Default: server.host, else 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, metavar="N", help="Port; 0 selects a free one. Default: server.port, else 8000."
        ),
    ] = None,
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C.

    On SIGUSR1 it logs its counters, among them the state of each cluster's SSH connections.

    \b
    Exit status:
      0  stopped by a signal
      1  the server cannot start
      2  the configuration is invalid

    \b
    Examples:
      flamecrest serve --config gateway.yaml
      flamecrest serve -c gateway.yaml --host 0.0.0.0 --port 8080
      FLAMECREST_CONFIG=gateway.yaml flamecrest serve
    """  # noqa: D301 - `\b` keeps the lines of the next paragraph
    for number in (signal.SIGUSR1, signal.SIGHUP):  # which would end the process while it starts
        signal.signal(number, signal.SIG_IGN)
    with _no_garbage_collection():
        settings = load_configuration(config)
        with require_server_extra():
            from flamecrest.server.app import create_app  # noqa: PLC0415 - not in the base install
        app = create_app(settings)
    _serve(app, settings, *address_of(settings, host, port), config)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Imports make many objects that stay. Looking for garbage among them takes a seventh of their time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _serve(app: Edge, settings: Settings, host: str, port: int, config: Path | None) -> None:
    from flamecrest.server.settings import find, load  # noqa: PLC0415 - not in the base install

    from .serving import Configuration, run  # noqa: PLC0415 - not in the base install

    names = ", ".join(cluster.name for cluster in settings.clusters) or "none"
    with listen(host, port) as listener, _listen_for_metrics(settings) as metrics:
        url = address(listener, secure=settings.server.tls_certificate is not None)
        ready = f"flamecrest {flamecrest.__version__} listens on {url} (clusters: {names})"
        report = lambda: app.gateway.report()  # noqa: E731, PLW0108 - app.gateway is set when the server has started
        configuration = Configuration(find(config, os.environ), lambda: load(config, os.environ))
        if not run(app, listener, settings, lambda: print_line(ready), report, metrics, configuration):
            fail("the gateway did not start, see the log above")


@contextmanager
def _listen_for_metrics(settings: Settings) -> Iterator[socket.socket | None]:
    if settings.metrics is None:
        yield None
        return
    with listen(*metrics_address(settings.metrics), setting="metrics.port") as listener:
        yield listener


def metrics_address(metrics: MetricsSettings) -> tuple[str, int]:
    """The address of the metrics."""
    return metrics.host, metrics.port


def address_of(settings: Settings, host: str | None, port: int | None) -> tuple[str, int]:
    """The address to listen on: as given, else as configured."""
    return (settings.server.host if host is None else host), (settings.server.port if port is None else port)


def listen(host: str, port: int, *, setting: str = "--port") -> socket.socket:
    """A listening socket; exits with an error if the address cannot be used. `setting` is how the port is changed."""
    try:
        family, _, _, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
        )[0]
        return socket.create_server((str(where[0]), port), family=family, backlog=2048)
    except socket.gaierror:
        fail(f"{host} is not an address of this machine: give another one with --host")
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            fail(f"port {port} on {host} is already in use: stop that program, or give another port with {setting}")
        if error.errno == errno.EACCES:
            fail(f"port {port} is reserved for root: give a port from 1024 on with {setting}")
        fail(f"cannot listen on {host} port {port}: {error.strerror}")


def address(listener: socket.socket, *, secure: bool = False) -> str:
    """The URL of a bound socket."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if secure else "http"
    return f"{scheme}://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"{scheme}://{host}:{port}"
