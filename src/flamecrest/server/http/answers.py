"""Answers made once, straight to bytes: no second validation by the framework; knows no route.

What a route declares as its model and what is sent here are held together by the tests, which validate every answer
against the model of its route.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from starlette.responses import Response

from flamecrest.server.files import Entry, Stat
from flamecrest.server.telemetry import dumps
from flamecrest.wire.text import is_plain, percent_encode

_SLICE: Final = 2000  # entries of a listing that are written between two turns of the event loop


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


def _plain_shape(entry: Entry) -> dict[str, str | None]:
    return {
        "name": entry.name,
        "type": entry.kind,
        "linkTarget": entry.link_target,
        "user": entry.user,
        "group": entry.group,
        "permissions": entry.permissions,
        "lastModified": entry.modified,
        "size": str(entry.size),
    }


def entry_shape(entry: Entry) -> dict[str, str | None]:
    """A File; percent-encoded when its name or what it points to is not UTF-8."""
    shape = _plain_shape(entry)
    target = entry.link_target
    if not is_plain(entry.name) or (target is not None and not is_plain(target)):
        shape["name"] = percent_encode(entry.name)
        shape["linkTarget"] = None if target is None else percent_encode(target)
        shape["encoding"] = "percent"
    return shape


def _entries(entries: Sequence[Entry]) -> bytes:
    """The inside of a JSON list of Files. Names that are not UTF-8 are rare: only they cost a second look."""
    try:
        return orjson.dumps([_plain_shape(entry) for entry in entries])[1:-1]
    except TypeError:
        return dumps([entry_shape(entry) for entry in entries])[1:-1]


async def listing(entries: Sequence[Entry]) -> Response:
    """A list of Files, however long: others get their turn while it is written."""
    parts = []
    for start in range(0, len(entries), _SLICE):
        if start:
            await asyncio.sleep(0)
        parts.append(_entries(entries[start : start + _SLICE]))
    return Response(b'{"output":[' + b",".join(parts) + b"]}", media_type="application/json")
