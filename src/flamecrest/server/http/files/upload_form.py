"""Reads an upload form (multipart/form-data) and passes on the content of its file while the form arrives.

Memory is bounded: only one chunk of the request is held at a time. The chunks that the Files port reads end only
after the whole form was valid. Any error is raised from the chunks, and the port then leaves the file unchanged.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from flamecrest.server.errors import Field, GatewayError, Invalid, NotFound, TooLarge
from flamecrest.server.files.paths import NAME_MAX, IsFolder
from flamecrest.server.http.core.request_body import RequestBody, declared_length
from flamecrest.server.http.headers.content_disposition import file_name, parse_parameters

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request

FIELD: Final = "file"
OTHER_BYTES: Final = 1024 * 1024  # of other fields, headers and boundaries together
HEADER_BYTES: Final = 16384  # of one part; a name of 255 bytes may be percent-encoded and given twice

_LINE: Final = rb"[A-Za-z][A-Za-z0-9-]{0,40}: [!-~][^\r\n\0]{0,1000}"
_PLAIN_HEADERS: Final = re.compile(rb"%s(?:\r\n%s){0,2}" % (_LINE, _LINE))


def _invalid(message: str) -> Invalid:
    return Invalid(f"`{FIELD}` {message}", fields=(Field("body", FIELD, message),))


def _too_large(limit: int) -> TooLarge:
    message = f"at most {limit} bytes can be uploaded directly"
    return TooLarge(f"The file is too large: {message}", fields=(Field("body", FIELD, message),))


class UploadFormReader:
    """The file in the form of one request. `timeout` (seconds) applies to each chunk, `limit` (bytes) to the file."""

    def __init__(self, request: Request, limit: int | None, *, timeout: float) -> None:
        if limit is not None and declared_length(request.headers) > limit + OTHER_BYTES:
            raise _too_large(limit)
        self._body = RequestBody(request, timeout=timeout)
        self._form = _Form(_boundary(request.headers.get("content-type", "")), limit)
        self._parser: MultipartParser | None = None  # until it is needed

    async def name(self) -> str:
        """Read up to the first byte of the file and return its name. Raises Invalid and the errors of the body."""
        while self._form.name is None and await self._read():
            pass
        if self._form.name is None:
            raise _invalid("Field required")
        return self._form.name

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The content of the file. Raises Invalid, TooLarge and the errors of the body."""
        while True:
            pieces, self._form.pieces = self._form.pieces, []
            for piece in pieces:
                yield piece
            if not await self._read():
                break

    async def _read(self) -> bool:
        """Parse the next chunk of the body; False at its end."""
        chunk = await self._body.next_chunk()
        if chunk is None:
            if not self._form.ended:
                raise _invalid("the form ends before its last boundary")
            return False
        whole = self._body.complete and self._body.received == len(chunk)
        if not (whole and self._form.take(chunk)):
            self._parse(chunk)
        if self._body.received - self._form.size > OTHER_BYTES + len(chunk):
            raise TooLarge("The form has too much beside its file")
        return True

    def _parse(self, chunk: bytes) -> None:
        form = self._form
        if self._parser is None:
            self._parser = MultipartParser(
                form.boundary,
                {
                    "on_part_begin": form.headers.clear,
                    "on_header_field": form.on_header_field,
                    "on_header_value": form.on_header_value,
                    "on_header_end": form.on_header_end,
                    "on_headers_finished": form.on_headers,
                    "on_part_data": form.on_data,
                    "on_part_end": form.on_part_end,
                    "on_end": form.on_end,
                },
                max_header_size=HEADER_BYTES,
            )
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise _invalid("is in a form with invalid boundaries or headers") from None


def misplaced(error: IsFolder | NotFound, target: str) -> GatewayError:
    """The same error of the file at `target`, which says what the path of such a form must be."""
    if isinstance(error, IsFolder):
        advice = f"Give the file another name; to put it into that folder, send path={target}"
        return IsFolder(f"upload: {target}: Is a directory. {advice}")
    folder = posixpath.dirname(target)
    return NotFound(f"{error.public}. `path` must be the folder for the file, and it must exist: {folder}")


@dataclass(slots=True)
class _Form:
    """What has come of a form. It does not know its parser, which knows it: a request is freed when it has ended."""

    boundary: bytes
    limit: int | None
    name: str | None = None
    size: int = 0  # bytes of the file
    pieces: list[bytes] = field(default_factory=list)  # of the file, not taken yet
    ended: bool = False
    inside: bool = False  # in the part of the file
    headers: dict[bytes, bytes] = field(default_factory=dict)
    header_name: bytearray = field(default_factory=bytearray)
    header_value: bytearray = field(default_factory=bytearray)

    def take(self, form: bytes) -> bool:
        """Take a form that came whole and has one plain part, as nearly all small ones; False for any other.

        The parser looks at every byte of boundaries and headers: it would take longer than all else here.
        """
        boundary = b"--" + self.boundary
        begin, end = boundary + b"\r\n", b"\r\n" + boundary + b"--\r\n"
        if not (form.startswith(begin) and form.endswith(end)):
            return False
        head, blank, content = form[len(begin) : -len(end)].partition(b"\r\n\r\n")
        if not blank or b"\r\n" + boundary in content or _PLAIN_HEADERS.fullmatch(head) is None:
            return False
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b": ")
            self.headers[name.lower()] = value
        self.on_headers()
        if content:
            self.on_data(content, 0, len(content))
        self.inside, self.ended = False, True
        return True

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self.header_name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self.header_value += data[start:end]

    def on_header_end(self) -> None:
        self.headers[bytes(self.header_name).lower()] = bytes(self.header_value)
        self.header_name.clear()
        self.header_value.clear()

    def on_headers(self) -> None:
        try:
            kind, given = parse_parameters(self.headers.get(b"content-disposition", b""))
            if kind != b"form-data" or given.get(b"name") != FIELD.encode():
                return
            name = file_name(given)
        except ValueError as error:
            raise _invalid(f"has an invalid Content-Disposition: {error}") from None
        if self.name is not None:
            raise _invalid("must be given once only")
        self.name = _checked(name)
        self.inside = True

    def on_data(self, data: bytes, start: int, end: int) -> None:
        if self.inside:
            self.size += end - start
            if self.limit is not None and self.size > self.limit:
                raise _too_large(self.limit)
            self.pieces.append(data[start:end])

    def on_part_end(self) -> None:
        self.inside = False

    def on_end(self) -> None:
        self.ended = True


def _boundary(content_type: str) -> bytes:
    """The boundary of the form. Raises Invalid if the body is no form."""
    try:
        kind, given = parse_parameters(content_type.encode("latin-1"))
    except ValueError:
        kind, given = b"", {}
    boundary = given.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 200:
        raise _invalid("must be sent as multipart/form-data")
    return boundary


def _checked(name: str | None) -> str:
    """Return the file name if it is valid, without directories."""
    if not name:
        raise _invalid("must have a file name")
    if "/" in name or "\0" in name or name in {".", ".."}:
        raise _invalid("must have a plain file name: no `/`, not `.` or `..`")
    if len(name.encode("utf-8", "surrogateescape")) > NAME_MAX:
        raise _invalid(f"must have a file name of at most {NAME_MAX} bytes")
    return name
