"""What a resumable upload is called and what is written down about it: pure, bytes in and values out.

An id says where the upload is, so that any replica finds it; it grants nothing: the path in it is checked like every
other path, and what lies there is read and written with the caller's own permissions.
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
MAX_STATE = 64 * 1024  # bytes of a state file; more is none of ours
MAX_ID = 8192  # characters: a path has 4096 bytes at most
_NAME = re.compile(rb"\.flamecrest-upload-([0-9a-f]{8})[0-9a-f]{24}(?:\.json|\.lock(?:-[0-9a-f]{32})?)?")
_HEAD = re.compile(rb"([0-9]{20}) ([0-9]{20}|-{20})\n")
HEAD_SIZE = 42


@dataclass(frozen=True, slots=True)
class UploadKey:
    """An upload's id: the path of the file to be, when it expires, random bits, and the inode that holds its data."""

    path: str
    expires: int  # seconds since the epoch
    nonce: bytes
    inode: int = 0  # 0: not known

    @classmethod
    def new(cls, path: str, expires: int) -> UploadKey:
        """A key that nobody can guess."""
        return cls(path, expires, secrets.token_bytes(12))

    @classmethod
    def parse(cls, text: str) -> UploadKey:
        """Read an id of a URL; NotFound for whatever we have not made."""
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
        """The id as it stands in a URL."""
        numbers = self.expires.to_bytes(4, "big") + self.nonce + self.inode.to_bytes(8, "big")
        return base64.urlsafe_b64encode(numbers + os.fsencode(self.path)).decode("ascii").rstrip("=")

    def beside(self, target: bytes) -> UploadFiles:
        """The files of this upload, beside the file to be."""
        folder = target.rpartition(b"/")[0]
        data = folder + b"/" + PREFIX + self.expires.to_bytes(4, "big").hex().encode() + self.nonce.hex().encode()
        return UploadFiles(target, data, data + b".json", data + b".lock")


@dataclass(frozen=True, slots=True)
class UploadFiles:
    """The files of one upload."""

    target: bytes
    data: bytes
    state: bytes
    lock: bytes

    @property
    def folder(self) -> bytes:
        return self.target.rpartition(b"/")[0] or b"/"


def expired(name: bytes, now: float) -> bool:
    """Whether a directory entry belongs to a resumable upload that has expired: its name says when it does."""
    found = _NAME.fullmatch(name)
    return found is not None and int(found[1], 16) < now


@dataclass(frozen=True, slots=True)
class UploadState:
    """The state file: a line of fixed width that is written anew as bytes arrive, and what never changes."""

    offset: int  # bytes that are known to be on the disk, without a gap
    length: int | None  # None: the client will tell
    mode: int  # of the finished file, where none is replaced
    metadata: str  # Upload-Metadata as it was given

    def head(self) -> bytes:
        """The line that changes."""
        length = b"-" * 20 if self.length is None else b"%020d" % self.length
        return b"%020d %s\n" % (self.offset, length)

    def packed(self) -> bytes:
        """The whole file."""
        return self.head() + json.dumps({"mode": self.mode, "metadata": self.metadata}).encode()

    def with_head(self, line: bytes) -> UploadState:
        """This state as a newer first line has it."""
        found = _HEAD.fullmatch(line)
        if found is None:
            raise Conflict("The upload's state file was damaged", detail="first line")
        length = None if found[2].startswith(b"-") else int(found[2])
        return replace(self, offset=int(found[1]), length=length)

    @classmethod
    def parse(cls, data: bytes) -> UploadState:
        """Read a state file, which anybody may have written; Conflict when it is none."""
        try:
            rest = json.loads(data[HEAD_SIZE:])
            mode, metadata = rest["mode"], rest["metadata"]
        except (ValueError, KeyError, TypeError, RecursionError):
            mode = metadata = None
        if type(mode) is not int or not isinstance(metadata, str) or not metadata.isascii() or "\n" in metadata:
            raise Conflict("The upload's state file was damaged", detail="its JSON")
        if not metadata.isprintable():
            raise Conflict("The upload's state file was damaged", detail="its metadata")
        return cls(0, None, mode & 0o777, metadata).with_head(data[:HEAD_SIZE])
