"""The parts of an upload in its file of parts: a line of fixed width for each. No I/O.

A request that sends a part writes its line at the beginning and at the end, at a place of its own, so that requests of
several gateways need no lock.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, replace
from typing import Final

SIZE: Final = 52  # bytes of a line

_LINE: Final = re.compile(rb"([wxd])([ +])([0-9a-f]{16}) ([0-9a-f]{32})\n")
_NO_SUM: Final = "0" * 32


@dataclass(frozen=True, slots=True)
class Slot:
    """What is known of one part.

    `shared` is True if another request may have written to the part while this one did: then what is in the file need
    not be what this one has sent.
    """

    request: str  # random; of the request that has sent the part last
    state: str = "w"  # w: it is being written; x: the request has failed, and writes no more; d: done
    shared: bool = False
    md5: str = _NO_SUM

    @classmethod
    def begin(cls, before: Slot | None, *, stopped: bool) -> Slot:
        """The line of a new request. `stopped`: the request of `before` is known to write no more."""
        unknown = before is not None and (before.shared or (before.state == "w" and not stopped))
        return cls(secrets.token_hex(8), shared=unknown)

    def done(self, md5: str) -> Slot:
        """The line of a part that is in the file."""
        return replace(self, state="d", md5=md5)

    def failed(self) -> Slot:
        """The line of a part that has to be sent again."""
        return replace(self, state="x")

    @property
    def complete(self) -> bool:
        return self.state == "d"

    def packed(self) -> bytes:
        """The line."""
        return f"{self.state}{'+' if self.shared else ' '}{self.request} {self.md5}\n".encode()

    @classmethod
    def parse(cls, line: bytes) -> Slot | None:
        """Parse a line; None if nothing was written there, or if it is damaged."""
        found = _LINE.fullmatch(line)
        if found is None:
            return None
        state, shared, request, md5 = (group.decode() for group in found.groups())
        return cls(request, state, shared == "+", md5)


EMPTY: Final = Slot("0" * 16, "d", md5=hashlib.md5(b"", usedforsecurity=False).hexdigest())  # of an empty file


def place(number: int) -> int:
    """The offset of the line of a part, counted from 1."""
    return (number - 1) * SIZE


def parse_all(data: bytes, count: int) -> list[Slot | None]:
    """The lines of all parts."""
    return [Slot.parse(data[place(number) : place(number) + SIZE]) for number in range(1, count + 1)]
