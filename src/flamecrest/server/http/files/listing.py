"""`ls`: filters, order, pages and NDJSON; responses of any length."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import orjson
from fastapi import Query
from starlette.responses import Response

from flamecrest.server.errors import Field, Invalid
from flamecrest.server.files.listing_filter import ListingFilter, ListingPosition, SortOrder
from flamecrest.server.http.core.responses import file_entry, plain_file_entries
from flamecrest.wire.json import dumps

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from starlette.types import Receive, Scope, Send

    from flamecrest.server.files.port import Files
    from flamecrest.server.files.values import ListingEntry, ListOptions
    from flamecrest.server.http.core.route import Call

NDJSON: Final = "application/x-ndjson"
NEXT_CURSOR: Final = b"x-next-cursor"  # cursor of the next page, for NDJSON
MAX_PAGE: Final = 100_000  # entries
LISTING_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {NDJSON: {"schema": {"type": "string", "description": "One File per line, unsorted"}}}}
}

_ENTRY: Final = 600  # bytes in memory of an entry with a short name
_BATCH: Final = 2000  # entries that are encoded before other tasks run
_POSITION: Final = re.compile(rb"(-?[a-z]{4,5}):(-?\d{1,20}):(.*)", re.DOTALL)

Glob = Annotated[
    str | None,
    Query(min_length=1, max_length=255, description="Only names that match a shell pattern: `*.out`, `run[0-9]?`"),
]
Sort = Annotated[
    Literal["name", "-name", "size", "-size", "mtime", "-mtime"] | None,
    Query(description="Order; `-` reverses it. Default: by name"),
]
Kinds = Annotated[
    str | None,
    Query(
        alias="type",
        pattern=r"^[-dlpsbc]{1,7}$",
        description="Only these types: letters of `ls -l`, for example `d` or `-l`",
    ),
]
Limit = Annotated[
    int | None, Query(ge=1, le=MAX_PAGE, description="Greatest number of entries; `nextCursor` leads to the next page")
]
Cursor = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=8192,
        description="`nextCursor` of the previous page; all other parameters must be the same",
    ),
]


@dataclass(frozen=True, slots=True)
class ListingRequest:
    """The filters, order and page that a request asks for."""

    listing_filter: ListingFilter
    sort: str | None
    paged: bool  # with a limit: the response has a cursor of the next page

    @classmethod
    def of(
        cls, *, glob: str | None, sort: str | None, kinds: str | None, limit: int | None, cursor: str | None
    ) -> ListingRequest:
        """Make it from the parameters; raises Invalid for a cursor that is malformed or of another order."""
        order: SortOrder = "name"
        name = (sort or "name").lstrip("-")
        if name in {"size", "mtime"}:
            order = "size" if name == "size" else "mtime"
        after = None if cursor is None else _position(cursor, sort or "name")
        listing_filter = ListingFilter(
            glob=glob,
            kinds=frozenset(kinds or ""),
            order=order,
            backwards=(sort or "").startswith("-"),
            limit=None if limit is None else limit + 1,
            after=after,
        )
        return cls(listing_filter, sort, paged=limit is not None)

    async def respond(self, call: Call, files: Files, path: str, options: ListOptions) -> Response:
        """List the path; the response has the media type that the caller accepts."""
        lines = accepts_ndjson(call.headers.get("accept", ""))
        if lines and self.sort is None and not self.paged and self.listing_filter.after is None:
            return NdjsonListing(files, path, call, options, self.listing_filter)
        memory, scope = call.scope["app"].users.memory, call.scope
        listing_filter = replace(self.listing_filter, keep=lambda count: memory.hold(scope, count * _ENTRY))
        entries = await files.queries.ls(path, call.deadline, options, listing_filter=listing_filter)
        next_cursor = self._cut(entries) if self.paged else None
        return ListingResponse(entries, lines=lines, paged=self.paged, next_cursor=next_cursor)

    def _cut(self, entries: list[ListingEntry]) -> str | None:
        """Remove the entry beyond the limit, if there is one, and return the cursor of the next page."""
        limit = self.listing_filter.limit
        if limit is None or len(entries) < limit:
            return None
        entries.pop()
        return _cursor(self.listing_filter.place(entries[-1]), self.sort or "name")


def _cursor(place: ListingPosition, sort: str) -> str:
    text = b"%b:%d:%b" % (sort.encode("ascii"), place[0], place[1])
    return base64.urlsafe_b64encode(text).decode("ascii").rstrip("=")


def _position(cursor: str, sort: str) -> ListingPosition:
    try:
        text = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        text = b""
    found = _POSITION.fullmatch(text)
    if found is None:
        message = "is no cursor of a listing"
    elif found[1] != sort.encode("ascii"):
        message = "is of a listing in another order"
    else:
        return int(found[2]), found[3]
    raise Invalid(f"`cursor` {message}", fields=(Field("query", "cursor", message),))


def accepts_ndjson(accept: str) -> bool:
    """Whether an Accept header names NDJSON with a quality above 0."""
    for part in accept.split(","):
        kind, *parameters = (word.strip().lower() for word in part.split(";"))
        if kind == NDJSON:
            return not any(re.fullmatch(r"q\s*=\s*0(\.0*)?", one) for one in parameters)
    return False


def _joined(entries: Sequence[ListingEntry]) -> bytes:
    """The items of a JSON list of Files. Names that are not UTF-8 are rare; only they need the slower encoder."""
    try:
        return orjson.dumps(plain_file_entries(entries))[1:-1]
    except TypeError:
        return dumps([file_entry(entry) for entry in entries])[1:-1]


def _lines(entries: Sequence[ListingEntry]) -> bytes:
    return b"".join(dumps(file_entry(entry)) + b"\n" for entry in entries)


class ListingResponse(Response):
    """A complete listing, encoded in batches: other tasks run between them, and little is in memory twice."""

    def __init__(self, entries: Sequence[ListingEntry], *, lines: bool, paged: bool, next_cursor: str | None) -> None:
        super().__init__()
        self._entries = entries
        self._lines = lines
        cursor = b"" if not paged else b',"nextCursor":' + orjson.dumps(next_cursor)
        self._end = b"" if lines else b"]" + cursor + b"}"
        kind = NDJSON if lines else "application/json"
        self._sent_headers = [(b"content-type", kind.encode("ascii"))]
        if next_cursor is not None and lines:
            self._sent_headers.append((NEXT_CURSOR, next_cursor.encode("ascii")))

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the response; a short one has a Content-Length."""
        pieces = self._pieces()
        first = next(pieces)
        if len(self._entries) <= _BATCH:
            body = first + b"".join(pieces)
            headers = [*self._sent_headers, (b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body, "more_body": False})
            return
        await send({"type": "http.response.start", "status": 200, "headers": self._sent_headers})
        await send({"type": "http.response.body", "body": first, "more_body": True})
        for piece in pieces:
            await asyncio.sleep(0)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _pieces(self) -> Iterator[bytes]:
        start = b"" if self._lines else b'{"output":['
        for at in range(0, len(self._entries), _BATCH):
            part = self._entries[at : at + _BATCH]
            yield start + (_lines(part) if self._lines else _joined(part))
            start = b"" if self._lines else b","
        yield (start if not self._entries else b"") + self._end


class NdjsonListing(Response):
    """A listing line by line as the cluster produces it, unsorted, in bounded memory."""

    def __init__(
        self, files: Files, path: str, call: Call, options: ListOptions, listing_filter: ListingFilter
    ) -> None:
        super().__init__()
        self._scan = files.queries.scan(path, call.deadline, options)
        self._matches = replace(listing_filter, after=None).matcher()

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the lines. If the listing fails half-way the response stays incomplete, which clients notice."""
        async with self._scan as batches:
            # Before the headers are sent, an error can still be the response.
            batch = await anext(batches, None)
            headers = [(b"content-type", NDJSON.encode("ascii"))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            while batch is not None:
                matching = [entry for entry in batch if self._matches is None or self._matches(entry)]
                if matching:
                    await send({"type": "http.response.body", "body": _lines(matching), "more_body": True})
                batch = await anext(batches, None)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
