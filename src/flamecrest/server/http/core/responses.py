"""JSON responses, encoded once: the framework's second validation is skipped. Knows no route.

A route declares its response as a wire model; the tests validate every response against the model of its route.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from flamecrest.server.files.values import ListingEntry, Stat
from flamecrest.wire.json import dumps
from flamecrest.wire.text import is_plain, percent_encode

ADDED_HEADERS: Final = (
    "flamecrest.headers"  # key of a scope: the headers that the response to this request has, error or not
)
PAGE: Final = "flamecrest.page"  # key of a scope: the response is a page with a security policy of its own
RESUMABLE: Final = "flamecrest.resumable"  # key of a scope whose response may end at any time: the client resumes it


def add_response_headers(scope: Scope, *headers: tuple[bytes, bytes]) -> None:
    """Add headers to the response that this request will have, an error included."""
    if headers:
        scope.setdefault(ADDED_HEADERS, []).extend(one for one in headers if one not in scope[ADDED_HEADERS])


class JsonResponse(Response):
    """A JSON response. The framework's would encode every header anew."""

    def __init__(self, data: Mapping[str, Any], status: int = 200) -> None:
        try:
            body = orjson.dumps(data)
        except TypeError:  # lone surrogates, or numbers that do not fit
            body = dumps(data)
        self.body = body
        self.status_code = status
        self.background = None
        self.raw_headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the response."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body})


def no_content() -> Response:
    """The response of an operation without a result: 204."""
    return Response(status_code=204)


def file_stat(stat: Stat) -> dict[str, int]:
    """The fields of a wire FileStat."""
    return {
        "mode": stat.mode,
        "ino": stat.ino,
        "dev": stat.dev,
        "nlink": stat.nlink,
        "uid": stat.uid,
        "gid": stat.gid,
        "size": stat.size,
        "atime": stat.atime,
        "ctime": stat.ctime,
        "mtime": stat.mtime,
    }


def plain_file_entries(entries: Iterable[ListingEntry]) -> list[dict[str, str | None]]:
    """The fields of a wire File for each entry; names and link targets must be UTF-8."""
    return [
        {
            "name": name,
            "type": kind,
            "linkTarget": target,
            "user": user,
            "group": group,
            "permissions": permissions,
            "lastModified": modified,
            "size": str(size),
        }
        for name, kind, permissions, user, group, size, modified, target, _ in entries
    ]


def file_entry(entry: ListingEntry) -> dict[str, str | None]:
    """The fields of a wire File; percent-encoded if name or link target are not UTF-8."""
    (fields,) = plain_file_entries((entry,))
    target = entry.link_target
    if not is_plain(entry.name) or (target is not None and not is_plain(target)):
        fields["name"] = percent_encode(entry.name)
        fields["linkTarget"] = None if target is None else percent_encode(target)
        fields["encoding"] = "percent"
    return fields
