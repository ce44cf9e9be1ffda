"""Trace: what the log records about one request, and how long its phases took. It knows nothing of HTTP."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(slots=True)
class Trace:
    """The log fields of one request; filled in while the request is served."""

    request_id: str
    correlation_id: str
    method: str = ""
    route: str = ""  # the route's template, never the path: paths are users' data
    user: str | None = None
    cluster: str | None = None
    status: int = 0
    sent: int = 0  # bytes of the response body
    error: str | None = None  # the error's kind
    detail: str | None = None  # GatewayError.detail
    headers: dict[str, str] | None = None  # the request headers to log, by their names in the log
    phases: dict[str, phase] = field(default_factory=dict)

    def ids(self) -> dict[str, str]:
        """The two ids, under their names in the log."""
        return {"request_id": self.request_id, "correlation_id": self.correlation_id}


current_trace: ContextVar[Trace | None] = ContextVar("flamecrest_trace", default=None)


class phase:  # noqa: N801 - used like a function; a class because it runs several times in every request
    """Context manager that adds the time of its block to a phase of the current request: auth, queue or ssh.

    `queue` is the time spent waiting for a channel. `ssh` is the time spent on the cluster, `queue` included.
    Concurrent blocks of one phase are counted once: the first block of a name holds the total.
    """

    __slots__ = ("_first", "_name", "running", "seconds", "since")

    def __init__(self, name: str) -> None:
        self._name = name
        self.seconds = 0.0
        self.running = 0
        self.since = 0.0

    def __enter__(self) -> None:
        trace = current_trace.get()
        if trace is None:
            self._first = None
            return
        self._first = first = trace.phases.setdefault(self._name, self)
        if not first.running:
            first.since = time.perf_counter()
        first.running += 1

    def __exit__(self, *_: object) -> None:
        first = self._first
        if first is not None:
            first.running -= 1
            if not first.running:
                first.seconds += time.perf_counter() - first.since
