"""The log: one JSON object per line, written in batches; the access log has one line per request.

It uses the standard logging module and knows nothing of HTTP. Records logged while a request is served carry its ids.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from datetime import UTC, datetime
from typing import IO, Any

from flamecrest.wire.json import dumps

from .redact import redact
from .trace import Trace, current_trace

ACCESS = logging.getLogger("flamecrest.access")
BATCH_SECONDS = 0.02  # how long a line may wait to be written together with others


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object. `extra={"fields": {...}}` adds fields; the request's ids are added too.

    JSON escapes every control character, so a message cannot start a line of its own.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname,
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        fields: dict[str, Any] = getattr(record, "fields", {})
        trace = current_trace.get()
        if trace is not None and "request_id" not in fields:
            line |= trace.ids()
        line |= fields
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return dumps(line).decode()


class BatchedStreamHandler(logging.StreamHandler[IO[str]]):
    """Writes the lines of `BATCH_SECONDS` with one system call, in order: a write per line costs more than the line.

    A record above INFO is written at once, together with all lines before it. The rest is written at exit at the
    latest. Without a running event loop every line is written at once.
    """

    def __init__(self, stream: IO[str]) -> None:
        super().__init__(stream)
        self._waiting: list[str] = []
        self._loop: asyncio.AbstractEventLoop | None = None  # the loop on which a flush is scheduled

    def emit(self, record: logging.LogRecord) -> None:
        """Format a record and add it to the batch."""
        try:
            self.add(self.format(record), record.levelno)
        except Exception:  # noqa: BLE001 -- as in the logging module: a failure to log must not fail the request
            self.handleError(record)

    def add(self, line: str, level: int) -> None:
        """Add a formatted line to the batch."""
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
                self.stream.write("\n".join(self._waiting[:count]) + "\n")
                del self._waiting[:count]
            super().flush()


def log_request(trace: Trace, seconds: float, path: str) -> None:
    """Write the access log line of a finished request. The path itself is added at level DEBUG only."""
    cut_off = trace.error is not None and trace.status < 400
    level = logging.WARNING if trace.status >= 500 or cut_off else logging.INFO
    if not ACCESS.isEnabledFor(level):
        return
    line: dict[str, Any] = {
        "ts": datetime.fromtimestamp(time.time(), UTC),
        "level": logging.getLevelName(level),
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
        if name == "ssh" and "queue" in phases:
            spent = max(0.0, spent - phases["queue"].seconds)
        line[f"{name}_ms"] = int(spent * 1e6 + 0.5) / 1000
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
                handler.add(dumps(line).decode(), level)
                continue
            if record is None:
                record = logging.LogRecord(ACCESS.name, level, "", 0, "request", (), None)
                record.fields = line
            handler.handle(record)
        logger = logger.parent if logger.propagate else None


def log_to_stream(stream: IO[str] | None = None, level: int | str = logging.INFO) -> logging.Handler:
    """Log everything to a stream (standard error by default) as JSON lines; returns the handler.

    Called once, by the program that owns the process; the library itself configures no logging.
    """
    handler = BatchedStreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # malformed forms are the client's mistake
    return handler
