"""Checksums that a client sends with a part, or with the request that completes an upload."""

import base64
import binascii
import hashlib
import hmac
from typing import Final

from starlette.requests import Request

from flamecrest.server.errors import Field, Invalid
from flamecrest.server.http.files.download_plan import select_headers
from flamecrest.server.http.headers.digests import DigestCheck

# S3's own headers, for clients that know them: algorithm and bytes.
_SUMS: Final = {
    "content-md5": ("md5", 16),
    "x-amz-checksum-sha256": ("sha256", 32),
    "x-amz-checksum-sha1": ("sha1", 20),
}
_WHOLE: Final = "x-amz-checksum-sha256"


class PartCheck:
    """Verifies the body of a part against the checksums in the request's headers. Raises Invalid."""

    def __init__(self, request: Request) -> None:
        given = select_headers(request.scope["headers"], (b"content-digest",))
        self._digests = DigestCheck(given) if given else None
        self._sums = [
            (name, _decode(name, request.headers[name], size), hashlib.new(algorithm, usedforsecurity=False))
            for name, (algorithm, size) in _SUMS.items()
            if name in request.headers
        ]

    def update(self, data: bytes) -> None:
        """Add the next chunk of the body."""
        if self._digests is not None:
            self._digests.update(data)
        for _, _, found in self._sums:
            found.update(data)

    def finish(self) -> None:
        """Raise Invalid if the body does not match."""
        if self._digests is not None:
            self._digests.finish()
        for name, expected, found in self._sums:
            if not hmac.compare_digest(found.digest(), expected):
                raise _invalid(name, "does not match what was received")


def whole_sha256(request: Request) -> bytes | None:
    """The SHA-256 that the whole file must have; None if the request has none. Raises Invalid."""
    given = request.headers.get(_WHOLE)
    return None if given is None else _decode(_WHOLE, given, 32)


def _decode(name: str, text: str, size: int) -> bytes:
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != size:
        raise _invalid(name, f"must hold {size} bytes in base64")
    return digest


def _invalid(name: str, message: str) -> Invalid:
    return Invalid(f"`{name}` {message}", fields=(Field("header", name, message),))
