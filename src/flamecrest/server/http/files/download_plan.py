"""Decides the response to a GET or HEAD of a file from the request's headers and the file's attributes. No I/O."""

import time
from collections.abc import Iterable
from typing import Final

from flamecrest.server.errors import PreconditionFailed, TooLarge
from flamecrest.server.files.values import Stat
from flamecrest.server.http.headers.conditions import (
    NO_VALIDATORS,
    Outcome,
    Validators,
    evaluate,
    range_applies,
)
from flamecrest.server.http.headers.digests import preferred_digest
from flamecrest.server.http.headers.ranges import ByteRange, UnsatisfiableRange, parse_range

BUFFERED: Final = 256 * 1024  # greatest size in bytes of a file that is buffered to send its digest in the headers
_CONDITIONS: Final = {b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range"}
READ_HEADERS: Final = _CONDITIONS | {b"range", b"want-repr-digest", b"want-content-digest"}
WRITE_HEADERS: Final = (_CONDITIONS - {b"if-range"}) | {b"content-digest", b"repr-digest"}


def select_headers(headers: Iterable[tuple[bytes, bytes]], names: Iterable[bytes]) -> dict[str, str]:
    """The headers with one of the names. Lines of the same name are joined with commas (RFC 9110, 5.3)."""
    given: dict[str, str] = {}
    for raw, value in headers:
        if raw in names:
            name, text = raw.decode("ascii"), value.decode("latin-1")
            given[name] = f"{given[name]}, {text}" if name in given else text
    return given


class DownloadPlan:
    """The status, ranges, validators and digests of one response.

    `limit` is the greatest file size in bytes; with `limits_parts` that of the parts which are sent.
    """

    __slots__ = (
        "_head", "_limit", "_limits_parts", "content_digest", "given", "repr_digest", "size", "spans", "status",
        "validators",
    )  # fmt: skip

    def __init__(self, given: dict[str, str], *, head: bool, limit: int | None, limits_parts: bool = False) -> None:
        self.given = given
        self._head = head
        self._limit = limit
        self._limits_parts = limits_parts
        self.repr_digest = preferred_digest(given.get("want-repr-digest"))
        self.content_digest = preferred_digest(given.get("want-content-digest"))
        self.status, self.size, self.spans, self.validators = 200, 0, list[ByteRange](), NO_VALIDATORS

    def decide(self, stat: Stat) -> int | None:
        """Decide for these attributes. Return the first byte to read, or None to read nothing.

        Called again if the attributes have changed. Raises TooLarge, PreconditionFailed.
        """
        self.status, self.size, self.spans = 200, stat.size, []
        self.validators = Validators.of(stat, time.time())
        if self._limit is not None and stat.size > self._limit and not self._limits_parts:
            raise TooLarge(f"The file has {stat.size} bytes; at most {self._limit} can be downloaded directly")
        if self.given:
            self._evaluate_headers()
        if self._limits_parts:
            self._check_parts()
        if self.status in {304, 416} or (self._head and stat.size and not self.buffers):
            return None
        return 0 if self.buffers or not self.spans else self.spans[0].start

    def _check_parts(self) -> None:
        """Raise TooLarge if more bytes than the limit would be sent."""
        size = {200: self.size, 206: sum(span.size for span in self.spans)}.get(self.status, 0)
        if self._limit is not None and size > self._limit:
            raise TooLarge(f"These are {size} bytes; at most {self._limit} can be sent at once: use `Range`")

    def _evaluate_headers(self) -> None:
        given = self.given
        if not self.size:  # perhaps a file of /proc, whose modification time says nothing about its content
            given = {name: value for name, value in given.items() if name != "if-modified-since"}
        match evaluate(given, self.validators, reading=True):
            case Outcome.FAILED:
                raise PreconditionFailed("The file is not the one that the request's conditions name")
            case Outcome.NOT_MODIFIED:
                self.status = 304
                return
        if "range" in given and self.size and not self._head and range_applies(given, self.validators):
            try:
                self.spans = parse_range(given["range"], self.size)
            except UnsatisfiableRange:
                self.status = 416
            if self.spans:
                self.status = 206

    @property
    def buffers(self) -> bool:
        """Whether the whole file is read before the response is sent, to compute its digest."""
        return self.size <= BUFFERED and (self.repr_digest or self.content_digest) is not None

    def replace_size(self, stat: Stat) -> None:
        """The size was wrong (as in /proc): send the whole file, without validators."""
        self.decide(stat)
        self.status, self.spans, self.validators = 200, [], NO_VALIDATORS

    def validator_headers(self) -> list[tuple[bytes, bytes]]:
        """ETag and Last-Modified, as far as they are known."""
        found: list[tuple[bytes, bytes]] = []
        if self.validators.etag is not None:
            found.append((b"etag", self.validators.etag.encode("ascii")))
        if (date := self.validators.last_modified) is not None:
            found.append((b"last-modified", date.encode("ascii")))
        return found
