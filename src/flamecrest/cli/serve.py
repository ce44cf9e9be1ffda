"""`flamecrest serve`: run the gateway as an HTTP server (serving/run.py) on a socket that is opened here."""

from __future__ import annotations

import atexit
import errno
import gc
import os
import secrets
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import flamecrest

from .terminal import discard_unwritten, fail, load_configuration, one_file, print_line, require_server_extra

if TYPE_CHECKING:
    from flamecrest.server.http.edge.application import Edge
    from flamecrest.server.settings import MetricsSettings, Settings

    from .serving.run import Configuration

MOST = 65535  # the largest port
NOT_STARTED = "the gateway did not start, see the log above"


_CONFIG = typer.Option(
    "--config", "-c", metavar="FILE", help="Configuration file. Default: $FLAMECREST_CONFIG, else $YAML_CONFIG_FILE."
)
_FILE = typer.Argument(metavar="FILE", help="The same as --config.")
_HOST = typer.Option(metavar="ADDRESS", help="Address to listen on. Default: server.host, else 127.0.0.1.")
_PORT = typer.Option(min=0, max=MOST, metavar="N", help="Port; 0 selects a free one. Default: server.port, else 8000.")
_WORKERS = typer.Option(min=1, metavar="N", help="Number of processes that serve. Default: server.workers, else 1.")


def serve(
    file: Annotated[Path | None, _FILE] = None,
    config: Annotated[Path | None, _CONFIG] = None,
    host: Annotated[str | None, _HOST] = None,
    port: Annotated[int | None, _PORT] = None,
    workers: Annotated[int | None, _WORKERS] = None,
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
      flamecrest serve gateway.yaml
      flamecrest serve -c gateway.yaml --host 0.0.0.0 --port 8080
      flamecrest serve -c gateway.yaml --workers 4
      FLAMECREST_CONFIG=gateway.yaml flamecrest serve
    """  # noqa: D301 - `\b` keeps the lines of the next paragraph
    atexit.register(discard_unwritten)
    config = one_file(file, config)
    for number in (signal.SIGUSR1, signal.SIGHUP):  # which would end the process while it starts
        signal.signal(number, signal.SIG_IGN)
    with _no_garbage_collection():
        settings = load_configuration(config)
        with require_server_extra():
            from flamecrest.server.app import create_app  # noqa: PLC0415 - not in the base install
        count = workers_of(settings, workers)
        app = create_app(settings) if count == 1 else None
    where = address_of(settings, host, port)
    if app is None:
        _serve_with_workers(count, settings, *where, config)
    else:
        _serve(app, settings, *where, config)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Imports make many objects that stay. Looking for garbage among them takes a seventh of their time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _serve(app: Edge, settings: Settings, host: str, port: int, config: Path | None) -> None:
    from .serving.run import run  # noqa: PLC0415 - not in the base install

    with listen(host, port) as listener, _listen_for_metrics(settings, 1) as (metrics,):
        report = lambda: app.gateway.report()  # noqa: E731, PLW0108 - app.gateway is set when the server has started
        started = _started(listener, settings)
        if not run(app, listener, settings, lambda: print_line(started), report, metrics, _configuration(config)):
            fail(NOT_STARTED)


def _serve_with_workers(count: int, settings: Settings, host: str, port: int, config: Path | None) -> None:
    from flamecrest.server.app import create_app  # noqa: PLC0415 - not in the base install

    from .workers.serving import Shared, serve_with_workers  # noqa: PLC0415

    if settings.limits is not None and settings.limits.store is None:
        print_line(
            f"limits are counted by each of the {count} workers on its own: a user may reach {count} times as much; "
            "set limits.store to count together",
            label="warning",
            style="bold yellow",
        )
    make_app = partial(create_app, signing_key=secrets.token_bytes(32))  # one worker accepts the URLs of another
    with listen(host, port) as listener, _listen_for_metrics(settings, count) as metrics:
        started = f"{_started(listener, settings)}, {count} workers"
        shared = Shared(listener, metrics, make_app, _configuration(config))
        if not serve_with_workers(shared, settings, lambda: print_line(started)):
            fail(NOT_STARTED)


def _started(listener: socket.socket, settings: Settings) -> str:
    """The line that says where the gateway listens."""
    url = address(listener, secure=settings.server.tls_certificate is not None)
    names = ", ".join(cluster.name for cluster in settings.clusters) or "none"
    return f"flamecrest {flamecrest.__version__} listens on {url} (clusters: {names})"


def _configuration(config: Path | None) -> Configuration:
    from flamecrest.server.settings import find, load  # noqa: PLC0415 - not in the base install

    from .serving.run import Configuration  # noqa: PLC0415 - not in the base install

    return Configuration(find(config, os.environ), lambda: load(config, os.environ))


@contextmanager
def _listen_for_metrics(settings: Settings, count: int) -> Iterator[list[socket.socket | None]]:
    """The sockets of the metrics of each worker: on the configured port and those after it."""
    if settings.metrics is None:
        yield [None] * count
        return
    host, port = metrics_address(settings.metrics)
    with ExitStack() as stack:
        ports = range(port, port + count)
        if ports[-1] > MOST:
            fail(f"{count} workers need the ports {port} to {ports[-1]} for metrics: set a smaller metrics.port")
        yield [stack.enter_context(listen(host, one, setting="metrics.port")) for one in ports]


def metrics_address(metrics: MetricsSettings) -> tuple[str, int]:
    """The address of the metrics."""
    return metrics.host, metrics.port


def address_of(settings: Settings, host: str | None, port: int | None) -> tuple[str, int]:
    """The address to listen on: as given, else as configured."""
    return (settings.server.host if host is None else host), (settings.server.port if port is None else port)


def workers_of(settings: Settings, workers: int | None) -> int:
    """The number of processes that serve: as given, else as configured."""
    return settings.server.workers if workers is None else workers


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
