"""Byte ranges (RFC 9110, section 14): the Range header, and multipart/byteranges bodies. Pure."""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MAX_RANGES: Final = 64  # a request with more gets the whole file
MAX_HEADER: Final = 4096  # bytes
_SPEC: Final = re.compile(r"[ \t]*(?:(\d+)-(\d*)|-(\d+))[ \t]*", re.ASCII)
_BEYOND: Final = 10**19  # longer than any file


class UnsatisfiableRange(Exception):
    """None of the ranges overlaps the file."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from `start` to `end`, exclusive."""

    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start

    def content_range(self, whole: int) -> str:
        """The value of Content-Range."""
        return f"bytes {self.start}-{self.end - 1}/{whole}"


def parse_range(header: str, size: int) -> list[ByteRange]:
    """The ranges that a Range header requests of a file of `size` bytes, in its order; empty: the whole file.

    A header that is invalid, or whose ranges are longer than the file together, is ignored, as the RFC allows.
    Raises UnsatisfiableRange.
    """
    unit, equals, text = header.partition("=")
    if not equals or unit.strip().lower() != "bytes" or len(header) > MAX_HEADER:
        return []
    specs = [spec for spec in text.split(",") if spec.strip()]
    found = [_SPEC.fullmatch(spec) for spec in specs]
    if not found or len(found) > MAX_RANGES:
        return []
    spans = []
    for match in found:
        if match is None:
            return []
        first, last, suffix = (None if digits in {None, ""} else _number(digits) for digits in match.groups())
        if suffix is not None:
            span = ByteRange(max(0, size - suffix), size)
        else:
            start = first or 0
            if last is not None and last < start:
                return []
            span = ByteRange(start, size if last is None else min(last + 1, size))
        if span.start < span.end:
            spans.append(span)
    if not spans:
        raise UnsatisfiableRange
    return spans if sum(span.size for span in spans) <= size else []


def _number(digits: str) -> int:
    digits = digits.lstrip("0") or "0"
    return _BEYOND if len(digits) > 19 else int(digits)


class MultipartRanges:
    """A multipart/byteranges body: the bytes before each part and after the last."""

    def __init__(self, spans: Sequence[ByteRange], whole: int, content_type: str) -> None:
        boundary = secrets.token_hex(16)  # 128 random bits do not occur in the file
        self.content_type = f"multipart/byteranges; boundary={boundary}"
        self.heads = [
            f"\r\n--{boundary}\r\nContent-Type: {content_type}\r\n"
            f"Content-Range: {span.content_range(whole)}\r\n\r\n".encode("ascii")
            for span in spans
        ]
        self.tail = f"\r\n--{boundary}--\r\n".encode("ascii")
        self.size = sum(map(len, self.heads)) + sum(span.size for span in spans) + len(self.tail)
