"""PUT of a file: the body is the content; mode, times, digests and conditions are in query and headers.

The chunks that the Files port reads end only after the whole body has matched its digests. Any error is raised from
the chunks, and the port then leaves the file unchanged.
"""

import re
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated, Final

from fastapi import Query
from starlette.exceptions import HTTPException
from starlette.responses import Response

from flamecrest.server.errors import Field, Invalid, PreconditionFailed, TooLarge
from flamecrest.server.files.port import Files
from flamecrest.server.files.values import Stat, WriteOptions
from flamecrest.server.http.core.request_body import RequestBody, declared_length
from flamecrest.server.http.core.route import Call
from flamecrest.server.http.headers.conditions import Outcome, Validators, entity_tags, evaluate, parse_http_date
from flamecrest.server.http.headers.content_disposition import parse_parameters
from flamecrest.server.http.headers.digests import DigestCheck

from .download_plan import WRITE_HEADERS, select_headers

_MODE: Final = re.compile(r"0?[0-7]{1,4}", re.ASCII)
_EPOCH: Final = re.compile(r"(-?\d{1,10})(?:\.\d{1,9})?", re.ASCII)
_MAX_TIME: Final = 2**32 - 1  # SFTP version 3 has 32-bit times

Mode = Annotated[
    str | None,
    Query(
        description="Permission bits in octal, at most 7777; default: those of the replaced file",
        json_schema_extra={"pattern": "^[0-7]{1,5}$"},
    ),
]
ModificationTime = Annotated[
    str | None,
    Query(description="Modification time: seconds since the epoch, ISO 8601 with an offset, or an HTTP date"),
]
Parents = Annotated[bool, Query(description="Create missing parent directories")]

Fsync = Annotated[bool, Query(description="Respond only after the file is on the system's disk (fsync)")]


@dataclass(frozen=True, slots=True)
class FilePut:
    """The upload of one file."""

    call: Call
    mode: str | None
    mtime: str | None
    parents: bool
    fsync: bool

    async def receive(self, files: Files, path: str) -> Response:
        """Receive the body and write the file. On an error nothing has changed."""
        call = self.call
        limits = call.cluster.limits
        given = select_headers(call.scope["headers"], WRITE_HEADERS)
        _refuse_encodings(call.headers)
        _require_length(call)
        check = DigestCheck(given)
        landing = self._landing(given)
        limit = limits.max_ops_file_size
        too_large = partial(TooLarge, f"The file is too large: at most {limit} bytes can be uploaded directly")
        if limit is not None and declared_length(call.headers) > limit:
            raise too_large()
        body = RequestBody(call, timeout=limits.files, limit=limit, too_large=too_large)
        async with aclosing(_checked(body, check)) as content:
            landed = await files.content.upload(path, content, call.deadline, landing)
        headers = {}
        if landed.stat is not None:
            found = Validators.of(landed.stat, time.time(), written=True)
            headers = {"ETag": found.etag} if found.etag is not None else {}
            if (date := found.last_modified) is not None:
                headers["Last-Modified"] = date
        return Response(None, 201 if landed.created else 204, headers)

    def _landing(self, given: Mapping[str, str]) -> WriteOptions:
        def admit(there: Stat | None) -> None:
            found = None if there is None else Validators.of(there, time.time())
            if evaluate(given, found, reading=False) is not Outcome.GO_ON:
                raise PreconditionFailed("The file is not the one that the request's conditions name")

        new = entity_tags(given.get("if-none-match", "")) == ["*"]
        conditions = {name for name in given if name.startswith("if-")} - ({"if-none-match"} if new else set())
        mode = None if self.mode is None else _mode(self.mode)
        mtime = None if self.mtime is None else _time(self.mtime)
        on_condition = admit if conditions else None
        return WriteOptions(
            mode, mtime, self.parents, exclusive=new, precondition=on_condition, report_stat=True, sync=self.fsync
        )


async def _checked(body: RequestBody, check: DigestCheck) -> AsyncGenerator[bytes]:
    """The chunks of the body; ends only if they match the digests. Raises Invalid, and the errors of the body."""
    while (chunk := await body.next_chunk()) is not None:
        check.update(chunk)
        yield chunk
    check.finish()


def _refuse_encodings(headers: Mapping[str, str]) -> None:
    """Raise Invalid for a body that is not the plain content of the file."""
    if "content-range" in headers:
        raise _invalid("header", "content-range", "is not supported: the whole file is written")
    if headers.get("content-encoding", "identity").strip().lower() not in {"identity", ""}:
        raise _invalid("header", "content-encoding", "is not supported: the body must be the content of the file")
    try:
        kind, _ = parse_parameters(headers.get("content-type", "").encode("latin-1"))
    except ValueError:
        return
    if kind == b"multipart/form-data":
        raise _invalid("header", "content-type", "must not be a form: the body is the file itself; forms are for POST")


def _require_length(call: Call) -> None:
    """Raise 411 for a request without a body (RFC 9112, 6.3): it would make the file empty."""
    given = "content-length" in call.headers or "transfer-encoding" in call.headers
    if not given and call.scope["http_version"].startswith("1"):
        raise HTTPException(411, "The request has no body. For an empty file send the header `Content-Length: 0`.")


def _mode(text: str) -> int:
    """The permission bits; raises Invalid."""
    if _MODE.fullmatch(text) is None:
        raise _invalid("query", "mode", "must be octal digits, at most 7777, such as 644")
    return int(text, 8)


def _time(text: str) -> int:
    """Seconds since the epoch; raises Invalid."""
    text = text.strip()
    match = _EPOCH.fullmatch(text)
    seconds = int(match[1]) if match is not None else parse_http_date(text)
    if seconds is None:
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            found = None
        if found is None or found.tzinfo is None:
            shapes = "seconds since the epoch, ISO 8601 with an offset from UTC, or an HTTP date"
            raise _invalid("query", "mtime", f"must be {shapes}")
        seconds = int((found - datetime.fromisoformat("1970-01-01T00:00:00Z")).total_seconds())
    if not 0 <= seconds <= _MAX_TIME:
        raise _invalid("query", "mtime", "must lie between 1970 and 2106")
    return seconds


def _invalid(location: str, name: str, message: str) -> Invalid:
    return Invalid(f"`{name}` {message}", fields=(Field(location, name, message),))
