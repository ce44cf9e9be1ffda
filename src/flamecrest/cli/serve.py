"""`flamecrest serve`: the gateway as an HTTP server; it finds the address, and leaves serving to serving.py."""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import flamecrest

from .terminal import configuration, fail, server_extra, tell

if TYPE_CHECKING:
    from flamecrest.server.http.core.edge import Edge
    from flamecrest.server.settings import Settings

BACKLOG = 2048


def serve(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            help="The configuration file. Default: what FLAMECREST_CONFIG or YAML_CONFIG_FILE names.",
        ),
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="The address to listen on. Default: `server.host`, or 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="The port; 0 takes a free one. Default: `server.port`, or 8000."),
    ] = None,
) -> None:
    """Run the gateway until it is told to stop (SIGTERM or Ctrl-C).

    On SIGUSR1 the log gets one line per cluster with the state of its SSH connections.
    Ends with 2 when the configuration can't be used, with 1 when the server can't start.
    """
    settings = configuration(config)
    with server_extra():
        from flamecrest.server.app import create_app  # noqa: PLC0415 - not in the base install

        from .serving import run  # noqa: PLC0415 - not in the base install

    app = create_app(settings)
    with listen(*address_of(settings, host, port)) as listener:
        names = ", ".join(cluster.name for cluster in settings.clusters) or "none"
        ready = f"flamecrest {flamecrest.__version__} listens on {address(listener)} (clusters: {names})"
        if not run(app, listener, settings, lambda: tell(ready), lambda: _report(app)):
            fail("the gateway did not start")


def _report(app: Edge) -> None:
    app.gateway.report()


def address_of(settings: Settings, host: str | None, port: int | None) -> tuple[str, int]:
    """The address to listen on: as given, else as configured."""
    return (settings.server.host if host is None else host), (settings.server.port if port is None else port)


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address; ends the command when that can't be had."""
    try:
        family, _, _, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
        )[0]
        return socket.create_server((str(where[0]), port), family=family, backlog=BACKLOG)
    except socket.gaierror:
        fail(f"{host} is no address of this machine")
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            fail(f"port {port} on {host} is in use already: stop what uses it, or choose another with --port")
        if error.errno == errno.EACCES:
            fail(f"port {port} is reserved for root: choose one from 1024 on with --port")
        fail(f"cannot listen on {host} port {port}: {error.strerror}")


def address(listener: socket.socket) -> str:
    """The URL of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"
