"""What the log says and in which words: the fields of a request, one JSON object a line, nothing secret.

It knows the standard logging module and nothing of HTTP. Whoever logs while a request is served gets its ids.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any

import orjson

ACCESS = logging.getLogger("flamecrest.access")

_SURROGATE = re.compile("[\ud800-\udfff]")
# A token or key that found its way into a text after all: a JWT, a bearer header, a PEM block, a signed URL's proof.
_SECRET = re.compile(
    r"eyJ[\w-]{8,}(?:\.[\w-]*){0,2}"
    r"|(?<=[Bb]earer )[^\s'\"]+"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|(?<=X-Amz-Signature=)\w+",
    re.DOTALL,
)


@dataclass(slots=True)
class Phase:
    """The time that a request spent in one way; what runs side by side counts once."""

    seconds: float = 0.0
    running: int = 0
    since: float = 0.0


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
    phases: dict[str, Phase] = field(default_factory=dict)

    def ids(self) -> dict[str, str]:
        """The two ids, under their names in the log."""
        return {"request_id": self.request_id, "correlation_id": self.correlation_id}


current: ContextVar[Trace | None] = ContextVar("flamecrest_trace", default=None)


class phase:  # noqa: N801 - used as a function is; a class because this runs several times in every request
    """Count the time of a `with` block as spent by the current request in that way: auth, queue, ssh.

    `queue` is waiting for a channel, `ssh` asking the cluster, that waiting included.
    """

    __slots__ = ("_name", "_phase")

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        trace = current.get()
        if trace is None:
            self._phase = None
            return
        self._phase = found = trace.phases.get(self._name) or trace.phases.setdefault(self._name, Phase())
        if not found.running:
            found.since = time.perf_counter()
        found.running += 1

    def __exit__(self, *_: object) -> None:
        found = self._phase
        if found is not None:
            found.running -= 1
            if not found.running:
                found.seconds += time.perf_counter() - found.since


def redact(text: str) -> str:
    """The text without what looks like a token, a private key or a signature."""
    return _SECRET.sub("[redacted]", text)


def dumps(data: Any) -> bytes:
    """JSON of anything: lone surrogates and numbers that do not fit are written as well as can be."""
    try:
        return orjson.dumps(data)
    except TypeError:
        text = json.dumps(data, ensure_ascii=False, default=str)
        return _SURROGATE.sub("\ufffd", text).encode()


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


def log_request(trace: Trace, seconds: float, path: str) -> None:
    """Write the one line of a request that is over. The path itself is added at debug level only."""
    cut_off = trace.error is not None and trace.status < 400
    level = logging.WARNING if trace.status >= 500 or cut_off else logging.INFO
    if not ACCESS.isEnabledFor(level):
        return
    fields: dict[str, Any] = {
        **trace.ids(),
        "user": trace.user,
        "cluster": trace.cluster,
        "route": trace.route,
        "method": trace.method,
        "status": trace.status,
        "ms": round(seconds * 1000, 3),
        "bytes": trace.sent,
    }
    fields |= _phases(trace)
    if trace.error is not None:
        fields["error"] = trace.error
    if trace.detail is not None:
        fields["detail"] = redact(trace.detail)
    if ACCESS.isEnabledFor(logging.DEBUG):
        fields["path"] = path
    # Made by hand: Logger.log would walk the stack for a place in the code that nobody asks for.
    record = logging.LogRecord(ACCESS.name, level, "", 0, "request", (), None)
    record.fields = fields
    ACCESS.handle(record)


def _phases(trace: Trace) -> dict[str, float]:
    """Milliseconds of each phase that there was; what is left of `ms` is the gateway's own work and the client's."""
    spent = {name: phase.seconds for name, phase in trace.phases.items()}
    if "ssh" in spent:
        spent["ssh"] = max(0.0, spent["ssh"] - spent.get("queue", 0.0))
    return {f"{name}_ms": round(seconds * 1000, 3) for name, seconds in spent.items()}


def write_to(stream: IO[str] | None = None, level: int | str = logging.INFO) -> logging.Handler:
    """Send everything the gateway logs to a stream (standard error by default) as JSON lines; returns the handler.

    Set up once, by whoever owns the process; the library itself configures nothing.
    """
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a broken form is its sender's business
    return handler
