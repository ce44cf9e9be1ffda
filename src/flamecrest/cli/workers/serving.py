"""Serves with several worker processes: what they share, and what a worker that replaces another one begins with."""

from __future__ import annotations

import gc
import importlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from flamecrest.cli.serving.run import CLEANUP_SECONDS, Configuration, configure_log, run
from flamecrest.server.settings import SettingsError
from flamecrest.server.wiring.clusters import RELOADED

from .supervisor import Reports, Supervisor

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from flamecrest.server.http.edge.application import Edge
    from flamecrest.server.settings import ServerSettings, Settings

MARGIN_SECONDS: Final = 10.0  # for connections that are closed after the last request

log = logging.getLogger("flamecrest.serve")


@dataclass(frozen=True, slots=True)
class Shared:
    """What all workers have: the socket, one socket for the metrics of each, and how an application is made."""

    listener: socket.socket
    metrics: Sequence[socket.socket | None]  # one for each worker
    make_app: Callable[[Settings], Edge]
    configuration: Configuration


def serve_with_workers(shared: Shared, settings: Settings, ready: Callable[[], None]) -> bool:
    """Serve until SIGTERM or SIGINT; False if the workers could not start. `ready` is called when all listen."""
    configure_log(settings)
    app = shared.make_app(settings)
    server = settings.server
    for module in ("flamecrest.server.wiring.gateway", f"flamecrest.cli.serving.with_{server.http}"):
        importlib.import_module(module)  # once, for all workers
    gc.collect()
    gc.freeze()  # a collection would write to these objects, and so copy the memory that the workers share

    def work(number: int, again: bool, reports: Reports) -> bool:
        logging.getLogger().handlers.clear()  # the parent's
        configure_log(settings, {"worker": number})
        used = _with_clusters_of_now(settings, shared.configuration) if again else settings
        mine = shared.make_app(used) if again else app
        report = lambda: mine.gateway.report()  # noqa: E731, PLW0108 -- mine.gateway is set when it has started
        return run(
            mine,
            shared.listener,
            used,
            reports.serves,
            report,
            shared.metrics[number - 1],
            shared.configuration,
            configured=True,
            runs=reports.runs,
        )

    return Supervisor(len(shared.metrics), work, ready, *times_of(server)).run()


def times_of(server: ServerSettings) -> tuple[float, float]:
    """The seconds that workers have to stop, and after which one that does nothing is replaced (0: never)."""
    stop = server.shutdown_delay + server.shutdown_timeout + CLEANUP_SECONDS + MARGIN_SECONDS
    return stop, server.worker_timeout


def _with_clusters_of_now(settings: Settings, configuration: Configuration) -> Settings:
    """The settings of the start with what a reload exchanges, as the other workers have it by now.

    A file that is not usable is logged, and the settings are those of the start.
    """
    try:
        found = configuration.read()
    except SettingsError as error:
        problems = "; ".join(map(str, error.problems))
        log.error("the configuration is not usable, that of the start is used: %s", problems)  # noqa: TRY400
        return settings
    return settings.model_copy(update={name: getattr(found, name) for name in RELOADED})
