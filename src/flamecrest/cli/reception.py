"""State that all connections of a server share: uvicorn's lists, the application, the clock. Knows no HTTP."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from .connection import HttpConnection

if TYPE_CHECKING:
    from collections.abc import Sequence

    import uvicorn
    from starlette.types import ASGIApp
    from uvicorn.server import ServerState

    from .cycle import Cycle

IDLE_SECONDS = 75.0  # longer than clients keep idle connections: a request sent while the server closes would be lost


class Reception:
    """Creates an HttpConnection for each client: uvicorn's `http` protocol factory.

    The head of a request must have come within `head_timeout` seconds of the connection's start or its own first byte.
    Headers that say what a proxy has forwarded count when the proxy is `trusted`.
    """

    def __init__(self, *, head_timeout: float, idle_timeout: float = IDLE_SECONDS, trusted: Sequence[str] = ()) -> None:
        self._head_timeout = head_timeout
        self._idle_timeout = idle_timeout
        self._trusted = list(trusted)
        self._pause = min(
            1.0, head_timeout / 3, idle_timeout / 3
        )  # seconds between checks: one timer for all connections
        self._server: ServerState | None = None
        self._held: list[Cycle] = []
        self._posted: list[tuple[asyncio.Transport, bytes]] = []
        self._dated: list[tuple[bytes, bytes]] = []
        self._preamble: list[bytes] = []
        self._ticking: asyncio.TimerHandle | None = None
        self.now = 0.0  # the loop's clock at the last check

    def __call__(
        self, config: uvicorn.Config, server_state: ServerState, app_state: dict[str, Any], _loop: Any = None
    ) -> HttpConnection:
        """Create the protocol of a connection. Called by uvicorn."""
        if self._server is not server_state:
            self._server = server_state
            self.state = app_state
            self.loop = asyncio.get_running_loop()
            self._app: ASGIApp = config.loaded_app
            self._proxied: Any = ProxyHeadersMiddleware(config.loaded_app, self._trusted)
            self._tasks = server_state.tasks
            self._connections: set[Any] = server_state.connections
        return HttpConnection(self)

    def enter(self, connection: HttpConnection) -> None:
        """Register a connection."""
        if self._ticking is None:
            self.now = self.loop.time()
            self._ticking = self.loop.call_later(self._pause, self._tick)
        self._connections.add(connection)

    def leave(self, connection: HttpConnection) -> None:
        """Remove a connection."""
        self._connections.discard(connection)

    def start(self, cycle: Cycle) -> None:
        """Start the application on a request."""
        task = self.loop.create_task(cycle.run(self._proxied if cycle.forwarded else self._app))
        cycle.task = task
        self._tasks.add(task)

    def done(self, cycle: Cycle) -> None:
        """Note that the application has finished a request."""
        if cycle.task is not None:
            self._tasks.discard(cycle.task)
        if self._server is not None:
            self._server.total_requests += 1

    def hold(self, cycle: Cycle) -> None:
        """Flush a held response head at the end of this event loop iteration."""
        if not self._held and not self._posted:
            self.loop.call_soon(self.flush)
        self._held.append(cycle)

    def post(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write the end of a response at the end of this event loop iteration, together with other responses."""
        if not self._held and not self._posted:
            self.loop.call_soon(self.flush)
        self._posted.append((transport, data))

    def preamble(self) -> list[bytes]:
        """Header lines that all responses have; uvicorn renews them every second."""
        if self._server is not None and self._server.default_headers is not self._dated:
            self._dated = self._server.default_headers
            self._preamble = [name + b": " + value for name, value in self._dated]
        return self._preamble

    def flush(self) -> None:
        """Write everything that is held back."""
        posted, self._posted = self._posted, []
        for transport, data in posted:
            if not transport.is_closing():
                transport.write(data)
        held, self._held = self._held, []
        for cycle in held:
            cycle.flush()

    def _tick(self) -> None:
        self.now = self.loop.time()
        # `now` is up to one check old when it is noted, so the time limits are that much longer
        for connection in tuple(self._connections):
            connection.look(self._head_timeout + self._pause, self._idle_timeout + self._pause)
        self._ticking = self.loop.call_later(self._pause, self._tick) if self._connections else None
