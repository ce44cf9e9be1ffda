"""`ls` as it is asked for: chosen, sorted, in pages, or line by line as NDJSON; and its answers, however long."""

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
from flamecrest.server.files.listing_filter import ALL_ENTRIES, ListingFilter, ListingPosition, SortOrder
from flamecrest.server.http.core.responses import file_entry, plain_file_entries
from flamecrest.wire.json import dumps

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from starlette.types import Receive, Scope, Send

    from flamecrest.server.files.port import Files
    from flamecrest.server.files.values import ListingEntry, ListOptions
    from flamecrest.server.http.core.route import Call

NDJSON: Final = "application/x-ndjson"
NEXT_CURSOR: Final = b"x-next-cursor"  # where the rest begins, for answers whose body has no place for it
MAX_PAGE: Final = 100_000  # entries of a page
LISTING_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {NDJSON: {"schema": {"type": "string", "description": "One File a line, as they come"}}}}
}

_SLICE: Final = 2000  # entries that are written between two turns of the event loop
_PLACE: Final = re.compile(rb"(-?[a-z]{4,5}):(\d{1,20}):(.*)", re.DOTALL)

Glob = Annotated[
    str | None,
    Query(min_length=1, max_length=255, description="Only names that match, as a shell does it: `*.out`, `run[0-9]?`"),
]
Sort = Annotated[
    Literal["name", "-name", "size", "-size", "mtime", "-mtime"] | None,
    Query(description="Order, backwards with `-`; by name if it is not given"),
]
Kinds = Annotated[
    str | None,
    Query(
        alias="type", pattern=r"^[-dlpsbc]{1,7}$", description="Only these types: letters of `ls -l`, as `d` or `-l`"
    ),
]
Limit = Annotated[
    int | None, Query(ge=1, le=MAX_PAGE, description="At most so many entries; nextCursor leads to the rest")
]
Cursor = Annotated[
    str | None, Query(min_length=1, max_length=8192, description="nextCursor of the page before; ask for the same else")
]


@dataclass(frozen=True, slots=True)
class ListingRequest:
    """Which entries of a listing a request wants, and how."""

    choice: ListingFilter
    sort: str | None
    paged: bool  # with a limit: it is said where the rest begins

    @classmethod
    def of(
        cls, glob: str | None, sort: str | None, kinds: str | None, limit: int | None, cursor: str | None
    ) -> ListingRequest:
        """Read the parameters; Invalid for a cursor that is none of ours, or of another order."""
        if glob is None and sort is None and kinds is None and limit is None and cursor is None:
            return cls(ALL_ENTRIES, None, paged=False)
        order: SortOrder = "name"
        name = (sort or "name").lstrip("-")
        if name in {"size", "mtime"}:
            order = "size" if name == "size" else "mtime"
        after = None if cursor is None else _place(cursor, sort or "name")
        backwards = (sort or "").startswith("-")
        choice = ListingFilter(
            glob, frozenset(kinds or ""), order, backwards, None if limit is None else limit + 1, after
        )
        return cls(choice, sort, paged=limit is not None)

    async def answer(self, call: Call, files: Files, path: str, options: ListOptions) -> Response:
        """List, and answer in the form that the caller accepts."""
        lines = accepts_ndjson(call.headers.get("accept", ""))
        if lines and self.sort is None and not self.paged and self.choice.after is None:
            return NdjsonListing(files, path, call, options, self.choice)
        entries = await files.queries.ls(path, call.deadline, options, listing_filter=self.choice)
        following = self._cut(entries) if self.paged else None
        return ListingResponse(entries, lines=lines, paged=self.paged, following=following)

    def _cut(self, entries: list[ListingEntry]) -> str | None:
        """Take off the entry over the limit: that there is one says that there is more."""
        limit = self.choice.limit
        if limit is None or len(entries) < limit:
            return None
        entries.pop()
        return _cursor(self.choice.place(entries[-1]), self.sort or "name")


