"""The application of the metrics' port: `/metrics` for Prometheus, `/users` for `flamecrest top`. Pure ASGI.

It is on a port of its own: behind a reverse proxy on the same machine, every client of the API seems to be local.
"""

from __future__ import annotations

import asyncio
import hmac
from typing import TYPE_CHECKING, Final

from flamecrest.server.telemetry.metrics.exposition import render
from flamecrest.wire.json import dumps

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from flamecrest.server.telemetry.metrics.requests import RequestMetrics

    from .application import Edge

DELAY_SECONDS: Final = 0.5  # between two measurements of the event loop's delay
MOST_USERS: Final = 1000  # that are shown, those with most open requests first

_TEXT: Final = "text/plain; charset=utf-8"
_Answer = tuple[int, bytes, str]  # status, body, media type


class MetricsEndpoint:
    """Serves the metrics of an application. `token` is the bearer token that is required, if any.

    `users`: whether the names of users with open requests are shown.
    """

    def __init__(self, app: Edge, metrics: RequestMetrics, *, token: str | None = None, users: bool = False) -> None:
        self._app = app
        self._metrics = metrics
        self._expected = None if token is None else f"Bearer {token}".encode()
        self._users = users

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 -- as ASGI has it
        """Answer a request."""
        if scope["type"] != "http":
            return
        status, body, media_type = await self._answer(scope)
        headers = [
            (b"content-type", media_type.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: Scope) -> _Answer:
        headers = dict(scope["headers"])
        if self._expected is not None:
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                return 401, b"A valid bearer token is required.\n", _TEXT
        if scope["path"] not in {"/metrics", "/users"}:
            return 404, b"Not found. The metrics are at /metrics.\n", _TEXT
        if scope["method"] not in {"GET", "HEAD"}:
            return 405, b"Only GET is allowed.\n", _TEXT
        gateway = getattr(self._app, "gateway", None)
        if gateway is None:
            return 503, b"The gateway is starting.\n", _TEXT
        open_by_user = self._app.users.open
        if scope["path"] == "/users":
            return self._answer_users(open_by_user)
        accept = headers.get(b"accept", b"").decode("latin-1")
        text, media_type = await render(
            self._metrics, gateway.counters, self._app.open_requests, len(open_by_user), accept
        )
        return 200, text, media_type

    def _answer_users(self, open_by_user: dict[str, int]) -> _Answer:
        if not self._users:
            return 404, b"Users are not shown: see `metrics.users`.\n", _TEXT
        shown = sorted(open_by_user.items(), key=lambda one: (-one[1], one[0]))[:MOST_USERS]
        return 200, dumps({"users": [{"user": user, "open": count} for user, count in shown]}), "application/json"


async def measure_delay(metrics: RequestMetrics) -> None:
    """Measure again and again how late a timer runs."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + DELAY_SECONDS
        await asyncio.sleep(DELAY_SECONDS)
        metrics.loop_delays.add(max(0.0, loop.time() - due))
