"""The log: one JSON object per line, written in batches. The line of a request is made in trace.py.

It uses the standard logging module and knows nothing of HTTP. Records logged while a request is served carry its ids.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import IO, Any

from flamecrest.wire.json import dumps

from .redact import redact
from .trace import BatchedStreamHandler, current_trace


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object. `extra={"fields": {...}}` adds fields; the request's ids are added too.

    JSON escapes every control character, so a message cannot start a line of its own.
    """

    def __init__(self, fields: Mapping[str, object] | None = None) -> None:
        super().__init__()
        self._fields = dict(fields or {})  # of every record

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
        line |= self._fields | fields
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return dumps(line).decode()


def log_to_stream(
    stream: IO[str] | None = None, level: int | str = logging.INFO, fields: Mapping[str, object] | None = None
) -> logging.Handler:
    """Log everything to a stream (standard error by default) as JSON lines; returns the handler.

    `fields` are added to the line of every record; lines of the access log are no records.

    Called once, by the program that owns the process; the library itself configures no logging.
    """
    handler = BatchedStreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter(fields))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # malformed forms are the client's mistake
    return handler
