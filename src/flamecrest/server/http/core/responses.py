"""Answers made once, straight to bytes: no second validation by the framework; knows no route.

What a route declares as its model and what is sent here are held together by the tests, which validate every answer
against the model of its route.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from flamecrest.server.files.values import ListingEntry, Stat
from flamecrest.wire.json import dumps
from flamecrest.wire.text import is_plain, percent_encode


class JsonResponse(Response):
    """A JSON answer that is bytes already. The framework's would encode every header anew."""

    def __init__(self, body: bytes, status: int) -> None:
        self.body = body
        self.status_code = status
        self.background = None
        self.raw_headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body})


def json_response(data: Mapping[str, Any], status: int = 200) -> Response:
    """A JSON answer."""
    return JsonResponse(dumps(data), status)


def no_content() -> Response:
    """The answer of an operation that has nothing to say."""
    return Response(status_code=204)


def file_stat(stat: Stat) -> dict[str, int]:
    """A FileStat."""
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


def plain_files(entries: Iterable[ListingEntry]) -> list[dict[str, str | None]]:
    """A File each, of entries whose names and targets are plain text."""
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


def listed_file(entry: ListingEntry) -> dict[str, str | None]:
    """A File; percent-encoded when its name or what it points to is not UTF-8."""
    (shape,) = plain_files((entry,))
    target = entry.link_target
    if not is_plain(entry.name) or (target is not None and not is_plain(target)):
        shape["name"] = percent_encode(entry.name)
        shape["linkTarget"] = None if target is None else percent_encode(target)
        shape["encoding"] = "percent"
    return shape
