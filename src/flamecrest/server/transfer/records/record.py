"""The record of a transfer of any method: what it is, and how it has ended.

Its JSON is in files of the user's, so it is checked. Paths in it are used with the user's permissions only. No I/O.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, get_args

from flamecrest.server.errors import Conflict

MAX_RECORD: Final = 64 * 1024  # bytes

Method = Literal[
    "direct", "s3", "streamer", "wormhole", "mv", "cp", "rm", "compress", "extract", "sync", "copy"
]  # fmt: skip
Direction = Literal["upload", "download", "internal"]  # internal: within the centre
EndState = Literal["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"]
_METHODS: Final = get_args(Method)
_DIRECTIONS: Final = get_args(Direction)
_ENDS: Final = get_args(EndState)
_TEXTS: Final = ("path", "target", "data", "job_id", "key")
_NUMBERS: Final = ("created", "size")
_GREATEST: Final = 2**64 - 1  # the identity of a file


class DamagedRecord(Conflict):
    """The record of a transfer cannot be used: not read, or it names what is not its user's."""


@dataclass(frozen=True, slots=True)
class Record:
    """A transfer. It is written once."""

    method: Method
    direction: Direction
    path: str  # as in the request; of mv, cp, compress, extract, sync and copy the source
    created: int  # seconds since the epoch
    size: int = 0  # bytes; 0 if it is not known
    target: str = ""  # the path that is written, with links resolved; empty: none on this cluster
    data: str = ""  # the path of a file that is removed if the transfer does not succeed
    job_id: str = ""  # the scheduler's job, which has the state of a transfer without an end of its own
    key: str = ""  # what the method calls the data, such as the key of an object
    details: Mapping[str, str | int] = field(default_factory=dict)  # of the method

    def packed(self) -> bytes:
        """The content of the file."""
        return _dump(asdict(self))

    @classmethod
    def parse(cls, data: bytes) -> Record:
        """Parse the file. Raises Conflict if it is damaged. The method checks `details`."""
        given = _load(data)
        details = given.get("details")
        if (
            given.get("method") not in _METHODS
            or given.get("direction") not in _DIRECTIONS
            or set(given) != set(cls.__slots__)
            or not all(is_text(given[name]) for name in _TEXTS)
            or not all(is_number(given[name]) for name in _NUMBERS)
            or not isinstance(details, dict)
            or not all(is_text(value) or is_number(value) for value in details.values())
        ):
            raise damaged()
        return cls(**given)


@dataclass(frozen=True, slots=True)
class End:
    """How a transfer has ended. It is written once."""

    state: EndState
    at: int  # seconds since the epoch
    etag: str = ""  # upload that was completed
    sha256: str = ""  # of the file, if it was verified; hexadecimal digits
    error: str = ""  # the reason of a failure
    line: str = ""  # the last line of the log, without its time

    def packed(self) -> bytes:
        """The content of the file."""
        return _dump(asdict(self))

    @classmethod
    def parse(cls, data: bytes) -> End:
        """Parse the file. Raises Conflict if it is damaged."""
        given = _load(data)
        texts = [given.setdefault(name, "") for name in ("etag", "sha256", "error", "line")]
        if (
            given.get("state") not in _ENDS
            or not is_number(given.get("at"))
            or not all(is_text(text) for text in texts)
            or not given["etag"].isascii()
        ):
            raise damaged()
        return cls(**{name: given[name] for name in cls.__slots__})


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a transfer is. It is replaced again and again by the one that works on the transfer."""

    at: int  # seconds since the epoch
    done: int = 0  # bytes
    total: int = 0  # bytes; 0 if that is not known
    files: int = 0  # files that were transferred
    job_id: str = ""  # the scheduler's job that does the present step
    upload: str = ""  # of a copy of one file: the upload to the target, which a retry goes on with

    def packed(self) -> bytes:
        """The content of the file."""
        return _dump(asdict(self))

    @classmethod
    def parse(cls, data: bytes) -> Progress:
        """Parse the file. Raises Conflict if it is damaged."""
        given = _load(data)
        numbers = [given.setdefault(name, 0) for name in ("done", "total", "files")]
        numbers.append(given.get("at"))
        texts = [given.setdefault(name, "") for name in ("job_id", "upload")]
        if not all(is_number(number) for number in numbers) or not all(is_text(text) for text in texts):
            raise damaged()
        return cls(**{name: given[name] for name in cls.__slots__})


def sha256_of(record: Record) -> str:
    """The SHA-256 that an uploaded file must have, in hexadecimal digits; empty: none was given.

    Raises Conflict if the record is damaged.
    """
    given = record.details.get("sha256", "")
    if not isinstance(given, str) or not re.fullmatch(r"(?:[0-9a-f]{64})?", given):
        raise damaged()
    return given


def is_text(value: object) -> bool:
    """Whether a value is a text without NUL."""
    return isinstance(value, str) and "\0" not in value


def is_number(value: object) -> bool:
    """Whether a value is a whole number that is not negative, and has at most 64 bits."""
    return type(value) is int and 0 <= value <= _GREATEST


def damaged() -> DamagedRecord:
    """The error for a record that cannot be used."""
    return DamagedRecord("The record of the transfer was damaged")


def _dump(value: dict[str, Any]) -> bytes:
    # bytes of a path that are not UTF-8 are lone surrogates, which ASCII JSON can hold
    return os.fsencode(json.dumps(value))


def _load(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise damaged()
    return found
