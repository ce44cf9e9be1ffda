"""Serves the metrics of an application on a socket of their own."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from .options import HttpOptions

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator

    from flamecrest.server.http.edge.application import Edge
    from flamecrest.server.settings import MetricsSettings

MOST_CONNECTIONS = 20

log = logging.getLogger("flamecrest.serve")


@asynccontextmanager
async def serving_metrics(
    app: Edge, listener: socket.socket | None, settings: MetricsSettings | None
) -> AsyncIterator[None]:
    """Serve the metrics while the block runs, if there is a socket for them."""
    if listener is None or settings is None or app.metrics is None:
        yield
        return
    from flamecrest.server.http.edge.metrics import MetricsEndpoint, measure_delay  # noqa: PLC0415 -- if configured

    from .with_uvicorn import uvicorn_server  # noqa: PLC0415

    token = None if settings.token is None else settings.token.get_secret_value()
    endpoint = MetricsEndpoint(app, app.metrics, token=token, users=settings.users)
    options = HttpOptions("uvicorn", max_connections=MOST_CONNECTIONS)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(uvicorn_server(endpoint, listener, options))
        measuring = asyncio.create_task(measure_delay(app.metrics))
        stack.callback(measuring.cancel)
        host, port = listener.getsockname()[:2]
        log.info("metrics are served", extra={"fields": {"host": host, "port": port}})
        yield
