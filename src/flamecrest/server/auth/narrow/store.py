"""Files of narrow tokens in a folder that all replicas share: records, uses and revocations. It knows no signatures.

A token is a folder OWNER/ID with the file `record`. A use is a file that is created exclusively, so that two replicas
cannot count one use twice; `revoked` ends the token. Tokens that have ended are removed when their owner makes another.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

NAME = re.compile(r"[A-Za-z0-9_-]{16,64}", re.ASCII)
_RECORD, _REVOKED, _USE = "record", "revoked", "use-"


@dataclass(frozen=True, slots=True)
class Stored:
    """The files of one token."""

    id: str
    record: bytes
    revoked: bool
    used: int


class TokenFolder:
    """The folder. All methods block. Raises OSError if the folder cannot be read or written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create(self, owner: str, token: str, record: bytes) -> None:
        """Add a token; the record is complete before it can be found."""
        place = self._place(owner, token)
        beside = place.with_name(f".{token}")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.parent.mkdir(mode=0o700, exist_ok=True)  # nobody else reads what is below
        beside.mkdir(mode=0o700)
        with (beside / _RECORD).open("wb") as file:
            file.write(record)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(place)

    def read(self, owner: str, token: str) -> Stored | None:
        """A token; None if there is none."""
        place = self._place(owner, token)
        try:
            record = (place / _RECORD).read_bytes()
            names = [file.name for file in place.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Stored(token, record, _REVOKED in names, sum(name.startswith(_USE) for name in names))

    def owned(self, owner: str) -> list[Stored]:
        """All tokens of an owner."""
        try:
            names = [place.name for place in (self._folder / owner).iterdir()]
        except FileNotFoundError:
            return []
        found = [self.read(owner, name) for name in sorted(names) if NAME.fullmatch(name)]
        return [one for one in found if one is not None]

    def use(self, owner: str, token: str, uses: int, used: int = 0) -> bool:
        """Count a use; False if all `uses` are spent or the token is gone. So many are known to be `used`."""
        place = self._place(owner, token)
        for number in range(used, uses):
            try:
                with (place / f"{_USE}{number:06d}").open("xb"):
                    return True
            except FileExistsError:
                continue
            except FileNotFoundError:
                return False
        return False

    def revoke(self, owner: str, token: str) -> bool:
        """End a token; False if there is none. Can be repeated."""
        try:
            with (self._place(owner, token) / _REVOKED).open("wb") as file:
                os.fsync(file.fileno())
        except FileNotFoundError:
            return False
        return True

    def remove(self, owner: str, token: str) -> None:
        """Remove the files of a token that has ended."""
        shutil.rmtree(self._place(owner, token), ignore_errors=True)

    def _place(self, owner: str, token: str) -> Path:
        if NAME.fullmatch(owner) is None or NAME.fullmatch(token) is None:
            raise ValueError("not the name of a token")
        return self._folder / owner / token
