"""The XML of S3's CompleteMultipartUpload. Pure.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
"""

from __future__ import annotations

import re
from typing import Final
from xml.parsers.expat import ExpatError, ParserCreate
from xml.sax.saxutils import escape

from flamecrest.server.errors import Invalid

MAX_XML: Final = 4 * 1024 * 1024  # bytes; 10,000 parts have less than 2 MiB

_ETAG: Final = re.compile(r'"?([0-9a-fA-F]{32})"?')
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_DEEPEST: Final = 8  # elements within each other
_LONGEST: Final = 1024  # characters of an element; each more costs the time to copy those before it


class _Reader:
    """Collects the parts while the document is parsed."""

    def __init__(self) -> None:
        self.sums: dict[int, str] = {}
        self._path: list[str] = []
        self._part: dict[str, str] = {}

    def start(self, name: str, _: object) -> None:
        if len(self._path) == _DEEPEST:
            raise _invalid("its elements are nested too deeply")
        self._path.append(name.rpartition(":")[2])
        if len(self._path) == 2:
            self._part = {}

    def text(self, text: str) -> None:
        if len(self._path) == 3:
            found = self._part[self._path[2]] = self._part.get(self._path[2], "") + text
            if len(found) > _LONGEST:
                raise _invalid("an element has too much text")

    def end(self, _: str) -> None:
        path = tuple(self._path)
        self._path.pop()
        if path == ("CompleteMultipartUpload", "Part"):
            number = _NUMBER.fullmatch(self._part.get("PartNumber", "").strip())
            etag = _ETAG.fullmatch(self._part.get("ETag", "").strip())
            if number is None or etag is None or int(number[0]) in self.sums:
                raise _invalid("each Part needs a PartNumber, given once, and the ETag of its upload")
            self.sums[int(number[0])] = etag[1].lower()
        elif len(path) == 1 and path != ("CompleteMultipartUpload",):
            raise _invalid("the document must be a CompleteMultipartUpload")

    def refuse(self, *_: object) -> None:
        raise _invalid("it must not have a document type")


def parse_parts(body: bytes) -> dict[int, str] | None:
    """The MD5s of the parts in hexadecimal digits, by number; None for an empty body. Raises Invalid."""
    if not body.strip():
        return None
    reader, parser = _Reader(), ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = reader.text, reader.refuse
    try:
        parser.Parse(body, True)
    except ExpatError as error:
        raise _invalid(f"it is not XML ({error})") from None
    return reader.sums


def completed(location: str, path: str, etag: str) -> bytes:
    """The response's document."""
    bucket, _, key = path.lstrip("/").partition("/")
    fields = {"Location": location, "Bucket": bucket, "Key": key, "ETag": f'"{etag}"'}
    inner = "".join(f"<{name}>{escape(_plain(text))}</{name}>" for name, text in fields.items())
    space = "http://s3.amazonaws.com/doc/2006-03-01/"
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<CompleteMultipartUploadResult xmlns="{space}">{inner}'
        "</CompleteMultipartUploadResult>"
    ).encode()


def _plain(text: str) -> str:
    """The text without what XML cannot hold: control characters, and bytes that are not UTF-8."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def _invalid(message: str) -> Invalid:
    return Invalid(f"The list of parts is not valid: {message}")
