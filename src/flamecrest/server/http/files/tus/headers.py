"""Parses the headers of tus requests. Knows no route and no upload."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException

from flamecrest.server.errors import Field, Invalid
from flamecrest.server.files.paths import NAME_MAX
from flamecrest.server.files.resumable.port import CHECKSUM_ALGORITHMS, PieceChecksum

if TYPE_CHECKING:
    from starlette.datastructures import Headers

VERSION: Final = "1.0.0"
CONTENT_TYPE: Final = "application/offset+octet-stream"
METADATA_BYTES: Final = 16384
MAX_FILE_SIZE: Final = 2**63 - 1  # bytes

_NUMBER: Final = re.compile(r"[0-9]{1,19}", re.ASCII)
_KEY: Final = re.compile(r"[!-+\--~]+", re.ASCII)  # printable ASCII without space and comma
_DIGEST_BYTES: Final = {"sha1": 20, "sha256": 32, "md5": 16}


def invalid_header(name: str, message: str) -> Invalid:
    """The error for an invalid header."""
    return Invalid(f"`{name}` {message}", fields=(Field("header", name, message),))


class TusHeaders:
    """The tus headers of one request. All methods raise Invalid for an invalid header."""

    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    def one(self, name: str) -> str | None:
        """The value of a header that may be given once."""
        given = self._headers.getlist(name)
        if len(given) > 1:
            raise invalid_header(name, "must be given once only")
        return given[0].strip() if given else None

    def version(self) -> None:
        """Check the protocol version; raises HTTPException 412."""
        if self.one("Tus-Resumable") != VERSION:
            raise HTTPException(412, f"Tus-Resumable must be {VERSION}", {"Tus-Version": VERSION})
        if "upload-concat" in self._headers:
            raise invalid_header("Upload-Concat", "is not supported: uploads cannot be concatenated")

    def content_type(self) -> None:
        """Check that the body is content of an upload; raises HTTPException 415."""
        if self.one("Content-Type") != CONTENT_TYPE:
            raise HTTPException(415, f"Content-Type must be {CONTENT_TYPE}")

    def offset(self) -> int:
        """The position of the body's first byte in the file."""
        found = self._number("Upload-Offset")
        if found is None:
            raise invalid_header("Upload-Offset", "Field required")
        return found

    def length(self, *, new: bool = False) -> int | None:
        """The length of the whole file; a new upload must give it or defer it."""
        found, later = self._number("Upload-Length"), self.one("Upload-Defer-Length")
        if later not in {None, "1"}:
            raise invalid_header("Upload-Defer-Length", "must be 1")
        if new and (found is None) == (later is None):
            raise invalid_header("Upload-Length", "must be given, or Upload-Defer-Length, and not both")
        return found

    def checksum(self) -> PieceChecksum | None:
        """The expected checksum of the body."""
        given = self.one("Upload-Checksum")
        if given is None:
            return None
        algorithm, _, text = given.partition(" ")
        if algorithm not in CHECKSUM_ALGORITHMS:
            raise invalid_header("Upload-Checksum", f"must name one of {', '.join(CHECKSUM_ALGORITHMS)}")
        digest = _decoded(text)
        if digest is None or len(digest) != _DIGEST_BYTES[algorithm]:
            raise invalid_header("Upload-Checksum", f"must hold a {algorithm} digest in base64")
        return PieceChecksum(algorithm, digest)

    def _number(self, name: str) -> int | None:
        given = self.one(name)
        if given is None:
            return None
        if not _NUMBER.fullmatch(given) or int(given) > MAX_FILE_SIZE:
            raise invalid_header(name, f"must be a number from 0 to {MAX_FILE_SIZE}")
        return int(given)


def parse_metadata(given: str) -> dict[str, str]:
    """The pairs of Upload-Metadata; values are arbitrary bytes, decoded with os.fsdecode."""
    if len(given) > METADATA_BYTES:
        raise invalid_header("Upload-Metadata", f"must not be longer than {METADATA_BYTES} bytes")
    found: dict[str, str] = {}
    for pair in given.split(",") if given else ():
        key, _, text = pair.strip().partition(" ")
        value = _decoded(text)
        if not _KEY.fullmatch(key) or value is None:
            raise invalid_header(
                "Upload-Metadata", "must be pairs of a name and a value in base64, with commas between"
            )
        if key in found:
            raise invalid_header("Upload-Metadata", f"must have `{key}` once only")
        found[key] = os.fsdecode(value)
    return found


def plain_file_name(given: Mapping[str, str], *, needs_folder: bool = False) -> str:
    """The value of `filename`, which must not contain directories."""
    name = given.get("filename")
    if name is None or needs_folder:
        raise invalid_header("Upload-Metadata", "must have `path`; or `filename`, and the query the folder as `path`")
    if not name or "/" in name or "\0" in name or name in {".", ".."} or len(os.fsencode(name)) > NAME_MAX:
        raise invalid_header("Upload-Metadata", "must have a plain name as `filename`: no `/`, not `.` or `..`")
    return name


def has_content(headers: Headers) -> bool:
    """Whether the request that creates an upload has a body; raises HTTPException 415 if that is no content."""
    if headers.get("content-length", "0").strip("0") == "" and "transfer-encoding" not in headers:
        return False
    TusHeaders(headers).content_type()
    return True


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
