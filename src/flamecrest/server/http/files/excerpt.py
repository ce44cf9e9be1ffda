"""The part of a text that head, tail and view show: its parameters, its fields in the response, and the response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from flamecrest.server.errors import Invalid
from flamecrest.server.files.values import TextRange
from flamecrest.server.http.core.responses import JsonResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flamecrest.server.http.core.route import Call

_DEFAULT_LINES: Final = 10
_LARGE: Final = 64 * 1024  # characters that are encoded in a turn of the user's


async def text_response(
    call: Call, read: Callable[[], Awaitable[str]], limit: int, show: Callable[[str], dict[str, Any]]
) -> JsonResponse:
    """The response that shows what `read` returns, at most `limit` bytes of a file. Raises Timeout.

    It is in memory until the client has read it, mostly as large as the text, at most six times (control characters).
    """
    users, scope = call.scope["app"].users, call.scope
    async with call.deadline.enforce("Waiting until other responses are read"):
        await users.memory.reserve(scope, 2 * limit)
    text = await read()
    if len(text) <= _LARGE:
        users.memory.settle(scope, 0)
        return JsonResponse(show(text))
    async with users.turn(scope):
        response = JsonResponse(show(text))
    users.memory.settle(scope, len(response.body))
    return response


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The first or last `count` bytes or lines of a file; with `skip` all but these. `limit` is in bytes."""

    count: int
    unit: Literal["bytes", "lines"]
    skip: bool
    limit: int
    default: bool

    @classmethod
    def of(cls, count_bytes: int | None, count_lines: int | None, *, skip: bool, limit: int) -> Excerpt:
        """Make it from the parameters; raises Invalid. Without a number: 10 lines, nothing skipped."""
        if count_bytes is not None and count_lines is not None:
            raise Invalid("Only one of `bytes` or `lines` can be specified.")
        if count_bytes is not None:
            return cls(count_bytes, "bytes", skip, limit, default=False)
        if count_lines is not None:
            return cls(count_lines, "lines", skip, limit, default=False)
        return cls(_DEFAULT_LINES, "lines", skip=False, limit=limit, default=True)

    @property
    def text_range(self) -> TextRange:
        """The argument of FileQueries.head and FileQueries.tail."""
        return TextRange(self.count, self.limit, self.unit, self.skip)

    def head_response(self, content: str) -> dict[str, Any]:
        """The response of head. The end is negative if it is skipped: it counts from the end of the file."""
        return self._response(content, 0, -self.count if self.skip else self.count)

    def tail_response(self, content: str) -> dict[str, Any]:
        """The response of tail. Without a number the start is 10, not -10, as in FirecREST."""
        return self._response(content, self.count if self.skip or self.default else -self.count, -1)

    def _response(self, content: str, start: int, end: int) -> dict[str, Any]:
        return {
            "output": {
                "content": content,
                "contentType": self.unit,
                "startPosition": start,
                "endPosition": end,
            }
        }


def view_slice(offset: int | None, size: int | None, limit: int) -> tuple[int, int]:
    """Offset and size of a view; raises Invalid with FirecREST's messages. Without a size it is `limit`."""
    start, length = offset or 0, limit if size is None else size
    if not 0 <= start < 2**63:
        raise Invalid("`offset` value must be an integer value equal or greater than 0")
    if length <= 0:
        raise Invalid("`size` value must be an integer value greater than 0")
    if length > limit:
        raise Invalid(f"`size` value must be less than {limit} bytes")
    return start, length
