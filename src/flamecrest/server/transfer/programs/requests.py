"""HTTP/1.1 as far as streamers need it: heads, and small JSON bodies."""

from __future__ import annotations

import json
from typing import Any

from .streams import Stream

HEAD_LIMIT = 16 * 1024  # bytes
JSON_LIMIT = 64 * 1024  # bytes
REASONS = {
    101: "Switching Protocols", 200: "OK", 204: "No Content", 400: "Bad Request", 401: "Unauthorized",
    403: "Forbidden", 404: "Not Found", 409: "Conflict", 413: "Content Too Large", 422: "Unprocessable Content",
    426: "Upgrade Required", 500: "Internal Server Error",
}  # fmt: skip


class Invalid(Exception):
    """A message that is not HTTP/1.1."""


class Head:
    """The first line, split at spaces, and the header fields, by name in lower case."""

    def __init__(self, data: bytes) -> None:
        lines = data.decode("latin-1").split("\r\n")
        self.first = lines[0].split(" ", 2)
        self.fields = {}
        for line in lines[1:]:
            if line:
                name, colon, value = line.partition(":")
                if not colon or name != name.strip() or not name:
                    raise Invalid("an invalid header field")
                self.fields[name.lower()] = value.strip(" \t")
        if len(self.first) < 3 or "HTTP/1." not in (self.first[0] + self.first[2]):
            raise Invalid("not an HTTP message")

    def length(self) -> int:
        """The number of bytes in the body. Raises Invalid."""
        if "transfer-encoding" in self.fields:
            raise Invalid("Content-Length is required")
        text = self.fields.get("content-length", "0")
        if not text or text.strip("0123456789") or len(text) > 18:
            raise Invalid("an invalid Content-Length")
        return int(text)


def read_json(stream: Stream, head: Head) -> dict[str, Any]:
    """The object in the body. Raises Invalid."""
    size = head.length()
    if size > JSON_LIMIT:
        raise Invalid("the body is too large")
    return parse_object(stream.read_exactly(size))


def parse_object(data: bytes) -> dict[str, Any]:
    """A JSON object. Raises Invalid."""
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Invalid("not JSON") from None
    if not isinstance(value, dict):
        raise Invalid("not a JSON object")
    return value


def is_count(value: Any) -> bool:
    """Whether a value from JSON is an integer that may be a number of bytes."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62


def answer(stream: Stream, status: int, body: bytes, *fields: str) -> None:
    """Send a response."""
    lines = [f"HTTP/1.1 {status} {REASONS[status]}", f"Content-Length: {len(body)}", *fields, "", ""]
    stream.send("\r\n".join(lines).encode("latin-1") + body)


def answer_json(stream: Stream, status: int, value: dict[str, Any]) -> None:
    """Send a response with a JSON object."""
    answer(stream, status, json.dumps(value).encode(), "Content-Type: application/json")
