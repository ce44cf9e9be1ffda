"""Trace: what the log records about one request and how long its phases took, and the request's line in the access log.

It knows nothing of HTTP. log.py formats all other records.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any

from flamecrest.wire.json import dumps

from .redact import redact

ACCESS = logging.getLogger("flamecrest.access")
WAITS = ("queue", "connect")  # phases within `ssh`
BATCH_SECONDS = 0.02  # how long a line may wait to be written together with others


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
    identity: object = None  # Identity of the caller, for the audit log
    decisions: list[Any] | None = None  # pairs of AccessRequest and Decision; None without an audit log
    trace_id: str | None = None  # of OpenTelemetry, if traces are sent
    certificate_serial: int | None = None  # of the SSH certificate that was used, for the audit log

    def ids(self) -> dict[str, str]:
        """The two ids, under their names in the log."""
        return {"request_id": self.request_id, "correlation_id": self.correlation_id}


current_trace: ContextVar[Trace | None] = ContextVar("flamecrest_trace", default=None)


class phase:  # noqa: N801 - used like a function; a class because it runs several times in every request
    """Context manager that adds the time of its block to a phase of the current request: auth, queue, connect or ssh.

    `queue` is the time spent waiting for a channel, `connect` for a connection to be opened. `ssh` is the time spent on
    the cluster, with both.
    Concurrent blocks of one phase are counted once: the first block of a name holds the total.
    """

    __slots__ = ("_first", "_name", "began", "ended", "running", "seconds", "since")

    def __init__(self, name: str) -> None:
        self._name = name
        self.seconds = 0.0
        self.running = 0
        self.since = 0.0
        self.began = self.ended = 0.0  # times of perf_counter: of the first block's start and the last one's end

    def __enter__(self) -> None:
        trace = current_trace.get()
        if trace is None:
            self._first = None
            return
        self._first = first = trace.phases.setdefault(self._name, self)
        if not first.running:
            first.since = now = time.perf_counter()
            if not first.began:
                first.began = now
        first.running += 1

    def __exit__(self, *_: object) -> None:
        first, self._first = self._first, None  # a phase that is its own first is freed at once, not by the collector
        if first is not None:
            first.running -= 1
            if not first.running:
                first.ended = now = time.perf_counter()
                first.seconds += now - first.since


class BatchedStreamHandler(logging.StreamHandler[IO[str]]):
    """Writes the lines of `BATCH_SECONDS` with one system call, in order: a write per line costs more than the line.

    A record above INFO is written at once, together with all lines before it. The rest is written at exit at the
    latest. Without a running event loop every line is written at once.
    """

    def __init__(self, stream: IO[str]) -> None:
        super().__init__(stream)
        self._waiting: list[str | dict[str, Any]] = []
        self._loop: asyncio.AbstractEventLoop | None = None  # the loop on which a flush is scheduled

    def emit(self, record: logging.LogRecord) -> None:
        """Format a record and add it to the batch."""
        try:
            self.add(self.format(record), record.levelno)
        except Exception:  # noqa: BLE001 -- as in the logging module: a failure to log must not fail the request
            self.handleError(record)

    def add(self, line: str | dict[str, Any], level: int) -> None:
        """Add a line to the batch: formatted, or its fields, which are encoded when the batch is written."""
        self._waiting.append(line)
        if level > logging.INFO:
            self.flush()
        elif self._loop is None or self._loop.is_closed():
            try:
                self._loop = asyncio.get_running_loop()
                self._loop.call_later(BATCH_SECONDS, self.flush)
            except RuntimeError:  # no loop
                self.flush()

    def flush(self) -> None:
        """Write the batch."""
        with self.lock or contextlib.nullcontext():
            self._loop = None
            count = len(self._waiting)  # other threads may add lines in the meantime
            if count:
                lines = [line if isinstance(line, str) else dumps(line).decode() for line in self._waiting[:count]]
                self.stream.write("\n".join(lines) + "\n")
                del self._waiting[:count]
            super().flush()


def log_request(trace: Trace, seconds: float, path: str) -> None:
    """Write the access log line of a finished request. The path itself is added at level DEBUG only."""
    cut_off = trace.error is not None and trace.status < 400
    level = logging.WARNING if trace.status >= 500 or cut_off else logging.INFO
    if not ACCESS.isEnabledFor(level):
        return
    line: dict[str, Any] = {
        "ts": datetime.now(UTC),
        "level": "INFO" if level == logging.INFO else "WARNING",
        "logger": ACCESS.name,
        "message": "request",
        "request_id": trace.request_id,
        "correlation_id": trace.correlation_id,
        "user": trace.user,
        "cluster": trace.cluster,
        "route": trace.route,
        "method": trace.method,
        "status": trace.status,
        "ms": int(seconds * 1e6 + 0.5) / 1000,
        "bytes": trace.sent,
    }
    phases = trace.phases
    for name, phase in phases.items():
        spent = phase.seconds
        if name == "ssh" and len(phases) > 1:
            waited = sum(phases[wait].seconds for wait in WAITS if wait in phases)
            spent = max(0.0, spent - waited)
        line[f"{name}_ms"] = int(spent * 1e6 + 0.5) / 1000
    if trace.trace_id is not None:
        line["trace_id"] = trace.trace_id
    if trace.error is not None:
        line["error"] = trace.error
    if trace.detail is not None:
        line["detail"] = redact(trace.detail)
    if trace.headers is not None:
        line["headers"] = {name: redact(value) for name, value in trace.headers.items()}
    if ACCESS.isEnabledFor(logging.DEBUG):
        line["path"] = path
    _dispatch(level, line)


def _dispatch(level: int, line: dict[str, Any]) -> None:
    """Pass an access log line to all handlers as logging does, but without a LogRecord for our own handler.

    Creating a record looks up thread, process and source line each time, which costs as much as the rest of the line.
    """
    record = None
    logger: logging.Logger | None = ACCESS
    while logger is not None:
        for handler in logger.handlers:
            if level < handler.level:
                continue
            if isinstance(handler, BatchedStreamHandler):
                handler.add(line, level)
                continue
            if record is None:
                record = logging.LogRecord(ACCESS.name, level, "", 0, "request", (), None)
                record.fields = line
            handler.handle(record)
        logger = logger.parent if logger.propagate else None
