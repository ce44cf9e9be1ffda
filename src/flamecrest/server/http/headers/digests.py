"""Digest fields (RFC 9530): Want-Repr-Digest and Want-Content-Digest, Repr-Digest and Content-Digest.

Pure. Insecure algorithms (md5, sha, crc) are not supported.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import Final, Literal

from flamecrest.server.errors import Field, Invalid

DigestName = Literal["sha-256", "sha-512"]

PROGRAMS: Final[Mapping[DigestName, Literal["sha256", "sha512"]]] = {"sha-256": "sha256", "sha-512": "sha512"}
_SIZES: Final = {"sha-256": 32, "sha-512": 64}
_WANTED: Final = re.compile(r"[ \t]*([a-z*][a-z0-9_.*-]*)=(\d{1,2})[ \t]*", re.ASCII)
_GIVEN: Final = re.compile(r"[ \t]*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*={0,2}):[ \t]*", re.ASCII)


def preferred_digest(header: str | None) -> DigestName | None:
    """The supported algorithm that a Want- header prefers; None without one or if the header is invalid."""
    if header is None or len(header) > 1024:
        return None
    best: tuple[int, DigestName] | None = None
    for item in header.split(","):
        match = _WANTED.fullmatch(item)
        if match is None or int(match[2]) > 10:
            return None
        for name in PROGRAMS:
            weight = int(match[2])
            if name == match[1] and weight > 0 and (best is None or weight > best[0]):
                best = weight, name
    return best[1] if best else None


def digest_field(name: DigestName, digest: bytes) -> str:
    """The value of Repr-Digest or Content-Digest."""
    return f"{name}=:{base64.b64encode(digest).decode('ascii')}:"


def compute_digest(name: DigestName, data: bytes) -> bytes:
    """The digest of the data."""
    return hashlib.new(PROGRAMS[name], data).digest()


class DigestCheck:
    """Verifies a body against the digests in the request's headers."""

    def __init__(self, given: Mapping[str, str]) -> None:
        """Read Content-Digest and Repr-Digest, which are equal for a body without encoding. Raises Invalid."""
        self._expected: list[tuple[str, DigestName, bytes]] = []
        for header in ("content-digest", "repr-digest"):
            if (value := given.get(header)) is not None:
                self._expected += [(header, name, digest) for name, digest in _parsed(header, value)]
        self._sums = {name: hashlib.new(PROGRAMS[name]) for _, name, _ in self._expected}

    def update(self, data: bytes) -> None:
        """Add the next chunk of the body."""
        for one in self._sums.values():
            one.update(data)

    def finish(self) -> None:
        """Raise Invalid if the body does not match."""
        for header, name, digest in self._expected:
            if self._sums[name].digest() != digest:
                raise _invalid(header, f"does not match: the {name} of what was received is another")


def _parsed(header: str, value: str) -> list[tuple[DigestName, bytes]]:
    found: list[tuple[DigestName, bytes]] = []
    seen = set()
    for item in value[:4096].split(","):
        match = _GIVEN.fullmatch(item)
        if match is None or match[1] in seen:
            raise _invalid(header, "must be written as in `sha-256=:<base64>:`, each algorithm once")
        seen.add(match[1])
        found += [(name, _decoded(header, name, match[2])) for name in PROGRAMS if name == match[1]]
    if not found:
        raise _invalid(header, f"must name one of {', '.join(PROGRAMS)}")
    return found


def _decoded(header: str, name: DigestName, text: str) -> bytes:
    try:
        digest = base64.b64decode(text, validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != _SIZES[name]:
        raise _invalid(header, f"holds no {name}: it has {_SIZES[name]} bytes in base64")
    return digest


def _invalid(header: str, message: str) -> Invalid:
    return Invalid(f"`{header}` {message}", fields=(Field("header", header, message),))