def _cursor(place: ListingPosition, sort: str) -> str:
    text = b"%b:%d:%b" % (sort.encode("ascii"), place[0], place[1])
    return base64.urlsafe_b64encode(text).decode("ascii").rstrip("=")


def _place(cursor: str, sort: str) -> ListingPosition:
    try:
        text = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        text = b""
    found = _PLACE.fullmatch(text)
    if found is None:
        message = "is no cursor of a listing"
    elif found[1] != sort.encode("ascii"):
        message = "is of a listing in another order"
    else:
        return int(found[2]), found[3]
    raise Invalid(f"`cursor` {message}", fields=(Field("query", "cursor", message),))


def accepts_ndjson(accept: str) -> bool:
    """Whether an Accept header asks for NDJSON (and does not rank it at zero)."""
    for part in accept.split(","):
        kind, *parameters = (word.strip().lower() for word in part.split(";"))
        if kind == NDJSON:
            return not any(re.fullmatch(r"q\s*=\s*0(\.0*)?", one) for one in parameters)
    return False


def _joined(entries: Sequence[ListingEntry]) -> bytes:
    """The inside of a JSON list of Files. Names that are not UTF-8 are rare: only they cost a second look."""
    try:
        return orjson.dumps(plain_file_entries(entries))[1:-1]
    except TypeError:
        return dumps([file_entry(entry) for entry in entries])[1:-1]


def _lines(entries: Sequence[ListingEntry]) -> bytes:
    return b"".join(dumps(file_entry(entry)) + b"\n" for entry in entries)


class ListingResponse(Response):
    """A listing that is complete, sent in slices: others get their turn, and it is never whole in memory twice."""

    def __init__(self, entries: Sequence[ListingEntry], *, lines: bool, paged: bool, following: str | None) -> None:
        super().__init__()
        self._entries = entries
        self._lines = lines
        cursor = b"" if not paged else b',"nextCursor":' + orjson.dumps(following)
        self._end = b"" if lines else b"]" + cursor + b"}"
        kind = NDJSON if lines else "application/json"
        self._sent = [(b"content-type", kind.encode("ascii"))]
        if following is not None and lines:
            self._sent.append((NEXT_CURSOR, following.encode("ascii")))

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send it; a short one with its length."""
        pieces = self._pieces()
        first = next(pieces)
        if len(self._entries) <= _SLICE:
            body = first + b"".join(pieces)
            headers = [*self._sent, (b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body, "more_body": False})
            return
        await send({"type": "http.response.start", "status": 200, "headers": self._sent})
        await send({"type": "http.response.body", "body": first, "more_body": True})
        for piece in pieces:
            await asyncio.sleep(0)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _pieces(self) -> Iterator[bytes]:
        start = b"" if self._lines else b'{"output":['
        for at in range(0, len(self._entries), _SLICE):
            part = self._entries[at : at + _SLICE]
            yield start + (_lines(part) if self._lines else _joined(part))
            start = b"" if self._lines else b","
        yield (start if not self._entries else b"") + self._end


class NdjsonListing(Response):
    """A listing line by line as the cluster gives it, in no order and in memory that does not grow."""

    def __init__(self, files: Files, path: str, call: Call, options: ListOptions, choice: ListingFilter) -> None:
        super().__init__()
        self._scanning = files.queries.scan(path, call.deadline, options)
        self._wanted = replace(choice, after=None).matcher()

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send lines; if the listing breaks off the answer stays unfinished, which no client can take for the whole."""
        async with self._scanning as batches:
            # the first entries are there before the first header goes: what is wrong with them is a proper error
            batch = await anext(batches, None)
            headers = [(b"content-type", NDJSON.encode("ascii"))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            while batch is not None:
                wanted = [entry for entry in batch if self._wanted is None or self._wanted(entry)]
                if wanted:
                    await send({"type": "http.response.body", "body": _lines(wanted), "more_body": True})
                batch = await anext(batches, None)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
