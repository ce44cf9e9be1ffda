"""The id and the state file of a resumable upload. No I/O.

The id contains the path, so that any replica finds the upload. It grants no access: its path is checked as every
other path, and files are read and written with the caller's permissions.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import secrets
from dataclasses import dataclass, replace

from flamecrest.server.errors import Conflict, NotFound

PREFIX = b".flamecrest-upload-"
MAX_STATE = 64 * 1024  # bytes; a larger file is not a state file
MAX_ID = 8192  # characters: a path has 4096 bytes at most
_NAME = re.compile(
    rb"\.flamecrest-upload-([0-9a-f]{8})[0-9a-f]{24}(?:-[0-9a-f]{16})?(?:\.json|\.lock(?:-[0-9a-f]{32})?)?"
)
_HEAD = re.compile(rb"([0-9]{20}) ([0-9]{20}|-{20})([\n+])")
_PART = re.compile(r"(?:[0-9a-f]{16})?")
HEAD_SIZE = 42
REMOVED = b"removed\n"  # the whole state file of an upload that was removed after its completion


@dataclass(frozen=True, slots=True)
class UploadKey:
    """The id of an upload: target path, time of expiry, random bits, and the identity of the data file."""

    path: str
    expires: int  # seconds since the epoch
    nonce: bytes
    file: int = 0  # 0: unknown

    @classmethod
    def new(cls, path: str, expires: int) -> UploadKey:
        """Create a key with random bits."""
        return cls(path, expires, secrets.token_bytes(12))

    @classmethod
    def parse(cls, text: str) -> UploadKey:
        """Parse the id in a URL; raises NotFound if it is malformed."""
        try:
            raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError, ValueError):
            raw = b""
        key = cls(os.fsdecode(raw[24:]), int.from_bytes(raw[:4], "big"), raw[4:16], int.from_bytes(raw[16:24], "big"))
        if len(text) > MAX_ID or not key.path or key.text != text:
            raise NotFound("There is no such upload")
        return key

    @property
    def text(self) -> str:
        """The id for a URL."""
        numbers = self.expires.to_bytes(4, "big") + self.nonce + self.file.to_bytes(8, "big")
        return base64.urlsafe_b64encode(numbers + os.fsencode(self.path)).decode("ascii").rstrip("=")

    def beside(self, target: bytes) -> UploadFiles:
        """Return the paths of this upload's files, beside its target."""
        folder = target.rpartition(b"/")[0]
        data = folder + b"/" + PREFIX + self.expires.to_bytes(4, "big").hex().encode() + self.nonce.hex().encode()
        return UploadFiles(target, data, data + b".json", data + b".lock")


@dataclass(frozen=True, slots=True)
class UploadFiles:
    """The paths of one upload's files."""

    target: bytes
    data: bytes
    state: bytes
    lock: bytes

    def of(self, state: UploadState) -> UploadFiles:
        """Return the paths with the data file that the state names."""
        part = b"-" + state.part.encode() if state.part else b""
        return replace(self, data=self.state.removesuffix(b".json") + part)

    @property
    def folder(self) -> bytes:
        return self.target.rpartition(b"/")[0] or b"/"


def expired(name: bytes, now: float) -> bool:
    """Whether a directory entry belongs to an expired upload; the name contains the time of expiry."""
    found = _NAME.fullmatch(name)
    return found is not None and int(found[1], 16) < now


@dataclass(frozen=True, slots=True)
class UploadState:
    """The state file: a line of fixed width that is overwritten as bytes arrive, then constant JSON."""

    offset: int  # bytes that are on disk without a gap
    length: int | None  # None: not declared yet
    mode: int  # of the target if no file is replaced
    metadata: str  # header Upload-Metadata of the client
    writing: bool = False  # a request is writing, or has ended without saying so
    part: str = ""  # of the name of the data file
    file: int = 0  # the identity of a data file with such a part; 0: unknown
    finished: bool = False  # the data is at the target; only kept if the target is not the data file

    def head(self) -> bytes:
        """The first line."""
        length = b"-" * 20 if self.length is None else b"%020d" % self.length
        return b"%020d %s%s" % (self.offset, length, b"+" if self.writing else b"\n")

    def packed(self) -> bytes:
        """The content of the state file."""
        rest: dict[str, object] = {"mode": self.mode, "metadata": self.metadata}
        if self.part:
            rest |= {"part": self.part, "file": self.file}
        if self.finished:
            rest["finished"] = True
        return self.head() + json.dumps(rest).encode()

    def with_head(self, line: bytes) -> UploadState:
        """Return this state with the values of a newer first line."""
        found = _HEAD.fullmatch(line)
        if found is None:
            raise Conflict("The upload's state file was damaged", detail="first line")
        length = None if found[2].startswith(b"-") else int(found[2])
        return replace(self, offset=int(found[1]), length=length, writing=found[3] == b"+")

    @classmethod
    def parse(cls, data: bytes) -> UploadState:
        """Parse a state file; raises Conflict if it is damaged, as the user can write to it."""
        try:
            rest = json.loads(data[HEAD_SIZE:])
            mode, metadata, part, file = rest["mode"], rest["metadata"], rest.get("part", ""), rest.get("file", 0)
            finished = rest.get("finished") is True
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            mode = metadata = part = file = None
            finished = False
        if not isinstance(part, str) or not _PART.fullmatch(part):
            raise Conflict("The upload's state file was damaged", detail="its part")
        if (
            type(mode) is not int
            or type(file) is not int
            or not isinstance(metadata, str)
            or not metadata.isascii()
            or "\n" in metadata
        ):
            raise Conflict("The upload's state file was damaged", detail="its JSON")
        if not metadata.isprintable():
            raise Conflict("The upload's state file was damaged", detail="its metadata")
        return cls(0, None, mode & 0o777, metadata, part=part, file=file, finished=finished).with_head(data[:HEAD_SIZE])
