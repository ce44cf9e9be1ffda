"""Content-Disposition: headers of common clients, and malformed ones."""

from __future__ import annotations

import os
import re
from email.message import Message

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.http.headers.content_disposition import attachment_header, file_name, parse_parameters


def name_in(header: bytes) -> str | None:
    return file_name(parse_parameters(header)[1])


def as_httpx(name: str) -> bytes:
    """The header httpx sends for a file of that name."""
    request = httpx.Request("POST", "http://x", files={"file": (name, b"")})
    return request.read().split(b"Content-Disposition: ")[1].split(b"\r\n")[0]


def as_browser(name: str) -> bytes:
    """What the HTML standard has browsers send (requests does the same): three characters escaped, no others."""
    escaped = name.replace('"', "%22").replace("\n", "%0A").replace("\r", "%0D")
    return b'form-data; name="file"; filename="' + escaped.encode("utf-8", "surrogateescape") + b'"'


NAMES = [
    "plain.txt", "with space", 'quo"te', "back\\slash", "\\", "end\\", '\\"', "semi;colon", "a=b", "caf\u00e9",
    "tab\there",     "new\nline", "cr\rlf", "100%", "%41", "'", "a;filename=b", 'x"; filename="y', "\U0001f4a9",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_from_httpx(name: str) -> None:
    assert name_in(as_httpx(name)) == name


@pytest.mark.parametrize("name", [*NAMES, "\udcff"])
def test_names_from_browsers_and_requests(name: str) -> None:
    if "\\\\" not in name and not name.endswith("\\") and '\\"' not in name:
        assert name_in(as_browser(name)) == name


@given(st.binary(max_size=60))
def test_exact_names(raw: bytes) -> None:
    escaped = "".join(f"%{byte:02x}" for byte in raw).encode()
    header = b"form-data; filename=\"other\"; filename*=utf-8'en'" + escaped + b"; name=file"
    name = name_in(header)
    assert name is not None
    assert os.fsencode(name) == raw
    assert parse_parameters(header)[1][b"name"] == b"file"


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (b"form-data; name=file; filename=token", "token"),
        (b"form-data;name=file;filename=a b ", "a b"),
        (b'FORM-DATA ; NAME=file ; FileName = "x" ', "x"),
        (b'form-data; name=file;; filename="x";', "x"),
        (b"form-data; name=file", None),
        (b"form-data", None),
        (b"", None),
        (b'form-data; filename=""', ""),
        (b"form-data; filename=", ""),
        (b"form-data; filename*=ISO-8859-1''caf%E9", "caf\u00e9"),
        (b'form-data; filename="\xff"', "\udcff"),
    ],
)  # fmt: skip
def test_forms_of_the_header(header: bytes, name: str | None) -> None:
    assert name_in(header) == name


@pytest.mark.parametrize(
    "header",
    [
        b'form-data; filename="open',
        b'form-data; filename="a" b',
        b"form-data; filename",
        b"form-data; =x",
        b"form-data; filename=a; filename=b",
        b"form-data; filename*=utf-7''x",
        b"form-data; filename*=x",
        b'form-data; filename="a\\"',
    ],
)
def test_malformed_headers(header: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        name_in(header)


@given(st.binary(max_size=200))
def test_any_header_is_parsed_or_a_value_error(header: bytes) -> None:
    try:
        name_in(b"form-data;" + header)
    except UnicodeError:
        raise
    except ValueError:
        pass


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50))
def test_other_parsers_read_our_header(name: str) -> None:
    header = attachment_header(name)
    assert header.isascii()
    assert header.isprintable()
    message = Message()
    message["content-disposition"] = header
    plain, exact = header.split("filename*=UTF-8''")
    assert plain.count('"') == 2
    assert name_in(header.encode()) == name
    assert message.get_content_disposition() == "attachment"
    assert re.fullmatch("(?:[A-Za-z0-9._~-]|%[0-9A-F]{2})+", exact)
