"""Lists of parts, as clients send them to complete an upload, and what else a body can be."""

from __future__ import annotations

import pytest

from flamecrest.server.errors import Invalid
from flamecrest.server.http.transfer.multipart_xml import parse_parts

MD5 = "0123456789abcdef0123456789abcdef"


def part(number: int, etag: str = MD5) -> str:
    return f'<Part><ETag>"{etag}"</ETag><PartNumber>{number}</PartNumber></Part>'


def document(inner: str) -> bytes:
    return f"<CompleteMultipartUpload>{inner}</CompleteMultipartUpload>".encode()


def test_parts_are_found_with_what_clients_add() -> None:
    checksum = f"<ChecksumSHA256>{'a' * 44}</ChecksumSHA256></Part>"
    more = part(2, MD5.upper()).replace("</Part>", checksum).replace('"', "&quot;")
    assert parse_parts(document(part(1) + more)) == {1: MD5, 2: MD5}
    assert parse_parts(b" \n") is None


@pytest.mark.parametrize(
    "body",
    [
        b"<a>" * 9 + b"</a>" * 9,
        document("<Part>" + "<a>" * 600_000),  # not well-formed at its end, which is not reached
        document("<Part><ETag>" + "x<a/>" * 700_000),
        document("<Part><ETag>" + "x" * 1025 + "</ETag></Part>"),
    ],
    ids=["nested", "nested deeply", "text in pieces", "long text"],
)
def test_what_takes_long_to_parse_is_refused_before_its_end(body: bytes) -> None:
    with pytest.raises(Invalid, match=r"nested too deeply|too much text"):
        parse_parts(body)
