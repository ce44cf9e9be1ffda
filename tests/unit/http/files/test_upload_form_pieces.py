"""The result of parsing a form does not depend on how it is split into chunks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hypothesis import example, given
from hypothesis import strategies as st
from starlette.requests import Request

from flamecrest.server.errors import GatewayError
from flamecrest.server.http.files.upload_form import UploadFormReader

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMED = b'Content-Disposition: form-data; name="file"; filename="f"'
FORM = b"--B\r\n" + NAMED + b"\r\n\r\ncontent\r\n--B--\r\n"
HEADERS = st.sampled_from(
    [
        NAMED,
        b"CONTENT-disposition: form-data; name=\"file\"; filename*=UTF-8''%c3%a9",
        b'Content-Disposition: form-data; name="other"',
        b"Content-Type: text/plain",
        b"Content-Type: text/plain ",
        b"Content-Type:text/plain",
        b"Content-Type:  \ttext/plain",
        b"Content-Disposition: ",
        b"X-Y: --B",
        b"--B: x",
        b"X Y: z",
        b": z",
        b"folded",
        b"X: y\0z",
        b"X: \xff\xfe",
        b"X: " + b"y" * 2000,
    ]
)
CONTENT = st.lists(
    st.sampled_from([b"a", b"\r\n", b"--B", b"\r", b"\n", b"-", b"--B--", b"\r\n--B\r\n", NAMED, b"\r\n\r\n"]),
    max_size=6,
).map(b"".join)


def read(pieces: Sequence[bytes]) -> Any:
    """Parse a form that arrives in these chunks: the file name and content, or the error."""

    async def main() -> Any:
        left = list(pieces)

        async def receive() -> dict[str, Any]:
            piece = left.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(left)}

        headers = [(b"content-type", b"multipart/form-data; boundary=B")]
        upload = UploadFormReader(Request({"type": "http", "headers": headers}, receive), 1000, timeout=20)
        try:
            return await upload.name(), b"".join([piece async for piece in upload.chunks()])
        except GatewayError as error:
            return type(error), str(error)

    return asyncio.run(main())


@given(
    st.lists(HEADERS, max_size=4), CONTENT, st.sampled_from([b"--\r\n", b"--", b"--\r\n\r\n", b"--x", b"\r\n", b"x"])
)
@example([NAMED], b"content", b"--\r\n")
@example([NAMED, NAMED], b"", b"--\r\n")
def test_any_form_parses_equally_in_chunks(headers, content, last):
    form = b"--B\r\n" + b"".join(header + b"\r\n" for header in headers) + b"\r\n" + content + b"\r\n--B" + last
    assert read([form]) == read([form[:3], form[3:]])


@given(st.integers(0, len(FORM)), st.sampled_from([b"", b"\r", b"\n", b"-", b"\0", b"B", b" "]), st.integers(0, 3))
def test_damaged_form_parses_equally_in_chunks(at, put, removed):
    form = FORM[:at] + put + FORM[at + removed :]
    if len(form) > 1:
        assert read([form]) == read([form[:1], form[1:]])


def test_valid_form():
    assert read([FORM]) == ("f", b"content")
    assert read([b"", FORM[:30], b"", FORM[30:], b""]) == ("f", b"content")
