"""Plan: what a GET or HEAD of a file is to be answered with, by its headers and the file's attributes.

Knows no file itself: it is told what was found, as often as that changes.
"""

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
    format_http_date,
    range_applies,
)
from flamecrest.server.http.headers.digests import preferred_digest
from flamecrest.server.http.headers.ranges import ByteRange, UnsatisfiableRange, parse_range

BUFFERED: Final = 256 * 1024  # bytes of an answer that are gathered to compute a digest before the headers go
_CONDITIONS: Final = {b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range"}
READ_HEADERS: Final = _CONDITIONS | {b"range", b"want-repr-digest", b"want-content-digest"}
WRITE_HEADERS: Final = (_CONDITIONS - {b"if-range"}) | {b"content-digest", b"repr-digest"}


def select_headers(headers: Iterable[tuple[bytes, bytes]], names: Iterable[bytes]) -> dict[str, str]:
    """Those of the headers that have one of the names; lines of the same name joined, as lists are."""
    given: dict[str, str] = {}
    for raw, value in headers:
        if raw in names:
            name, text = raw.decode("ascii"), value.decode("latin-1")
            given[name] = f"{given[name]}, {text}" if name in given else text
    return given


class DownloadPlan:
    """The answer to one request."""

    __slots__ = ("_head", "_limit", "content_digest", "given", "repr_digest", "size", "spans", "status", "validators")

    def __init__(self, given: dict[str, str], *, head: bool, limit: int | None) -> None:
        self.given = given
        self._head = head
        self._limit = limit
        self.repr_digest = preferred_digest(given.get("want-repr-digest"))
        self.content_digest = preferred_digest(given.get("want-content-digest"))
        self.status, self.size, self.spans, self.validators = 200, 0, list[ByteRange](), NO_VALIDATORS

    def look(self, stat: Stat) -> int | None:
        """Decide by file attributes; returns the first byte to read or None. Raises TooLarge, PreconditionFailed."""
        self.status, self.size, self.spans = 200, stat.size, []
        self.validators = Validators.of(stat, time.time())
        if self._limit is not None and stat.size > self._limit:
            raise TooLarge(f"The file has {stat.size} bytes; at most {self._limit} can be downloaded directly")
        if self.given:
            self._decide()
        if self.status in {304, 416} or (self._head and stat.size and not self.gathers):
            return None
        return 0 if self.gathers or not self.spans else self.spans[0].start

    def _decide(self) -> None:
        given = self.given
        if not self.size:  # it may be one that is made as it is read (/proc), of which a date says nothing
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
    def gathers(self) -> bool:
        """Whether the whole file is read before anything is sent, for its digest."""
        return self.size <= BUFFERED and (self.repr_digest or self.content_digest) is not None

    def made_as_read(self, stat: Stat) -> None:
        """The file turned out to have another size than it says: it is sent whole, and nothing tells its states."""
        self.look(stat)
        self.status, self.spans, self.validators = 200, [], NO_VALIDATORS

    def tell_apart(self) -> list[tuple[bytes, bytes]]:
        """The headers by which this state of the file is known again."""
        found: list[tuple[bytes, bytes]] = []
        if self.validators.etag is not None:
            found.append((b"etag", self.validators.etag.encode("ascii")))
        if self.validators.modified is not None:
            found.append((b"last-modified", format_http_date(self.validators.modified).encode("ascii")))
        return found
