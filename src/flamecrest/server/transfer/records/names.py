"""The id of a transfer, and the paths of its files. No I/O.

The id contains the time of expiry, so that any replica knows it without reading the record.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import string
from dataclasses import dataclass
from typing import Final

PREFIX: Final = "transfer-"
FOLDER: Final = ".flamecrest-transfers"  # in the user's working directory
RECORDS_KEPT: Final = 30 * 24 * 3600  # seconds after the expiry for which record and logs are kept

_LETTERS: Final = string.ascii_lowercase
_TIME_LETTERS: Final = 7  # 26 ** 7 seconds since the epoch
_RANDOM_LETTERS: Final = 19  # 89 bits
_ID: Final = re.compile(rf"{PREFIX}([a-z]{{{_TIME_LETTERS}}})[a-z]{{{_RANDOM_LETTERS}}}")
_KEY: Final = re.compile(rb"key-[0-9a-f]{32}(?:-answer)?")
_FILE: Final = re.compile(
    rb"(transfer-[a-z]{26})\.(?:json|parts|end|lock(?:-[0-9a-f]{32})?|log|err|data|urls|then|job"
    rb"|progress(?:-[0-9a-f]{16})?)"
)


def new_id(expires: int) -> str:
    """A new id of a transfer that expires then (seconds since the epoch)."""
    return PREFIX + _letters(expires, _TIME_LETTERS) + "".join(secrets.choice(_LETTERS) for _ in range(_RANDOM_LETTERS))


def id_of(expires: int, *what: str) -> str:
    """The id of a transfer that is identified by some texts: those with the same texts differ in their times only."""
    digest = hashlib.sha256("\0".join(what).encode("utf-8", "surrogatepass")).digest()
    return PREFIX + _letters(expires, _TIME_LETTERS) + _letters(int.from_bytes(digest), _RANDOM_LETTERS)


def identity(transfer: str) -> str:
    """The part of an id that does not depend on the time."""
    return transfer[-_RANDOM_LETTERS:]


def is_same(transfer: str, other: str) -> bool:
    """Whether two ids were made of the same texts."""
    return identity(transfer) == identity(other)


def _letters(number: int, count: int) -> str:
    """The last digits of a number, in base 26."""
    digits = ""
    for _ in range(count):
        number, digit = divmod(number, 26)
        digits = _LETTERS[digit] + digits
    return digits


def is_transfer_id(text: str) -> bool:
    """Whether a job id is that of a transfer through the gateway. No scheduler has such ids."""
    return _ID.fullmatch(text) is not None


def expiry(transfer: str) -> int:
    """The time of expiry in an id, in seconds since the epoch. Raises ValueError for another text."""
    found = _ID.fullmatch(transfer)
    if found is None:
        raise ValueError("no id of a transfer")
    seconds = 0
    for letter in found[1]:
        seconds = seconds * 26 + _LETTERS.index(letter)
    return seconds


def transfer_of(name: bytes) -> str | None:
    """The id of the transfer that a file in the folder of records belongs to; None for any other file."""
    found = _FILE.fullmatch(name)
    return None if found is None else found[1].decode()


def is_key(name: bytes) -> bool:
    """Whether a file in the folder of records is that of an idempotency key, or of the answer: see answers.py."""
    return _KEY.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class RecordFiles:
    """The paths of the files of one transfer, in the folder of records."""

    folder: bytes
    transfer: str

    @property
    def record(self) -> bytes:
        return self._path(b".json")

    @property
    def parts(self) -> bytes:
        """One line for each part: see slots.py."""
        return self._path(b".parts")

    @property
    def end(self) -> bytes:
        """How the transfer has ended. It is created exclusively, so a transfer ends once."""
        return self._path(b".end")

    @property
    def progress(self) -> bytes:
        """How far the transfer is. It is replaced by a file with this name, `-` and 16 hexadecimal digits."""
        return self._path(b".progress")

    @property
    def then(self) -> bytes:
        """The job that is submitted when the transfer is complete."""
        return self._path(b".then")

    @property
    def job(self) -> bytes:
        """The id of that job, or why it was refused."""
        return self._path(b".job")

    @property
    def lock(self) -> bytes:
        return self._path(b".lock")

    @property
    def log(self) -> bytes:
        return self._path(b".log")

    @property
    def errors(self) -> bytes:
        return self._path(b".err")

    @property
    def urls(self) -> bytes:
        """Presigned URLs that a job reads. Only its user may read the file."""
        return self._path(b".urls")

    @property
    def base(self) -> str:
        """The path of all these files without their suffixes."""
        return os.fsdecode(self._path(b""))

    @property
    def data(self) -> bytes:
        """The data of an upload whose target's folder takes no new file."""
        return self._path(b".data")

    def _path(self, suffix: bytes) -> bytes:
        return self.folder + b"/" + self.transfer.encode() + suffix


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """A user's directory for logs and records, as it is used for one cluster.

    Each cluster has its own folder of records, since clusters may share a file system: they would take each other's
    jobs of the same number for the jobs of their transfers.
    """

    path: str
    cluster: str

    @property
    def records(self) -> bytes:
        """The path of the folder of records."""
        return os.fsencode(self.path) + b"/" + FOLDER.encode() + b"/" + self.cluster.encode()


def data_beside(folder: bytes, transfer: str) -> bytes:
    """The path of an upload's data beside its target, in a form that the sweep of resumable uploads knows."""
    number = 0
    for letter in transfer[-_RANDOM_LETTERS:]:
        number = number * 26 + _LETTERS.index(letter)
    return folder.rstrip(b"/") + b"/.flamecrest-upload-" + b"%08x%024x" % (expiry(transfer), number)
