"""Answers made once, straight to bytes: no second validation by the framework; knows no route.

What a route declares as its model and what is sent here are held together by the tests, which validate every answer
against the model of its route.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.responses import Response

from flamecrest.server.files import Entry, Stat
from flamecrest.server.telemetry import dumps
from flamecrest.wire.text import is_plain, percent_encode


def answer(data: Mapping[str, Any], status: int = 200) -> Response:
    """A JSON answer."""
    return Response(dumps(data), status, media_type="application/json")


def done() -> Response:
    """The answer of an operation that has nothing to say."""
    return Response(status_code=204)


def stat_shape(stat: Stat) -> dict[str, int]:
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


def plain_shapes(entries: Iterable[Entry]) -> list[dict[str, str | None]]:
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


def entry_shape(entry: Entry) -> dict[str, str | None]:
    """A File; percent-encoded when its name or what it points to is not UTF-8."""
    (shape,) = plain_shapes((entry,))
    target = entry.link_target
    if not is_plain(entry.name) or (target is not None and not is_plain(target)):
        shape["name"] = percent_encode(entry.name)
        shape["linkTarget"] = None if target is None else percent_encode(target)
        shape["encoding"] = "percent"
    return shape
