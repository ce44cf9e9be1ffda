"""Responses made of answers that requests share: Age, ETag, 304, and waiting for a change. Knows no operation."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

from fastapi import Query
from starlette.responses import Response

from flamecrest.server.deadline import Deadline
from flamecrest.server.errors import Field, Invalid
from flamecrest.server.http.headers.conditions import entity_tags
from flamecrest.server.schedulers.values import SharedItem, SharedList
from flamecrest.wire.json import dumps

from .responses import RESUMABLE, JsonResponse

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from flamecrest.server.schedulers.port import JobLookup

    from .route import Call

T = TypeVar("T")

WaitTime = Annotated[
    str | None,
    Query(
        description="With `If-None-Match`: the time to wait for a change before the answer is 304. `30s`, `500ms`, "
        "`1m` or a number of seconds; at most the system's max_request_timeout.",
        examples=["30s"],
    ),
]
NOT_MODIFIED: Final[dict[int | str, dict[str, Any]]] = {
    304: {"description": "Nothing has changed since the answer with the ETag in `If-None-Match`."}
}
LOOK_EVERY: Final = 1.0  # seconds between two looks at the answers while a request waits for a change

_WAIT: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(ms|s|m|)", re.ASCII)
SLICE: Final = 250  # items that are encoded before other tasks run: some 5 ms
LARGE_ITEM: Final = 4096  # bytes; the JSON of a larger item is not kept for the next list
_DIGEST: Final = 12  # bytes
_UNITS: Final = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0}
# Runs while nothing happens. A quote in a text is escaped, so no text of a user matches.
_CLOCK: Final = re.compile(rb'"elapsed":(?:[0-9]+|null)')


def parse_wait(text: str | None) -> float:
    """Parse `30s` into seconds, 0 for none. Raises Invalid."""
    if text is None:
        return 0.0
    found = _WAIT.fullmatch(text)
    if found is None:
        message = "must be a time to wait, like 30s, 500ms or 1m"
        raise Invalid(f"`wait` {message}", fields=(Field("query", "wait", message),))
    return float(found[1]) * _UNITS[found[2]]


@dataclass(frozen=True, slots=True)
class Encoded:
    """The body of a response, and its weak tag, which does not depend on the time that jobs have run.

    `headers` are those of every response with this body, the first two those of a 304 as well; the opaque part of the
    tag is `opaque`.
    """

    body: bytes
    etag: str
    opaque: str = field(init=False)
    headers: tuple[tuple[bytes, bytes], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "opaque", self.etag.removeprefix("W/"))
        headers = (
            (b"etag", self.etag.encode()),
            (b"cache-control", b"private, no-cache"),
            (b"content-length", b"%d" % len(self.body)),
            (b"content-type", b"application/json"),
        )
        object.__setattr__(self, "headers", headers)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Encoded:
        """Encode the data."""
        body = bytes(JsonResponse(data).body)
        return cls(body, f'W/"{blake2b(_CLOCK.sub(b"", body), digest_size=_DIGEST).hexdigest()}"')

    @classmethod
    def of_list(cls, name: str, found: Sequence[T], show: Callable[[T], Mapping[str, Any]]) -> Encoded:
        """Encode an object with a list. One that requests share is encoded once, and so is an item of several lists."""
        if not isinstance(found, SharedList):
            return cls._of_shown(name, [_Shown.of(one, show) for one in found])
        if not isinstance(found.shown, cls):
            found.shown = cls._of_shown(name, [_Shown.of_item(one, show) for one in found.items])
        return found.shown

    @classmethod
    async def of_long_list(cls, name: str, found: Sequence[T], show: Callable[[T], Mapping[str, Any]]) -> Encoded:
        """The same as `of_list`; other tasks run while a long one is encoded."""
        if len(found) <= SLICE:
            return cls.of_list(name, found, show)
        shared = found if isinstance(found, SharedList) else SharedList(found)
        if not isinstance(shared.shown, cls):
            shared.shown = await cls.of_items(name, shared.items, show)
        return shared.shown

    @classmethod
    async def of_items(
        cls, name: str, items: Sequence[SharedItem[T]], show: Callable[[T], Mapping[str, Any]], **more: Any
    ) -> Encoded:
        """Encode an object with some items of a list and further fields; other tasks run while many are encoded."""
        tail = b"," + dumps(more)[1:-1] if more else b""
        shown: list[_Shown] = []
        for first in range(0, len(items), SLICE):
            shown += [_Shown.of_item(one, show) for one in items[first : first + SLICE]]
            if len(items) > SLICE:
                await asyncio.sleep(0)
        return cls._of_shown(name, shown, tail)

    @classmethod
    def _of_shown(cls, name: str, items: Sequence[_Shown], tail: bytes = b"") -> Encoded:
        digests = b"".join([one.digest for one in items])
        tag = blake2b(digests + tail, digest_size=_DIGEST).hexdigest()
        bodies = [one.body for one in items] or [b""]
        bodies[0] = b'{"%s":[%s' % (name.encode(), bodies[0])
        bodies[-1] += b"]%b}" % tail
        return cls(b",".join(bodies), f'W/"{tag}"')


@dataclass(frozen=True, slots=True)
class _Shown:
    """An item of a list as JSON, encoded for itself: all of a long list as dictionaries would take much memory.

    The digest is that of the JSON without the time that a job has run.
    """

    body: bytes
    digest: bytes

    @classmethod
    def of(cls, value: T, show: Callable[[T], Mapping[str, Any]]) -> _Shown:
        body = bytes(memoryview(dumps(show(value))))  # a copy: orjson's own result may occupy 8 KB
        return cls(body, blake2b(_CLOCK.sub(b"", body), digest_size=_DIGEST).digest())

    @classmethod
    def of_item(cls, item: SharedItem[T], show: Callable[[T], Mapping[str, Any]]) -> _Shown:
        """What was made of the item before; kept for later lists if it is not large."""
        if isinstance(item.shown, cls):
            return item.shown
        made = cls.of(item.value, show)
        if len(made.body) <= LARGE_ITEM:
            item.shown = made
        return made


class SharedResponse(Response):
    """A response with its age in seconds and its tag. It is 304 without a body if the request has that tag."""

    def __init__(self, call: Call, encoded: Encoded, age: float, known: Container[str] | None = None) -> None:
        """`known` are the opaque parts of the tags that the request has, if they were read before."""
        self.body, self.status_code, self.background = encoded.body, 200, None
        self.raw_headers = [(b"age", b"%d" % age), *encoded.headers]
        known = known_tags(call) if known is None else known
        if known and ("*" in known or encoded.opaque in known):
            self.status_code, self.body = 304, b""
            del self.raw_headers[3:]

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the response."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body})


def known_tags(call: Call) -> frozenset[str]:
    """The tags in If-None-Match, for weak comparison (RFC 9110, 13.1.2); `*` is any answer."""
    for name, value in call.scope["headers"]:  # not `call.headers`, which costs as much as all of the response
        if name == b"if-none-match":
            return frozenset(tag.removeprefix("W/") for tag in entity_tags(value.decode("latin-1")))
    return frozenset()


async def wait_for_change(
    call: Call,
    wait: str | None,
    scheduler: Callable[[], JobLookup],
    read: Callable[[JobLookup, Deadline], Awaitable[Encoded]],
) -> Response:
    """The response to what `read` returns; with `wait` as soon as it is not the one that the request has.

    Reads at intervals, each with a deadline of its own: what others ask in the meantime is shared. The wait ends when
    the client disconnects, when its token expires, and when the gateway stops.
    """
    longest = min(parse_wait(wait), call.cluster.limits.longest)
    if call.identity.expires:
        longest = min(longest, call.identity.expires - time.time())
    waiting = Deadline.after(longest)
    deadline = call.deadline
    known = known_tags(call)
    while True:
        reader = scheduler()
        response = SharedResponse(call, await read(reader, deadline), reader.age, known)
        left = waiting.left()
        if response.status_code != 304 or not left:
            call.scope.pop(RESUMABLE, None)
            return response
        call.scope[RESUMABLE] = True  # the client asks again: a gateway that stops need not wait for this request
        await reader.wait_for_change(min(LOOK_EVERY, left))
        deadline = Deadline.after(call.cluster.limits.jobs)
