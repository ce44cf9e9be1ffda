"""What the log says and in which words: the fields of a request, one JSON object a line, nothing secret.

It knows the standard logging module and nothing of HTTP. Whoever logs while a request is served gets its ids.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import sys
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any

from flamecrest.wire.json import dumps

ACCESS = logging.getLogger("flamecrest.access")
GATHER_SECONDS = 0.02  # that a line may wait for others to be written with

# A token or key that found its way into a text after all: a JWT, a bearer header, a PEM block, a signed URL's proof.
_SECRET = re.compile(
    r"eyJ[\w-]{8,}(?:\.[\w-]*){0,2}"
    r"|(?<=[Bb]earer )[^\s'\"]+"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|(?<=X-Amz-Signature=)\w+",
    re.DOTALL,
)


@dataclass(slots=True)
class Trace:
    """What the log knows of one request; filled in while it is served."""

    request_id: str
    correlation_id: str
    method: str = ""
    route: str = ""  # the template, never the path: paths are users' data
    user: str | None = None
    cluster: str | None = None
    status: int = 0
    sent: int = 0  # bytes of the answer's body
    error: str | None = None  # the kind
    detail: str | None = None  # GatewayError.detail
    phases: dict[str, phase] = field(default_factory=dict)

    def ids(self) -> dict[str, str]:
        """The two ids, under their names in the log."""
        return {"request_id": self.request_id, "correlation_id": self.correlation_id}


current: ContextVar[Trace | None] = ContextVar("flamecrest_trace", default=None)


class phase:  # noqa: N801 - used as a function is; a class because this runs several times in every request
    """Count the time of a `with` block as spent by the current request in that way: auth, queue, ssh.

    `queue` is waiting for a channel, `ssh` asking the cluster, that waiting included. What runs side by side counts
    once: the first block of a name keeps the time of all.
    """

    __slots__ = ("_first", "_name", "running", "seconds", "since")

    def __init__(self, name: str) -> None:
        self._name = name
        self.seconds = 0.0
        self.running = 0
        self.since = 0.0

    def __enter__(self) -> None:
        trace = current.get()
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


def redact(text: str) -> str:
    """The text without what looks like a token, a private key or a signature."""
    return _SECRET.sub("[redacted]", text)


class JsonFormatter(logging.Formatter):
    """One JSON object a line. `extra={"fields": {...}}` adds fields; the request's ids are added by themselves.

    JSON escapes every control character, so no text can begin a line of its own.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname,
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        fields: dict[str, Any] = getattr(record, "fields", {})
        trace = current.get()
        if trace is not None and "request_id" not in fields:
            line |= trace.ids()
        line |= fields
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return dumps(line).decode()


class Lines(logging.StreamHandler[IO[str]]):
    """Writes the lines of some milliseconds together, in their order: a write for each would cost more than the line.

    What is worse than information is written at once, with all that was before it; the rest at the end of the process
    at the latest. Without an event loop every line is written at once.
    """

    def __init__(self, stream: IO[str]) -> None:
        super().__init__(stream)
        self._waiting: list[str] = []
        self._loop: asyncio.AbstractEventLoop | None = None  # on which a flush is due

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        try:
            self.add(self.format(record), record.levelno)
        except Exception:  # noqa: BLE001 -- logging's own way: what can't be logged fails nobody
            self.handleError(record)

    def add(self, line: str, level: int) -> None:
        """Take a line."""
        self._waiting.append(line)
        if level > logging.INFO:
            self.flush()
        elif self._loop is None or self._loop.is_closed():
            try:
                self._loop = asyncio.get_running_loop()
                self._loop.call_later(GATHER_SECONDS, self.flush)
            except RuntimeError:  # no loop
                self.flush()

    def flush(self) -> None:
        """Write what waits."""
        with self.lock or contextlib.nullcontext():
            self._loop = None
            count = len(self._waiting)  # other threads may add more meanwhile
            if count:
                self.stream.write("\n".join(self._waiting[:count]) + "\n")
                del self._waiting[:count]
            super().flush()


def log_request(trace: Trace, seconds: float, path: str) -> None:
    """Write the one line of a request that is over. The path itself is added at debug level only."""
    cut_off = trace.error is not None and trace.status < 400
    level = logging.WARNING if trace.status >= 500 or cut_off else logging.INFO
    if not ACCESS.isEnabledFor(level):
        return
    now = time.time()
    line: dict[str, Any] = {
        "ts": datetime.fromtimestamp(now, UTC),
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
        "ms": _ms(seconds),
        "bytes": trace.sent,
    }
    _split(line, trace.phases)
    if trace.error is not None:
        line["error"] = trace.error
    if trace.detail is not None:
        line["detail"] = redact(trace.detail)
    if ACCESS.isEnabledFor(logging.DEBUG):
        line["path"] = path
    _hand_out(level, line)


def _ms(seconds: float) -> float:
    """Milliseconds, to the microsecond."""
    return int(seconds * 1e6 + 0.5) / 1000


def _split(line: dict[str, Any], phases: dict[str, phase]) -> None:
    """Milliseconds of each phase that there was; what is left of `ms` is the gateway's own work and the client's."""
    for name, phase in phases.items():
        seconds = phase.seconds
        if name == "ssh" and "queue" in phases:
            seconds = max(0.0, seconds - phases["queue"].seconds)
        line[f"{name}_ms"] = _ms(seconds)


def _hand_out(level: int, line: dict[str, Any]) -> None:
    """Give the line of a request to the handlers of the log, as logging does, but without a record for our own.

    A record looks for thread, process and place in the code each time, which costs as much as all else of the line.
    """
    record = None
    logger: logging.Logger | None = ACCESS
    while logger is not None:
        for handler in logger.handlers:
            if level < handler.level:
                continue
            if isinstance(handler, Lines):
                handler.add(dumps(line).decode(), level)
                continue
            if record is None:
                record = logging.LogRecord(ACCESS.name, level, "", 0, "request", (), None)
                record.fields = line
            handler.handle(record)
        logger = logger.parent if logger.propagate else None


def write_to(stream: IO[str] | None = None, level: int | str = logging.INFO) -> logging.Handler:
    """Send everything the gateway logs to a stream (standard error by default) as JSON lines; returns the handler.

    Set up once, by whoever owns the process; the library itself configures nothing.
    """
    handler = Lines(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a broken form is its sender's business
    return handler
