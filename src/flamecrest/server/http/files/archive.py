"""Responses of bulk/download and bulk/upload. Knows the Bulk port and no adapter."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_from_bytes

from starlette.exceptions import HTTPException
from starlette.responses import Response

from flamecrest.server.deadline import Deadline
from flamecrest.server.files.archives.port import (
    ArchiveFormat,
    Bulk,
    FormatUnavailable,
    PathFailure,
    Selection,
    UnpackResult,
)
from flamecrest.server.telemetry.trace import current_trace
from flamecrest.wire.json import dumps
from flamecrest.wire.text import is_plain, percent_encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Receive, Scope, Send

MEDIA_TYPES: Final[dict[str, ArchiveFormat]] = {
    "application/x-tar": "tar",
    "application/zstd": "zstd",
    "application/gzip": "gzip",
    "application/zip": "zip",
}
ALIASES: Final = {
    "application/tar": "application/x-tar",
    "application/x-gtar": "application/x-tar",
    "application/x-gzip": "application/gzip",
    "application/x-zstd": "application/zstd",
    "application/x-zip-compressed": "application/zip",
}
_SUFFIXES: Final[dict[ArchiveFormat, str]] = {"tar": "tar", "zstd": "tar.zst", "gzip": "tar.gz", "zip": "zip"}
_HEADER_BYTES: Final = 4096  # of X-Flamecrest-Missing-Paths
_BEFORE_MAGIC: Final = re.compile(r"[^*?[]*(?=[*?[])")
_MAGIC: Final = re.compile(r"[*?[]")
_PLAIN: Final = re.compile(r"[^A-Za-z0-9._-]")


def asked_paths(paths: Sequence[str], base: str | None) -> list[str]:
    """What the authorizer is asked about: the base, each path, and of each pattern the folder that it searches."""
    folders = {found[0].rpartition("/")[0] or "/" for path in paths if (found := _BEFORE_MAGIC.match(path))}
    return [*([] if base is None else [base]), *paths, *sorted(folders)]


def searches_folders(paths: Sequence[str]) -> bool:
    """Whether a pattern goes on in folders that it matches (`*/log`), which may be links. `**` follows no links."""
    for path in paths:
        *folders, _ = [part for part in path.split("/") if part not in {"", "."}] or [""]
        first = next((at for at, part in enumerate(folders) if _MAGIC.search(part)), len(folders))
        if any(part != "**" for part in folders[first:]):
            return True
    return False


class ArchiveResponse(Response):
    """Sends a selection of files as an archive, in the first of several media types that the cluster can create."""

    def __init__(self, bulk: Bulk, selection: Selection, types: list[str], deadline: Deadline) -> None:
        super().__init__()
        self._bulk = bulk
        self._selection = selection
        self._types = types
        self._deadline = deadline

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the archive. If it fails half-way the response stays incomplete, which clients notice."""
        async with AsyncExitStack() as stack:
            for media in self._types:
                try:
                    packed = self._bulk.pack(self._selection, MEDIA_TYPES[media], self._deadline)
                    chunks = await stack.enter_async_context(packed)
                except FormatUnavailable:
                    continue
                break
            else:
                raise not_acceptable()
            first = await anext(chunks, b"")
            await send({"type": "http.response.start", "status": 200, "headers": self._headers_for(media)})
            await send({"type": "http.response.body", "body": first, "more_body": True})
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _headers_for(self, media: str) -> list[tuple[bytes, bytes]]:
        missing = self._selection.missing
        name = _PLAIN.sub("_", self._selection.base.rpartition("/")[2]) or "files"
        headers = [
            (b"content-type", media.encode()),
            (b"content-disposition", f'attachment; filename="{name}.{_SUFFIXES[MEDIA_TYPES[media]]}"'.encode()),
            (b"vary", b"Accept"),
            (b"x-flamecrest-missing", b"%d" % len(missing)),
        ]
        if missing:
            headers.append((b"x-flamecrest-missing-paths", _paths(missing)))
        return headers


def not_acceptable() -> HTTPException:
    """The 406 for a request that accepts no media type that can be created."""
    return HTTPException(406, f"The archive can be had as one of: {', '.join(MEDIA_TYPES)} (as far as the cluster can)")


def _paths(missing: tuple[PathFailure, ...]) -> bytes:
    """Percent-encoded paths, separated by commas, as many as fit into the header."""
    parts, left = [], _HEADER_BYTES
    for one in missing:
        part = quote_from_bytes(one.path.encode("utf-8", "surrogateescape")).encode()
        left -= len(part) + 1
        if left < 0:
            break
        parts.append(part)
    return b",".join(parts)


def path_fields(path: str) -> dict[str, str]:
    """The fields of a path in a message: `path`, and `encoding` if it is percent-encoded."""
    return {"path": path} if is_plain(path) else {"path": percent_encode(path), "encoding": "percent"}


def unpack_response(outcome: UnpackResult) -> Response:
    """The response of bulk/upload: 200; or 400, with the same data, if the archive was truncated."""
    facts: dict[str, Any] = {
        "created": outcome.created,
        "failed": [path_fields(one.path) | {"message": one.message} for one in outcome.failed],
        "failures": outcome.failures,
    }
    if outcome.complete:
        return Response(dumps(facts), 200, media_type="application/json")
    trace = current_trace.get()
    envelope = {
        "errorType": "error",
        "message": f"The archive ends before its end mark; {outcome.created} entries were complete and stay",
        "causedBy": None,
        "data": facts,
        "user": trace.user if trace is not None else None,
    }
    return Response(dumps(envelope), 400, media_type="application/json")
