"""Checks the open requests at intervals: for clients that are gone, and for clients that stall. Knows no ASGI.

ASGI reports a disconnect only to a caller of `receive`, and a handler that waits for its cluster does not call it, so
a task beside the handler must. A task for every request would cost a tenth of the gateway's throughput, and nearly
all requests finish in milliseconds. The task is therefore created for requests that take longer. A timer finds them
by checking all open requests at intervals; a timer for each request would cost more.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from flamecrest.server.telemetry.metrics.requests import RequestMetrics
    from flamecrest.server.telemetry.tracing import RequestTracer

LISTEN_AFTER: Final = 0.25  # seconds after which a request is checked for the first time; at most twice that


class OpenRequest(Protocol):
    """An open request."""

    port: int | str  # of the client, or of the proxy in front of it; granian writes it as text

    @property
    def busy(self) -> bool:
        """Whether the gateway works on it: its user is known, or its response has not begun."""
        ...

    @property
    def resumable(self) -> bool:
        """Whether the response may end at any time, because the client resumes it."""
        ...

    def check(self, now: float) -> None:
        """Listen for a disconnect if that is possible, and end the request if its client stalls."""
        ...

    def stop(self) -> None:
        """End the request because the gateway stops."""
        ...


class RequestMonitor:
    """The open requests of an application. Its timer runs while there are any.

    A request adds itself to `new`, and calls `start` if there is no `timer`. At its end it leaves both sets, and is
    measured by `metrics` and traced by `tracer`.
    """

    def __init__(self, metrics: RequestMetrics | None = None) -> None:
        self.metrics = metrics
        self.tracer: RequestTracer | None = None
        self.new: set[OpenRequest] = set()  # since the last check
        self.old: set[OpenRequest] = set()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.host: bytes | None = None  # the Host of an earlier request, which was valid: nearly all have that one
        self.closing_until = 0.0  # loop time until which connections are closed after their response

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Schedule the next check."""
        self.loop = loop
        self.timer = loop.call_later(LISTEN_AFTER, self._check)

    @property
    def open(self) -> set[OpenRequest]:
        """All open requests."""
        return self.new | self.old

    async def drained(self, timeout: float) -> bool:  # noqa: ASYNC109 -- a limit, no deadline of a caller
        """Wait until no request is open; False if some still are after `timeout` seconds."""
        until = asyncio.get_running_loop().time() + timeout
        while self.new or self.old:
            if asyncio.get_running_loop().time() >= until:
                return False
            await asyncio.sleep(0.02)
        return True

    async def ended(self) -> None:
        """Wait until all requests have ended that are open now."""
        waiting = self.open
        while waiting:
            await asyncio.sleep(0.2)
            waiting &= self.open

    def _check(self) -> None:
        self.timer = None
        if self.loop is None:
            return
        now = self.loop.time()
        for request in tuple(self.old):
            request.check(now)
        self.old |= self.new
        self.new = set()
        if self.old:
            self.start(self.loop)
